"""Verdicts: conditions before they have a time."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, NamedTuple

from ganglion.api.base import Condition

Status = Literal["True", "False", "Unknown"]


class Verdict(NamedTuple):
    """What one check found."""

    type: str
    status: Status
    reason: str
    message: str = ""

    @property
    def ok(self) -> bool:
        return self.status == "True"


def merge_conditions(old: Iterable[Condition], verdicts: Iterable[Verdict], generation: int, now: str) -> tuple[Condition, ...]:
    """New conditions in the order of `verdicts`.

    `lastTransitionTime` moves only when the status changes; types that nobody judged any more disappear.

    Args:
        old: the conditions in the object's status.
        generation: `metadata.generation` that the verdicts were computed from.
        now: RFC 3339 time in UTC, whole seconds.
    """
    before = {condition.type: condition for condition in old}
    merged = []
    for verdict in verdicts:
        last = before.get(verdict.type)
        since = last.last_transition_time if last is not None and last.status == verdict.status else now
        merged.append(
            Condition(
                type=verdict.type,
                status=verdict.status,
                reason=verdict.reason,
                message=verdict.message[:4096],
                last_transition_time=since,
                observed_generation=generation,
            )
        )
    return tuple(merged)


def first_failure(verdicts: Iterable[Verdict]) -> Verdict | None:
    """The first verdict that is not True."""
    return next((verdict for verdict in verdicts if not verdict.ok), None)
