"""One rule between fields."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule of a kind.

    Attributes:
        path: where the rule sits in the schema; `[]` marks the items of a list, e.g. `spec.channels[]`.
        cel: CEL expression; `self` is the value at `path`.
        message: what must hold, in the words of the API conventions.
        check: the same in Python, on the JSON value at `path` with defaults applied. None where the model's types say it already, and for
            transition rules, which a laptop never meets.
        field: field below `path` that errors name; empty for `path` itself.
    """

    path: str
    cel: str
    message: str
    check: Callable[[Any], bool] | None
    field: str = ""

    def validation(self) -> dict[str, str]:
        """The entry of `x-kubernetes-validations`."""
        entry = {"rule": self.cel, "message": self.message}
        return {**entry, "fieldPath": f".{self.field}"} if self.field else entry


def has(value: Mapping[str, Any], field: str) -> bool:
    """CEL's `has()`."""
    return value.get(field) is not None
