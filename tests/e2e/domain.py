"""A domain on the cluster: its manifests, what kubectl says of it, and what it printed."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Mapping
from typing import Any

from tests.support.cluster import KindCluster
from tests.support.wait import wait_for

API = "ganglion.dev/v1alpha1"


def name_server(name: str, **spec: Any) -> dict[str, Any]:
    """A NameServer's manifest."""
    return {"apiVersion": API, "kind": "NameServer", "metadata": {"name": name}, "spec": spec}


def channel(name: str, server: str, pattern: str, **spec: Any) -> dict[str, Any]:
    """A Channel's manifest."""
    return {
        "apiVersion": API,
        "kind": "Channel",
        "metadata": {"name": name},
        "spec": {"nameServerRef": {"name": server}, "pattern": pattern, **spec},
    }


def agent(name: str, server: str, channels: list[dict[str, Any]], **spec: Any) -> dict[str, Any]:
    """An Agent's manifest. `class_` stands for `class`; `code` may be the text of a module `agents`."""
    if "class_" in spec:
        spec["class"] = spec.pop("class_")
    if isinstance(spec.get("code"), str):
        spec["code"] = {"inline": {"agents.py": textwrap.dedent(spec["code"])}}
    return {
        "apiVersion": API,
        "kind": "Agent",
        "metadata": {"name": name},
        "spec": {"nameServerRef": {"name": server}, "channels": channels, **spec},
    }


def link(alias: str, channel: str, role: str, **other: Any) -> dict[str, Any]:
    """An entry of an Agent's `channels`."""
    return {"alias": alias, "channelRef": {"name": channel}, "role": role, **other}


class Domain:
    """What is in one namespace, mostly one NameServer and its agents."""

    def __init__(self, kind: KindCluster, namespace: str) -> None:
        self.kind = kind
        self.namespace = namespace

    def kubectl(self, *arguments: str, timeout: float = 120.0) -> str:
        """kubectl in the namespace."""
        return self.kind.kubectl("-n", self.namespace, *arguments, timeout=timeout)

    def create(self, *objects: Mapping[str, Any]) -> None:
        """Apply manifests."""
        self.kind.apply(self.namespace, *objects)

    def get(self, *arguments: str) -> dict[str, Any]:
        """`kubectl get … -o json`, decoded."""
        return self.kind.get("-n", self.namespace, *arguments)

    def condition(self, kind: str, name: str, condition: str) -> dict[str, Any]:
        """One condition of an object; empty when it is not there yet."""
        for found in self.get(kind, name).get("status", {}).get("conditions", []):
            if found["type"] == condition:
                return dict(found)
        return {}

    def columns(self) -> dict[str, dict[str, str]]:
        """What `kubectl get zns,zch,zag` shows: name, with the kind before it when there are several → column → text, empty where it shows nothing."""
        found: dict[str, dict[str, str]] = {}
        for table in self.kubectl("get", "zns,zch,zag").split("\n\n"):
            header, *lines = table.strip("\n").splitlines()
            starts = [match.start() for match in re.finditer(r"\S+", header)]
            for line in lines:
                cells = [line[start:end].strip() for start, end in zip(starts, [*starts[1:], None], strict=True)]
                found[cells[0]] = dict(zip(header.split()[1:], cells[1:], strict=True))
        return found

    def accepted(self, channel: str = "tasks") -> int:
        """Messages accepted on a channel so far, as the Channel's status tells."""
        return int(self.get("channels.ganglion.dev", channel).get("status", {}).get("accepted", 0))

    def pods(self, agent: str, *, ready: bool = False) -> list[dict[str, Any]]:
        """Pods of an agent."""
        found: list[dict[str, Any]] = self.get("pods", "-l", f"ganglion.dev/agent={agent}")["items"]
        if not ready:
            return found
        return [p for p in found if any(c["type"] == "Ready" and c["status"] == "True" for c in p.get("status", {}).get("conditions", []))]

    def wait_ready(self, *agents: str, timeout: float = 180.0) -> None:
        """Wait until these agents are Ready; one that fails shows everything."""

        def unready() -> list[str]:
            found = {item["metadata"]["name"]: item.get("status", {}).get("conditions", []) for item in self.get("zag")["items"]}
            return [
                name
                for name in agents
                if not any(c["type"] == "Ready" and c["status"] == "True" for c in found.get(name, [])) or not self.pods(name, ready=True)
            ]

        try:
            wait_for(lambda: not unready(), timeout=timeout, interval=1.0, what=f"{', '.join(agents)} to be ready")
        except TimeoutError as error:
            error.add_note(self.diagnosis())
            raise

    def wait_replicas(self, agent: str, count: int, timeout: float = 180.0) -> None:
        """Wait until an agent has so many ready pods."""
        try:
            wait_for(lambda: len(self.pods(agent, ready=True)) == count, timeout=timeout, interval=0.5, what=f"{count} replicas of {agent}")
        except TimeoutError as error:
            error.add_note(self.diagnosis())
            raise

    def log(self, agent: str) -> str:
        """What the containers of an agent's programs printed, all replicas, as far as their pods are still there."""
        return self.kind.api.log(self.namespace, f"ganglion.dev/agent={agent}", "agent")

    def diagnosis(self) -> str:
        """State of everything, for a failing test."""
        return "\n".join(
            self.kubectl(*words)
            for words in (
                ("get", "zns,zch,zag,pods,sts,jobs", "-o", "wide"),
                ("get", "events", "--sort-by", ".lastTimestamp"),
                ("logs", "-l", "ganglion.dev/nameserver", "--all-containers", "--prefix", "--tail", "20", "--ignore-errors"),
            )
        )
