"""What equal means: transcripts without difference, accepted differences, and scenarios whose feature is still to come."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.differential.accepted import ACCEPTED
from tests.differential.runner import Result

HERE = Path(__file__).parent
PENDING = HERE / "pending.txt"
DIFFERENCES = HERE.parents[1] / "docs" / "osbrain.md"


def pending() -> dict[str, str]:
    """Scenarios that are expected to fail on Ganglion for now: id → reason."""
    lines = (line for line in PENDING.read_text().splitlines() if line and not line.startswith("#"))
    return {name: reason.strip() for name, _, reason in (line.partition(" ") for line in lines)}


def documented() -> set[str]:
    """Ids of the differences that docs/osbrain.md lists: the first column of its tables, in backquotes."""
    return set(re.findall(r"^\| `([a-z0-9-]+)` \|", DIFFERENCES.read_text(), re.MULTILINE)) if DIFFERENCES.exists() else set()


def compare(scenario: str, theirs: Result, ours: Result) -> list[str]:
    """How `ours` differs from what is expected of it; empty when all is well.

    Expected is osBrain's transcript, except for the keys that are accepted to differ: those must be as accepted, and not as osBrain's.
    """
    if ours.failure:
        return [f"it did not reach its end: {ours.failure.strip().splitlines()[-1]}"]
    if ours.problems:
        return ours.problems
    difference = ACCEPTED.get(scenario)
    expected = theirs.transcript
    found = []
    if difference is not None:
        found = _stale(theirs, difference.ours)
        expected = [(key, difference.ours.get(key, value)) for key, value in expected]
    return found + _unequal(expected, ours.transcript)


def _stale(theirs: Result, accepted: Mapping[str, Any]) -> list[str]:
    values = dict(theirs.transcript)
    unknown = [f"{key}: accepted to differ, but osBrain's transcript has no such key" for key in accepted if key not in values]
    return unknown + [
        f"{key}: accepted to differ, but osBrain does the same" for key in accepted if key in values and _equal(values[key], accepted[key])
    ]


def _equal(expected: Any, found: Any) -> bool:
    """Whether a value is as expected: an error may be of a type derived from the expected one."""
    if not (isinstance(expected, dict) and isinstance(found, dict) and "raises" in expected and "raises" in found):
        return bool(expected == found)
    return expected["says"] == found["says"] and expected["raises"] in (found["raises"], *found["bases"])


def _unequal(expected: list[tuple[str, Any]], found: list[tuple[str, Any]]) -> list[str]:
    lines = [
        f"{key}: expected {value!r}, found {other!r}"
        for (key, value), (same, other) in zip(expected, found, strict=False)
        if key == same and not _equal(value, other)
    ]
    if [key for key, _ in expected] != [key for key, _ in found]:
        lines.append(f"keys: expected {[key for key, _ in expected]}, found {[key for key, _ in found]}")
    return lines
