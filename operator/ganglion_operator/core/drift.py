"""Whether what exists still is what was applied last."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Any

from ganglion.api import GROUP
from ganglion_operator.core.kinds import Body
from ganglion_operator.core.trim import content_hash, spec_of

ANNOTATION_APPLIED = f"{GROUP}/applied"
"""Hash of the object as the operator rendered it: tells removed fields, which a comparison of contents cannot see."""

_QUANTITY = re.compile(r"([0-9]+(?:\.[0-9]*)?|\.[0-9]+)([KMGTPE]i|[numkMGTPE]|[eE][-+]?[0-9]+)?")
_FACTORS = {
    "n": Decimal("1e-9"), "u": Decimal("1e-6"), "m": Decimal("1e-3"), "": Decimal(1), "k": Decimal(10**3), "M": Decimal(10**6),
    "G": Decimal(10**9), "T": Decimal(10**12), "P": Decimal(10**15), "E": Decimal(10**18), "Ki": Decimal(2**10), "Mi": Decimal(2**20),
    "Gi": Decimal(2**30), "Ti": Decimal(2**40), "Pi": Decimal(2**50), "Ei": Decimal(2**60),
}  # fmt: skip


def _quantity(value: Any) -> Decimal | None:
    """The number behind a Kubernetes quantity: the API server rewrites `0.5` as `500m`."""
    match = _QUANTITY.fullmatch(str(value)) if isinstance(value, str | int) and not isinstance(value, bool) else None
    if match is None:
        return None
    number, suffix = match[1], match[2] or ""
    return Decimal(number) * (_FACTORS[suffix] if suffix in _FACTORS else Decimal("1" + suffix))


def contains(desired: Any, actual: Any) -> bool:
    """Whether `actual` has everything of `desired`; what the API server adds as defaults does not count."""
    if isinstance(desired, dict):
        if not isinstance(actual, dict):
            return not desired and actual is None
        return all(contains(value, actual.get(key)) for key, value in desired.items())
    if isinstance(desired, list):
        if not isinstance(actual, list):
            return not desired and actual is None
        return len(desired) == len(actual) and all(contains(*pair) for pair in zip(desired, actual, strict=True))
    if desired == actual or (desired in ("", 0, False) and actual is None):
        return True
    wanted = _quantity(desired)
    return wanted is not None and bool(wanted == _quantity(actual))


def stamp(body: Body) -> Body:
    """`body` with the hash of itself as annotation."""
    metadata = body["metadata"]
    digest = content_hash(body)[:16]
    return {**body, "metadata": {**metadata, "annotations": {**metadata.get("annotations", {}), ANNOTATION_APPLIED: digest}}}


def identity(body: Body) -> tuple[Any, ...]:
    """Changes whenever `drifted` may change its answer about a stored object (trimmed): the API server counts changes of specs."""
    metadata = body["metadata"]
    fields = ("uid", "generation", "deletionTimestamp", "labels", "annotations", "ownerReferences")
    return (*(metadata.get(field) for field in fields), body.get("contentHash"))


def drifted(desired: Body, actual: Body) -> bool:
    """Whether `actual` (trimmed) must be applied again to become `desired` (stamped)."""
    metadata, found = desired["metadata"], actual["metadata"]
    if not all(contains(metadata.get(field, {}), found.get(field, {})) for field in ("labels", "annotations")):
        return True
    references = found.get("ownerReferences") or ()
    if not all(any(contains(reference, other) for other in references) for reference in metadata.get("ownerReferences", ())):
        return True
    if "specText" in actual:
        return not contains(desired.get("spec", {}), spec_of(actual))
    if "contentHash" in actual:
        return bool(content_hash([desired.get("data") or {}, desired.get("binaryData") or {}]) != actual["contentHash"])
    return any(not contains(value, actual[field]) for field, value in desired.items() if field in ("rules", "roleRef", "subjects"))
