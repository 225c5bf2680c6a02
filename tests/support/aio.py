"""Waiting inside coroutines: for a condition, with a deadline."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


async def eventually(condition: Callable[[], T], *, timeout: float = 20.0, what: str = "") -> T:  # noqa: ASYNC109 - the helper's purpose
    """Return the first truthy value of `condition`, letting the loop run meanwhile.

    Args:
        condition: polled every 5 ms; must be cheap.
        timeout: seconds.
        what: what is awaited, for the error.
    Raises:
        TimeoutError: the condition stayed falsy; the text holds the last value.
    """
    deadline = time.monotonic() + timeout
    while not (value := condition()):
        if time.monotonic() >= deadline:
            raise TimeoutError(f"{what or condition!r}: still {value!r} after {timeout} s")
        await asyncio.sleep(0.005)
    return value
