"""A clock that only the test moves."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable
from typing import Any


class _Handle:
    def __init__(self) -> None:
        self.cancelled = False

    def cancel(self) -> None:
        self.cancelled = True


class FakeClock:
    """The timer half of an event loop, in virtual time."""

    def __init__(self) -> None:
        self.now = 100.0
        self._order = itertools.count()
        self._due: list[tuple[float, int, _Handle, Callable[..., Any], tuple[Any, ...]]] = []

    def time(self) -> float:
        return self.now

    def call_at(self, when: float, callback: Callable[..., Any], *args: Any) -> _Handle:
        handle = _Handle()
        heapq.heappush(self._due, (when, next(self._order), handle, callback, args))
        return handle

    def advance(self, seconds: float, *, turns: int = 10_000) -> None:
        """Move time on and run what becomes due, each at its own time unless a callback took longer; at most `turns` callbacks."""
        until = self.now + seconds
        for _ in range(turns):
            if not self._due or self._due[0][0] > max(until, self.now):
                break
            when, _, handle, callback, args = heapq.heappop(self._due)
            self.now = max(self.now, when)
            if not handle.cancelled:
                callback(*args)
        self.now = max(self.now, until)
