"""The part of a kustomization that runs without a cluster: resources and generated ConfigMaps. Other fields are refused by name."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from ganglion.local.bundle import ConfigMap

FILE_NAMES = ("kustomization.yaml", "kustomization.yml", "Kustomization")
FIELDS = {"apiVersion", "kind", "resources", "configMapGenerator", "configurations", "generatorOptions"}
_GENERATOR = {"name", "files", "literals", "options"}
_OPTIONS = {"labels", "annotations", "disableNameSuffixHash"}

Refuse = Callable[[str, str], None]
"""`refuse(field path, what was found and what to do)`."""


def find(folder: Path) -> Path | None:
    """The kustomization of a folder, if it has one."""
    return next((folder / name for name in FILE_NAMES if (folder / name).is_file()), None)


def check_fields(content: Mapping[str, Any], refuse: Refuse) -> None:
    """Refuse what only a cluster can be given."""
    for field in content:
        if field not in FIELDS:
            known = ", ".join(sorted(FIELDS - {"apiVersion", "kind"}))
            refuse(
                str(field), f"not supported without a cluster; use only {known}, or render first: kubectl kustomize DIR | ganglion up -f -"
            )
    options = content.get("generatorOptions")
    if options is None:
        return
    if not isinstance(options, Mapping):
        refuse("generatorOptions", "must be a mapping")
        return
    for field in options:
        if field != "disableNameSuffixHash":
            refuse(f"generatorOptions.{field}", "not supported without a cluster; set it in the generator's own options")


def text_list(content: Mapping[str, Any], field: str, refuse: Refuse, prefix: str = "") -> Iterator[tuple[int, str]]:
    """(index, text) of a list of texts; anything else is refused."""
    items = content.get(field)
    if items is None:
        return
    if not isinstance(items, list):
        refuse(prefix + field, "must be a list of texts")
        return
    for index, item in enumerate(items):
        if isinstance(item, str) and item:
            yield index, item
        else:
            refuse(f"{prefix}{field}[{index}]", f"found {item!r}; must be text that is not empty")


def inside(folder: Path, name: str) -> Path | None:
    """The path of `name` below `folder`; None when it leads out, as kustomize's load restrictor has it."""
    path = (folder / name).resolve()
    return path if path.is_relative_to(folder.resolve()) else None


def _files(folder: Path, entry: Mapping[str, Any], refuse: Refuse, prefix: str) -> tuple[dict[str, bytes], set[Path | None]]:
    """Contents by key, and the folders whose files could be used in place (None for what could not)."""
    files: dict[str, bytes] = {}
    folders: set[Path | None] = set()
    for index, item in text_list(entry, "files", refuse, prefix):
        field = f"{prefix}files[{index}]"
        key, equals, name = item.partition("=")
        if not equals:
            key, name = "", item
        path = inside(folder, name)
        if path is None:
            refuse(field, f"found {name!r}; must lie below {folder}")
            continue
        key = key or path.name
        if key in files:
            refuse(field, f"key {key!r} is given twice; keep one")
            continue
        try:
            files[key] = path.read_bytes()
        except OSError as error:
            refuse(field, f"found {name!r}: {error.strerror}; name a file that exists")
            continue
        folders.add(path.parent if path.name == key else None)
    for index, item in text_list(entry, "literals", refuse, prefix):
        key, equals, value = item.partition("=")
        if not equals or not key:
            refuse(f"{prefix}literals[{index}]", f"found {item!r}; must be key=value")
            continue
        files[key] = value.encode()
        folders.add(None)
    return files, folders


def config_maps(folder: Path, content: Mapping[str, Any], refuse: Refuse) -> Iterator[tuple[int, ConfigMap]]:
    """(index, ConfigMap) of each generator."""
    generators = content.get("configMapGenerator")
    if generators is None:
        return
    if not isinstance(generators, list):
        refuse("configMapGenerator", "must be a list")
        return
    for index, entry in enumerate(generators):
        prefix = f"configMapGenerator[{index}]."
        if not isinstance(entry, Mapping) or not isinstance(entry.get("name"), str) or not entry["name"]:
            refuse(prefix + "name", "required field is missing")
            continue
        for field in entry:
            if field not in _GENERATOR:
                refuse(prefix + str(field), f"not supported without a cluster; use only {', '.join(sorted(_GENERATOR))}")
        options = entry.get("options") or {}
        if not isinstance(options, Mapping):
            refuse(prefix + "options", "must be a mapping")
            continue
        for field in options:
            if field not in _OPTIONS:
                refuse(f"{prefix}options.{field}", f"not supported without a cluster; use only {', '.join(sorted(_OPTIONS))}")
        labels = options.get("labels") or {}
        if not isinstance(labels, Mapping):
            refuse(prefix + "options.labels", "must be a mapping")
            continue
        files, folders = _files(folder, entry, refuse, prefix)
        place = next(iter(folders)) if len(folders) == 1 else None
        yield index, ConfigMap(entry["name"], files, dict(labels), str(place) if place is not None else None)


def renames(content: Mapping[str, Any], index: int) -> bool:
    """Whether kustomize adds a hash to the name of the ConfigMap of generator `index`, and leaves the Agents that refer to it as they are."""
    options = ((content["configMapGenerator"][index].get("options") or {}), content.get("generatorOptions") or {})
    return not content.get("configurations") and not any(
        isinstance(item, Mapping) and item.get("disableNameSuffixHash") for item in options
    )
