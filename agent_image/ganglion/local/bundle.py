"""What one set of manifests says: objects, code, and the values that environment variables refer to. Travels to a running supervisor."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ganglion.api import Agent, Channel, NameServer, load_object
from ganglion.api.names import LABEL_CODE
from ganglion.planner import DomainView, NameServerAddress

Object = NameServer | Channel | Agent


@dataclass(frozen=True)
class ConfigMap:
    """A ConfigMap of the manifests.

    Attributes:
        name: its name, without a hash suffix.
        files: key → content.
        labels: its labels.
        folder: absolute folder whose files these are, when they can be used in place; None: written out before use.
    """

    name: str
    files: Mapping[str, bytes]
    labels: Mapping[str, str] = field(default_factory=dict)
    folder: str | None = None

    @property
    def is_code(self) -> bool:
        """Whether an edit rolls the agents that use it."""
        return LABEL_CODE in self.labels

    @property
    def digest(self) -> str:
        """Hash of names and contents."""
        state = hashlib.sha256()
        for key, content in sorted(self.files.items()):
            state.update(f"{len(key.encode())}:{key}{len(content)}:".encode() + content)
        return state.hexdigest()[:32]

    def write(self, folder: Path) -> None:
        """Write the files into `folder`, which is created."""
        folder.mkdir(parents=True, exist_ok=True)
        for key, content in self.files.items():
            (folder / key).write_bytes(content)


@dataclass
class Bundle:
    """Objects by name, and where each was found."""

    name_servers: dict[str, NameServer] = field(default_factory=dict)
    channels: dict[str, Channel] = field(default_factory=dict)
    agents: dict[str, Agent] = field(default_factory=dict)
    config_maps: dict[str, ConfigMap] = field(default_factory=dict)
    secrets: dict[str, dict[str, str]] = field(default_factory=dict)
    places: dict[str, str] = field(default_factory=dict)
    """`Kind/name` → `file:line`."""
    notes: list[str] = field(default_factory=list)
    """What was left out, for people."""

    def table(self, kind: str) -> dict[str, Any]:
        """Objects of one kind, by name."""
        tables: dict[str, dict[str, Any]] = {"NameServer": self.name_servers, "Channel": self.channels, "Agent": self.agents}
        return tables[kind]

    def add(self, item: Object) -> None:
        """Put an object in its table."""
        self.table(item.kind)[item.name] = item

    def view(self, addresses: Mapping[str, NameServerAddress]) -> DomainView:
        """What the planner may look at."""
        return DomainView(
            self.name_servers,
            self.channels,
            self.agents,
            addresses,
            {name: item.digest for name, item in self.config_maps.items() if item.is_code},
        )

    def merged(self, newer: Bundle) -> Bundle:
        """This bundle with the objects of `newer` put over it, as `kubectl apply` does: nothing is deleted."""
        return Bundle(
            {**self.name_servers, **newer.name_servers},
            {**self.channels, **newer.channels},
            {**self.agents, **newer.agents},
            {**self.config_maps, **newer.config_maps},
            {**self.secrets, **newer.secrets},
            {**self.places, **newer.places},
            newer.notes,
        )

    def to_json(self) -> dict[str, Any]:
        """JSON for the supervisor's socket."""
        items = [*self.name_servers.values(), *self.channels.values(), *self.agents.values()]
        return {
            "objects": [item.to_dict() for item in items],
            "configMaps": [
                {
                    "name": item.name,
                    "labels": dict(item.labels),
                    "folder": item.folder,
                    "files": {key: base64.b64encode(content).decode() for key, content in item.files.items()},
                }
                for item in self.config_maps.values()
            ],
            "secrets": self.secrets,
            "places": self.places,
        }

    @classmethod
    def from_json(cls, body: Mapping[str, Any]) -> Bundle:
        """Read what `to_json` wrote.

        Raises:
            ganglion.api.ManifestError: an object is not valid.
        """
        bundle = cls(secrets=dict(body["secrets"]), places=dict(body["places"]))
        for document in body["objects"]:
            bundle.add(load_object(document))
        for item in body["configMaps"]:
            files = {key: base64.b64decode(content) for key, content in item["files"].items()}
            bundle.config_maps[item["name"]] = ConfigMap(item["name"], files, item["labels"], item["folder"])
        return bundle
