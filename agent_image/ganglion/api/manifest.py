"""Manifest → object, with the verdict that the API server would give: one clear line for each mistake."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from ganglion.api.agent import TARGET_PATTERN, Agent
from ganglion.api.base import API_VERSION, GROUP, NAME_PATTERN
from ganglion.api.channel import Channel
from ganglion.api.crd import openapi_schema
from ganglion.api.metadata import metadata_problems
from ganglion.api.nameserver import NameServer
from ganglion.api.rules import violations
from ganglion.api.structure import MAX_DEPTH, as_stored, duplicates, too_deep, unknown_field

_MODELS: dict[str, type[NameServer | Channel | Agent]] = {"NameServer": NameServer, "Channel": Channel, "Agent": Agent}
MAX_OBJECT_BYTES = 1_500_000
"""etcd refuses requests above 1.5 MiB; an object that cannot live in a cluster is refused on a laptop, too."""
_LARGEST = int(sys.float_info.max)
_IN_WORDS = {
    TARGET_PATTERN: "must be module:Class or module:function",
    NAME_PATTERN: "must be a DNS label: lower-case letters, digits and dashes, starting with a letter and not ending with a dash",
}
"""Patterns that beginners run into."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One mistake in one object."""

    object: str
    """`Kind/name`."""
    field: str
    """Field path as kubectl prints it, e.g. `spec.channels[0].role`."""
    message: str
    """What was found and what to do."""

    def __str__(self) -> str:
        return f"{self.object}: {self.field}: {self.message}" if self.field else f"{self.object}: {self.message}"


class ManifestError(ValueError):
    """A manifest has mistakes; `problems` holds all of them."""

    def __init__(self, problems: list[Problem]) -> None:
        super().__init__("\n".join(map(str, problems)))
        self.problems = problems


def _path(location: tuple[int | str, ...]) -> str:
    if location[-1:] == ("[key]",):
        location = location[:-2]  # a bad key is a mistake of the mapping
    out = ""
    for part in location:
        if isinstance(part, int):
            out += f"[{part}]"
        else:
            out += f".{part}" if out else part
    return out


def _shown(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 80 else text[:77] + "..."


def _fields(schema: Mapping[str, Any], location: Iterable[int | str]) -> list[str]:
    """Names of the fields beside the one at `location`."""
    *parents, _ = location
    for part in parents:
        found = schema.get("items") if isinstance(part, int) else schema.get("properties", {}).get(part, schema.get("additionalProperties"))
        schema = found if isinstance(found, Mapping) else {}
    return sorted(schema.get("properties", ()))


def _describe(error: Mapping[str, Any], schema: Mapping[str, Any]) -> str:
    kind, found, context = error["type"], error.get("input"), error.get("ctx", {})
    match kind:
        case "missing":
            return "required field is missing"
        case "extra_forbidden":
            return unknown_field(str(error["loc"][-1]), _fields(schema, error["loc"]))
        case "literal_error":
            return f"found {_shown(found)}; must be one of {str(context['expected']).replace(' or ', ', ')}"
        case "string_pattern_mismatch":
            pattern = context["pattern"]
            return f"found {_shown(found)}; {_IN_WORDS.get(pattern) or f'must match {pattern}'}"
        case "string_too_long":
            return f"found {len(found) if isinstance(found, str) else _shown(found)} characters; must have at most {context['max_length']}"
        case "string_too_short":
            return f"found {_shown(found)}; must have at least {context['min_length']} characters"
        case "too_long":
            return f"found {context.get('actual_length', 'more')} items; must have at most {context['max_length']}"
        case "too_short":
            return f"found {context.get('actual_length', 0)} items; must have at least {context['min_length']}"
        case "greater_than_equal":
            return f"found {_shown(found)}; must be at least {context['ge']}"
        case "less_than_equal":
            return f"found {_shown(found)}; must be at most {context['le']}"
        case _:
            return f"found {_shown(found)}; {error['msg'][0].lower()}{error['msg'][1:]}"


def _envelope(document: Any) -> tuple[str, str, list[Problem]]:
    if not isinstance(document, dict):
        return "", "", [Problem("manifest", "", f"found {_shown(document)}; must be a mapping with apiVersion, kind, metadata and spec")]
    kind = document.get("kind")
    metadata = document.get("metadata")
    name = metadata.get("name") if isinstance(metadata, dict) else None
    label = f"{kind}/{name}" if isinstance(name, str) else f"{kind}"
    problems = []
    if document.get("apiVersion") != API_VERSION:
        problems.append(Problem(label, "apiVersion", f"found {_shown(document.get('apiVersion'))}; must be {API_VERSION}"))
    if not isinstance(kind, str) or kind not in _MODELS:
        problems.append(Problem(label, "kind", f"found {_shown(kind)}; must be one of {', '.join(_MODELS)} ({GROUP})"))
    if not isinstance(name, str) or not name:
        problems.append(Problem(label, "metadata.name", "required field is missing"))
    return (kind if isinstance(kind, str) else ""), label, problems


def _free_form(kind: str, spec: Any) -> Iterator[tuple[str, Any]]:
    """(field path, value) of the fields that take any JSON."""
    if kind == "Agent" and isinstance(spec, dict):
        yield "spec.attributes", spec.get("attributes")
        yield "spec.affinity", spec.get("affinity")


def _unreal(value: Any, path: str = "") -> tuple[str, str] | None:
    """(field path, what is wrong) of the first number that no float holds: an API server refuses it, too."""
    if isinstance(value, float) and not math.isfinite(value):
        return path, f"found {value}; must be a finite number, or text in quotes"
    if isinstance(value, int) and abs(value) > _LARGEST:
        return path, "found a whole number of more than 308 digits; must be smaller, or text in quotes"
    inner: Iterable[tuple[str, Any]] = ()
    if isinstance(value, dict):
        inner = ((f"{path}.{key}" if path else str(key), item) for key, item in value.items())
    elif isinstance(value, list):
        inner = ((f"{path}[{number}]", item) for number, item in enumerate(value))
    return next((found for name, item in inner if (found := _unreal(item, name)) is not None), None)


def load_object(document: Any) -> NameServer | Channel | Agent:
    """Check one manifest strictly and return the object.

    Args:
        document: the parsed YAML or JSON document.
    Raises:
        ManifestError: with every mistake found (structure first; rules between fields once the structure holds).
    """
    kind, label, problems = _envelope(document)
    if problems:
        raise ManifestError(problems)
    if too_deep(document):
        field = next((path for path, value in _free_form(kind, document.get("spec")) if too_deep(value)), "")
        raise ManifestError([Problem(label, field, f"nested deeper than {MAX_DEPTH} levels; flatten it")])
    if (unreal := _unreal(document)) is not None:
        raise ManifestError([Problem(label, *unreal)])
    try:
        text = json.dumps(document, allow_nan=False, ensure_ascii=False).encode()
    except (TypeError, ValueError) as error:
        raise ManifestError([Problem(label, "", f"cannot be written as JSON: {error}")]) from error
    if len(text) > MAX_OBJECT_BYTES:
        raise ManifestError([Problem(label, "", f"found {len(text)} bytes; must have at most {MAX_OBJECT_BYTES}")])
    problems = [Problem(label, *found) for found in metadata_problems(document["metadata"])]
    schema = openapi_schema(kind)
    checked = as_stored({key: value for key, value in document.items() if key not in ("status", "metadata")}, schema)
    kept = ("name", "namespace", "uid", "generation", "labels", "annotations")
    if not problems:
        metadata = {key: document["metadata"][key] for key in kept if document["metadata"].get(key) is not None}
        for field in ("labels", "annotations"):
            metadata[field] = {key: value or "" for key, value in metadata.get(field, {}).items()}
    else:
        metadata = {"name": "unnamed"}  # its mistakes are known already
    try:
        parsed = _MODELS[kind].model_validate_json(json.dumps({**checked, "metadata": metadata}), strict=True, extra="forbid")
    except ValidationError as error:
        problems += [Problem(label, _path(item["loc"]), _describe(item, schema)) for item in error.errors()]
        problems += [Problem(label, *found) for found in duplicates(checked, schema)]
        raise ManifestError(problems) from error
    problems += [Problem(label, *found) for found in duplicates(checked, schema)]
    problems += [Problem(label, *found) for found in violations(kind, parsed.to_dict())]
    if problems:
        raise ManifestError(problems)
    return parsed
