"""What the API server does with the JSON of an object before it judges it: nulls, whole numbers, keys of lists. Pure."""

from __future__ import annotations

import difflib
import sys
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

MAX_DEPTH = 64
"""Levels of nesting that a free-form value may have. Schemas cannot bound it (API servers take 10,000), and Python's JSON readers end at about 1,000."""


DEEP_JSON_FRAMES = 60_000
"""Six for each of the 10,000 levels that API servers take: decoders use one, copies and comparisons a few."""


def allow_deep_json() -> None:
    """Let this process read whatever an API server stores. Call it once, before anything is read.

    A watch that cannot read one object ends, and its process with it: one deep object would stop everybody's.
    """
    sys.setrecursionlimit(max(sys.getrecursionlimit(), DEEP_JSON_FRAMES))


def too_deep(value: Any, limit: int = MAX_DEPTH) -> bool:
    """Whether `value` nests deeper than `limit` levels; never recurses."""
    stack = [(value, 0)]
    while stack:
        node, depth = stack.pop()
        if depth > limit:
            return True
        if isinstance(node, Mapping):
            stack.extend((child, depth + 1) for child in node.values())
        elif isinstance(node, list | tuple):
            stack.extend((child, depth + 1) for child in node)
    return False


def unknown_field(found: str, known: Iterable[str]) -> str:
    """Message about a field that there is not, with the one that was probably meant."""
    by_lower = {name.lower().replace("_", "").replace("-", ""): name for name in sorted(known)}
    meant = difflib.get_close_matches(found[:64].lower().replace("_", "").replace("-", ""), by_lower, n=1, cutoff=0.7)
    if meant:
        return f"unknown field; did you mean {by_lower[meant[0]]}?"
    return "unknown field; see `kubectl explain` or docs/reference for the fields there are"


def _child(schema: Mapping[str, Any], name: str) -> Mapping[str, Any] | None:
    found = schema.get("properties", {}).get(name, schema.get("additionalProperties"))
    return found if isinstance(found, Mapping) else None


def _free(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _free(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_free(item) for item in value]
    return float(value) if isinstance(value, int) and not -(2**63) <= value < 2**63 else value


def as_stored(value: Any, schema: Mapping[str, Any]) -> Any:
    """`value` as the API server reads it: nulls in objects are absent, 2.0 in an integer field is 2 (YAML to JSON writes it so), and a
    whole number that 64 bits cannot hold becomes a float.

    Args:
        value: JSON value, not deeper than `MAX_DEPTH`.
        schema: its structural schema.
    """
    if isinstance(value, dict):
        if schema.get("x-kubernetes-preserve-unknown-fields"):
            return {name: _free(item) for name, item in value.items()}
        out = {}
        for name, item in value.items():
            child = _child(schema, name) if isinstance(name, str) else None
            if child is None:
                out[name] = item  # unknown: reported by the strict check
            elif item is not None:
                out[name] = as_stored(item, child)
        return out
    if isinstance(value, list) and isinstance(schema.get("items"), Mapping):
        return [as_stored(item, schema["items"]) for item in value]
    whole = schema.get("type") == "integer" or schema.get("x-kubernetes-int-or-string")
    return int(value) if whole and isinstance(value, float) and value.is_integer() else value


def duplicates(value: Any, schema: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, str]]:
    """(field path, message) of each item that repeats the key of an earlier one, in lists that are maps or sets.

    Args:
        value: JSON value; where it does not fit the schema it is passed over.
        schema: its structural schema.
        path: field path of `value`.
    """
    if isinstance(value, dict):
        for name, item in value.items():
            child = _child(schema, name)
            if child is not None:
                yield from duplicates(item, child, f"{path}.{name}" if path else name)
    elif isinstance(value, list):
        kind, keys = schema.get("x-kubernetes-list-type"), schema.get("x-kubernetes-list-map-keys", ())
        seen: list[Any] = []
        for index, item in enumerate(value):
            here = f"{path}[{index}]"
            if kind == "set" or (kind == "map" and isinstance(item, dict)):
                key = [item.get(name) for name in keys] if kind == "map" else item
                if key in seen:
                    what = f"{keys[0]} {key[0]!r}" if kind == "map" else f"{key!r}"
                    yield here, f"found {what} twice; each must be unique"
                seen.append(key)
            yield from duplicates(item, schema.get("items", {}), here)
