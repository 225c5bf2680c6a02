"""Wait for a condition with a deadline: the only way tests wait."""

from __future__ import annotations

import select
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def wait_for(condition: Callable[[], T], *, timeout: float = 30.0, what: str = "", interval: float = 0.02) -> T:
    """Return the first truthy value of `condition`.

    Args:
        condition: polled every `interval` seconds; must be cheap.
        timeout: seconds.
        what: what is awaited, for the error.
    Raises:
        TimeoutError: the condition stayed falsy for `timeout` seconds; the text holds the last value.
    """
    deadline = time.monotonic() + timeout
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() >= deadline:
            raise TimeoutError(f"{what or condition!r}: still {value!r} after {timeout} s")
        select.select([], [], [], interval)
