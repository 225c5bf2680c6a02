"""Files, folders, kustomizations and stdin → a bundle, with every mistake in one go and the line where it is."""

from __future__ import annotations

import base64
import binascii
import json
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ganglion.api import GROUP, ManifestError, load_object
from ganglion.local import kustomize
from ganglion.local.bundle import Bundle, ConfigMap
from ganglion.local.documents import Document, YamlProblem, read_documents

SUFFIXES = (".yaml", ".yml", ".json")
_KINDS = ("NameServer", "Channel", "Agent")
MAX_CONFIG_MAP_BYTES = 1024 * 1024
"""Kubernetes' own bound of a ConfigMap's data."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One mistake.

    Attributes:
        place: `file:line`, or the file alone.
        text: object, field path, what was found and what to do.
    """

    place: str
    text: str

    def __str__(self) -> str:
        return f"{self.place}: {self.text}" if self.place else self.text


class ManifestsError(ValueError):
    """The manifests cannot be used; `faults` holds every mistake, one line each."""

    def __init__(self, faults: list[Fault]) -> None:
        super().__init__("\n".join(map(str, faults)))
        self.faults = faults


class _Reader:
    """Collects objects and mistakes from all sources."""

    def __init__(self) -> None:
        self.bundle = Bundle()
        self.faults: list[Fault] = []
        self._seen_folders: set[Path] = set()
        self._renamed: list[str] = []

    # ------------------------------------------------------------------ sources

    def source(self, name: str) -> None:
        if name == "-":
            self.text("stdin", sys.stdin.buffer.read())
            return
        path = Path(name)
        if path.is_dir():
            self.folder(path)
        elif path.name in kustomize.FILE_NAMES:
            self.kustomization(path)
        else:
            self.file(path)

    def folder(self, path: Path) -> None:
        found = kustomize.find(path)
        if found is not None:
            self.kustomization(found)
            return
        files = sorted(item for item in path.iterdir() if item.suffix in SUFFIXES and item.is_file())
        if not files:
            self.faults.append(Fault(str(path), f"no manifests; expected files that end in {', '.join(SUFFIXES)}"))
        for item in files:
            self.file(item)

    def file(self, path: Path) -> None:
        try:
            text = path.read_bytes()
        except OSError as error:
            self.faults.append(Fault(str(path), f"{error.strerror}; name a file, a folder or - for stdin"))
            return
        self.text(str(path), text)

    def text(self, name: str, text: bytes) -> None:
        try:
            for document in read_documents(text):
                self.document(name, document)
        except YamlProblem as problem:
            self.faults.append(Fault(f"{name}:{problem.line}" if problem.line else name, problem.message))

    def kustomization(self, path: Path) -> None:
        folder = path.parent.resolve()
        if folder in self._seen_folders:
            self.faults.append(Fault(str(path), "is read twice; name each kustomization once"))
            return
        self._seen_folders.add(folder)
        try:
            documents = list(read_documents(path.read_bytes()))
        except OSError as error:
            self.faults.append(Fault(str(path), f"{error.strerror}; make it readable"))
            return
        except YamlProblem as problem:
            self.faults.append(Fault(f"{path}:{problem.line}" if problem.line else str(path), problem.message))
            return
        if len(documents) != 1 or not isinstance(documents[0].value, dict):
            self.faults.append(Fault(str(path), "must hold one mapping with `resources` or `configMapGenerator`"))
            return
        document = documents[0]

        def refuse(field: str, text: str) -> None:
            self.faults.append(Fault(f"{path}:{document.line_of(field)}", f"{field}: {text}"))

        kustomize.check_fields(document.value, refuse)
        # `configurations` teach kustomize how to rename references; nothing is renamed here.
        for index, name in kustomize.text_list(document.value, "configurations", refuse):
            if not (path.parent / name).is_file():
                refuse(f"configurations[{index}]", f"found {name!r}; name a file that exists")
        for index, name in kustomize.text_list(document.value, "resources", refuse):
            target = path.parent / name
            if "://" in name or name.startswith("github.com/"):
                refuse(f"resources[{index}]", f"found {name!r}; remote resources are not read without a cluster: fetch them first")
            elif target.is_dir() and kustomize.find(target) is None:
                refuse(f"resources[{index}]", f"found the folder {name!r}; must hold a kustomization.yaml, or list its files")
            elif target.is_dir():
                self.folder(target)
            elif target.is_file():
                self.file(target)
            else:
                refuse(f"resources[{index}]", f"found {name!r}; name a file or folder that exists")
        for index, item in kustomize.config_maps(path.parent.resolve(), document.value, refuse):
            line = document.line_of(f"configMapGenerator[{index}]")
            self.config_map(item, f"{path}:{line}")
            if kustomize.renames(document.value, index):
                self._renamed.append(item.name)

    # ------------------------------------------------------------------ documents

    def document(self, name: str, document: Document) -> None:
        value = document.value
        place = f"{name}:{document.line}"
        if isinstance(value, dict) and value.get("kind") == "List" and value.get("apiVersion") == "v1":
            items = value.get("items")
            for item in items if isinstance(items, list) else ():
                self.object(place, item, None, name)
            return
        self.object(place, value, document, name)

    def object(self, place: str, value: Any, document: Document | None, name: str) -> None:
        kind = value.get("kind") if isinstance(value, dict) else None
        group = str(value.get("apiVersion")).partition("/")[0] if isinstance(value, dict) else ""
        if kind in ("ConfigMap", "Secret") and isinstance(value, dict) and value.get("apiVersion") == "v1":
            self.core(kind, place, value)
            return
        if isinstance(kind, str) and kind not in _KINDS and group not in ("None", "", GROUP) and "apiVersion" in value:
            metadata = value.get("metadata")
            label = metadata.get("name") if isinstance(metadata, dict) else None
            self.bundle.notes.append(f"{place}: {kind}/{label} is left out: only NameServer, Channel, Agent, ConfigMap and Secret run here")
            return
        try:
            item = load_object(value)
        except ManifestError as error:
            for problem in error.problems:
                line = document.line_of(problem.field) if document is not None else 0
                self.faults.append(Fault(f"{name}:{line}" if line else place, str(problem)))
            return
        label = f"{item.kind}/{item.name}"
        if label in self.bundle.places:
            self.faults.append(Fault(place, f"{label}: is defined twice (first at {self.bundle.places[label]}); keep one"))
            return
        self.bundle.places[label] = place
        self.bundle.add(item)

    def core(self, kind: str, place: str, value: Mapping[str, Any]) -> None:
        metadata = value.get("metadata")
        name = metadata.get("name") if isinstance(metadata, Mapping) else None
        if not isinstance(metadata, Mapping) or not isinstance(name, str) or not name:
            self.faults.append(Fault(place, f"{kind}: metadata.name: required field is missing"))
            return
        data = self._texts(place, f"{kind}/{name}", value, "stringData" if kind == "Secret" else "data")
        binary = self._texts(place, f"{kind}/{name}", value, "data" if kind == "Secret" else "binaryData")
        files = {key: text.encode() for key, text in data.items()}
        for key, text in binary.items():
            try:
                files[key] = base64.b64decode(text, validate=True)
            except binascii.Error:
                self.faults.append(Fault(place, f"{kind}/{name}: {key}: must be base64"))
        if kind == "Secret":
            self.bundle.secrets[name] = {key: content.decode(errors="replace") for key, content in files.items()}
            return
        labels = metadata.get("labels") or {}
        self.config_map(ConfigMap(name, files, dict(labels) if isinstance(labels, Mapping) else {}), place)

    def note_renamed_code(self) -> None:
        """What runs here and not in a cluster: code whose ConfigMap gets a name there that its Agents do not know."""
        used = {
            item.spec.code.config_map_ref.name for item in self.bundle.agents.values() if item.spec.code and item.spec.code.config_map_ref
        }
        for name in self._renamed:
            if name in used:
                self.bundle.notes.append(
                    f"{self.bundle.places[f'ConfigMap/{name}']}: in a cluster kustomize adds a hash to the name {name}, which its Agents do not learn; add"
                    " kustomizeconfig.yaml of the examples under `configurations`, or set options.disableNameSuffixHash"
                )

    def _texts(self, place: str, label: str, value: Mapping[str, Any], field: str) -> dict[str, str]:
        content = value.get(field) or {}
        if not isinstance(content, Mapping):
            self.faults.append(Fault(place, f"{label}: {field}: must be a mapping of texts"))
            return {}
        texts = {}
        for key, text in content.items():
            if isinstance(text, str):
                texts[str(key)] = text
            else:
                self.faults.append(Fault(place, f"{label}: {field}.{key}: found {json.dumps(text)[:80]}; must be text: put it in quotes"))
        return texts

    def config_map(self, item: ConfigMap, place: str) -> None:
        label = f"ConfigMap/{item.name}"
        if label in self.bundle.places:
            self.faults.append(Fault(place, f"{label}: is defined twice (first at {self.bundle.places[label]}); keep one"))
            return
        for key in item.files:
            # A key becomes a file name: kubectl's rule, which also keeps `../` out.
            if not key.replace("-", "a").replace("_", "a").replace(".", "a").isalnum() or key in (".", "..") or not key.isascii():
                self.faults.append(Fault(place, f"{label}: key {key!r}: must hold only letters, digits, dashes, dots and underscores"))
                return
        size = sum(len(content) for content in item.files.values())
        if size > MAX_CONFIG_MAP_BYTES:
            self.faults.append(Fault(place, f"{label}: found {size} bytes; must have at most {MAX_CONFIG_MAP_BYTES}"))
        self.bundle.places[label] = place
        self.bundle.config_maps[item.name] = item


def load(sources: Iterable[str]) -> Bundle:
    """Read manifests.

    Args:
        sources: files, folders (with or without a kustomization), or `-` for stdin.
    Raises:
        ManifestsError: with every mistake found; nothing refers to other objects yet (see `ganglion.local.check`).
    """
    reader = _Reader()
    for source in sources:
        reader.source(source)
    if reader.faults:
        raise ManifestsError(reader.faults)
    if not reader.bundle.places:
        raise ManifestsError([Fault(", ".join(sources), "no objects; expected a NameServer, Channels and Agents")])
    reader.note_renamed_code()
    return reader.bundle
