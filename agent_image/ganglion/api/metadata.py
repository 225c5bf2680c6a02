"""Checks of ObjectMeta, as the API server makes them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from ganglion.api.base import LABEL_VALUE_PATTERN, MAX_NAME, NAME_PATTERN, QUALIFIED_NAME
from ganglion.api.structure import unknown_field

_FIELDS = frozenset(
    (
        "name",
        "generateName",
        "namespace",
        "selfLink",
        "uid",
        "resourceVersion",
        "generation",
        "creationTimestamp",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
        "labels",
        "annotations",
        "ownerReferences",
        "finalizers",
        "managedFields",
    )
)
_NAMESPACE = r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?"
MAX_ANNOTATION_BYTES = 262144
"""Keys and values of all annotations together (apimachinery's TotalAnnotationSizeLimitB)."""


def _matches(pattern: str, text: str) -> bool:
    return re.fullmatch(pattern.removeprefix("^").removesuffix("$"), text) is not None


def _strings(metadata: Mapping[str, Any], field: str) -> Iterator[tuple[str, str]]:
    """Label or annotation errors."""
    path = f"metadata.{field}"
    found = metadata.get(field)
    if found is None:
        return
    if not isinstance(found, Mapping):
        yield path, f"found {type(found).__name__}; must be a mapping of strings to strings"
        return
    for key, value in found.items():
        if not isinstance(key, str) or not _matches(QUALIFIED_NAME, key.lower() if field == "annotations" else key):
            yield path, f"found key {key!r}; must be a qualified name such as app or example.com/app"
        elif value is not None and not isinstance(value, str):
            yield path, f"found {value!r} at key {key!r}; must be a string, put it in quotes"
        elif field == "labels" and (len(value or "") > 63 or not _matches(LABEL_VALUE_PATTERN, value or "")):
            yield path, f"found {value!r} at key {key!r}; must have at most 63 letters, digits, dashes, dots and underscores"
    if field == "annotations":
        size = sum(len(str(key).encode()) + len(str(value or "").encode()) for key, value in found.items())
        if size > MAX_ANNOTATION_BYTES:
            yield path, f"found {size} bytes; must have at most {MAX_ANNOTATION_BYTES}"


def metadata_problems(metadata: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """(field path, message) of each mistake in an object's metadata; `name` must be a string."""
    name = metadata["name"]
    if len(name) > MAX_NAME:
        yield "metadata.name", f"found {len(name)} characters; must have at most {MAX_NAME}, or its pods could not be made"
    elif not _matches(NAME_PATTERN, name):
        yield (
            "metadata.name",
            f"found {name!r}; must be a DNS label: lower-case letters, digits and dashes, starting with a letter and not ending with a dash",
        )
    namespace = metadata.get("namespace")
    if namespace is not None and (not isinstance(namespace, str) or not _matches(_NAMESPACE, namespace)):
        yield "metadata.namespace", f"found {namespace!r}; must be a DNS label of at most 63 characters"
    yield from _strings(metadata, "labels")
    yield from _strings(metadata, "annotations")
    for field in metadata:
        if field not in _FIELDS:
            yield f"metadata.{field}", unknown_field(str(field), _FIELDS)
