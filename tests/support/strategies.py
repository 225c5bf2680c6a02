"""Hypothesis strategies of manifests: from the CRDs' own schemas, whole or with a few things broken."""

from __future__ import annotations

import copy
import functools
import re
from collections.abc import Iterator, Mapping
from typing import Any

from hypothesis import strategies as st

from ganglion.api.base import ALIAS_PATTERN, NAME_PATTERN
from ganglion.api.crd import openapi_schema

NAMES = st.sampled_from(["demo", "tasks", "results", "letters"])
"""Few, so that references meet their targets."""
_TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=12)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False, allow_infinity=False) | _TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_TEXT, inner, max_size=3),
    max_leaves=6,
)
GARBAGE = st.one_of(
    st.none(),
    st.booleans(),
    st.sampled_from(
        [0, -1, 1.5, 10**30, "", " ", "x" * 70, "ß", "A", "a/b", "..", [], {}, [None], {"": 1}, "\n", "0", "-", "tasks", "demo\n"]
    ),
    JSON,
)


def _text(schema: Mapping[str, Any]) -> st.SearchStrategy[str]:
    pattern, low, high = schema.get("pattern"), schema.get("minLength", 0), schema.get("maxLength", 64)
    if pattern == NAME_PATTERN:
        return NAMES
    if pattern == ALIAS_PATTERN:
        return st.sampled_from(["tasks", "results", "in", "out", "news"])
    if pattern is None:
        return st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=low, max_size=min(high, 20))
    return st.from_regex(re.compile(pattern), fullmatch=True).filter(lambda text: low <= len(text) <= high)


def values(schema: Mapping[str, Any]) -> st.SearchStrategy[Any]:
    """JSON values that a structural schema allows (rules between fields are not obeyed)."""
    if "enum" in schema:
        return st.sampled_from(schema["enum"])
    if schema.get("x-kubernetes-int-or-string"):
        return st.integers(0, 100) | st.sampled_from(["500m", "64Mi", "1e3", "1.5", "2"])
    match schema.get("type"):
        case "integer":
            low = schema.get("minimum", -1000)
            return st.integers(low, min(schema.get("maximum", 1000), low + 1000)) | st.just(schema.get("maximum", 1000))
        case "boolean":
            return st.booleans()
        case "string":
            return _text(schema)
        case "array":
            unique = schema.get("x-kubernetes-list-type") in ("map", "set")
            key = schema.get("x-kubernetes-list-map-keys", [None])[0]
            return st.lists(
                values(schema["items"]),
                min_size=schema.get("minItems", 0),
                max_size=min(3, schema.get("maxItems", 3)),
                unique_by=(lambda item: item.get(key) if key else item) if unique else None,
            )
    if schema.get("x-kubernetes-preserve-unknown-fields"):
        return st.dictionaries(_TEXT, JSON, max_size=3)
    if "additionalProperties" in schema:
        keys = st.sampled_from(["cpu", "memory", "a.py", "example.com/x"])
        return st.dictionaries(keys, values(schema["additionalProperties"]), min_size=schema.get("minProperties", 0), max_size=3)
    properties, required = schema.get("properties", {}), schema.get("required", ())
    return _objects(
        {name: values(child) for name, child in properties.items() if name in required},
        {name: values(child) for name, child in properties.items() if name not in required},
    )


@st.composite
def _objects(draw: st.DrawFn, required: dict[str, st.SearchStrategy[Any]], optional: dict[str, st.SearchStrategy[Any]]) -> dict[str, Any]:
    """An object with its required fields and a few of the others: small manifests say more per second than full ones."""
    chosen = draw(st.lists(st.sampled_from(sorted(optional)), max_size=5, unique=True)) if optional else []
    return {**{name: draw(child) for name, child in required.items()}, **{name: draw(optional[name]) for name in chosen}}


@functools.cache
def _spec(kind: str) -> st.SearchStrategy[Any]:
    return values(openapi_schema(kind)["properties"]["spec"])


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    """(container, key) of everything inside `value`."""
    if isinstance(value, dict | list):
        for key in list(value) if isinstance(value, dict) else range(len(value)):
            yield value, key
            yield from _places(value[key])


@st.composite
def specs(draw: st.DrawFn, kind: str) -> dict[str, Any]:
    """A spec of one kind; Agents mostly have a class, so that rules between fields pass often enough."""
    spec: dict[str, Any] = draw(_spec(kind))
    if kind == "Agent":
        for name in draw(
            st.sampled_from([("container",), ("container", "volumeMounts", "extraContainers"), ("class", "code", "timers"), ()])
        ):
            spec.pop(name, None)
        if "container" not in spec:
            spec.setdefault("class", "workers:Worker")
    return spec


@st.composite
def manifests(draw: st.DrawFn, kind: str, *, faults: int = 2) -> dict[str, Any]:
    """A manifest with up to `faults` places replaced, removed or added."""
    body: dict[str, Any] = {
        "apiVersion": "ganglion.dev/v1alpha1",
        "kind": kind,
        "metadata": {"name": draw(NAMES)},
        "spec": copy.deepcopy(draw(specs(kind))),
    }
    for _ in range(draw(st.integers(0, faults))):
        places = list(_places(body["spec"]))
        if not places:
            break
        holder, key = draw(st.sampled_from(places))
        match draw(st.sampled_from(["replace", "remove", "add"])):
            case "remove" if isinstance(holder, dict):
                holder.pop(key, None)
            case "add" if isinstance(holder, dict):
                holder[draw(st.sampled_from(["unknown", "Name", "", "a b"]))] = copy.deepcopy(draw(GARBAGE))
            case "add":
                holder.append(copy.deepcopy(draw(GARBAGE)))
            case _:
                holder[key] = copy.deepcopy(draw(GARBAGE))
    return body
