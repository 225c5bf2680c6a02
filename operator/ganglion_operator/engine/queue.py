"""The work queue: keys only, each at most once, never two workers on one key.

`Lanes` decides (pure, time as argument); `Queue` lets workers wait for it.
"""

from __future__ import annotations

import asyncio
import heapq
import random
from collections import deque
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)

FIRST_RETRY_SECONDS = 0.005
LAST_RETRY_SECONDS = 300.0
CURE_SECONDS = 1.0
"""How soon a failing key is looked at again when something about it changed: maybe the cure, maybe only the echo of its own writes."""
SLACK = 256
"""Wishes that are out of date and need not be looked for."""
JITTER = 0.2
"""Part of a delay that is drawn at random, so that keys which failed together do not come back together."""


class Lanes(Generic[K]):
    """Which key is next, and when.

    A key that is added while a worker has it becomes dirty and runs once more afterwards. Live events go before the initial list.
    """

    def __init__(self, draw: Callable[[], float] = random.random) -> None:
        self._draw = draw
        self._live: deque[K] = deque()
        self._initial: deque[K] = deque()
        self._waiting: dict[K, bool] = {}
        """Key → whether it is in the live lane."""
        self._processing: set[K] = set()
        self._dirty: dict[K, float] = {}
        """Key → when it is to be looked at again, among those that workers have."""
        self._delayed: list[tuple[float, int, K]] = []
        self._due: dict[K, float] = {}
        self._count = 0
        self._failures: dict[K, int] = {}

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def processing(self) -> int:
        """Keys that workers have now."""
        return len(self._processing)

    @property
    def delayed(self) -> int:
        """Keys that wait for a time."""
        return len(self._due)

    def add(self, key: K, now: float, *, initial: bool = False) -> None:
        """The key must be looked at: at once, or soon when it keeps failing."""
        if key in self._processing:
            self._dirty[key] = now
        elif key in self._failures:
            self.add_at(key, now + CURE_SECONDS)
        else:
            self._enqueue(key, initial=initial)

    def add_soon(self, key: K, now: float, seconds: float) -> None:
        """The key must be looked at within `seconds`: what happens until then is looked at with it."""
        self.add_at(key, now + (max(seconds, CURE_SECONDS) if key in self._failures else seconds))

    def _enqueue(self, key: K, *, initial: bool = False) -> None:
        self._due.pop(key, None)
        lane = self._waiting.get(key)
        if lane or (lane is False and initial):
            return
        # A live event overtakes: the entry left in the initial lane is skipped when its turn comes.
        self._waiting[key] = not initial
        (self._initial if initial else self._live).append(key)

    def add_at(self, key: K, due: float) -> None:
        """The key must be looked at by `due` (seconds of the clock that `pop` is given); an earlier wish stays."""
        if key in self._processing:
            self._dirty[key] = min(due, self._dirty.get(key, due))
            return
        if key in self._waiting or self._due.get(key, due + 1) <= due:
            return
        self._due[key] = due
        self._count += 1
        heapq.heappush(self._delayed, (due, self._count, key))
        if len(self._delayed) > 2 * len(self._due) + SLACK:
            # What was wished for and then overtaken by events would stay until its time: 300 s of a key that keeps failing.
            self._delayed = [item for item in self._delayed if self._due.get(item[2]) == item[0]]
            heapq.heapify(self._delayed)

    def pop(self, now: float) -> K | None:
        """The next key, now being processed; None when there is none."""
        while self._delayed and self._delayed[0][0] <= now:
            due, _, key = heapq.heappop(self._delayed)
            if self._due.get(key) == due:
                del self._due[key]
                self._enqueue(key)
        for lane, live in ((self._live, True), (self._initial, False)):
            while lane:
                key = lane.popleft()
                if self._waiting.get(key) is live:
                    del self._waiting[key]
                    self._processing.add(key)
                    return key
        return None

    def next_due(self) -> float | None:
        """When the first delayed key is due."""
        while self._delayed and self._due.get(self._delayed[0][2]) != self._delayed[0][0]:
            heapq.heappop(self._delayed)
        return self._delayed[0][0] if self._delayed else None

    def done(self, key: K, now: float, *, requeue_after: float | None = None) -> None:
        """The worker is through with `key` and it went well."""
        self._failures.pop(key, None)
        self._processing.discard(key)
        due = self._dirty.pop(key, None)
        if due is not None and due <= now:
            self._enqueue(key)
        elif due is not None:
            self.add_at(key, due)
        if requeue_after is not None:
            self.add_at(key, now + requeue_after)

    def failed(self, key: K, now: float, *, at_least: float = 0.0) -> float:
        """The worker failed; returns the delay until the next attempt, at least `at_least` seconds."""
        attempt = self._failures.get(key, 0)
        self._failures[key] = attempt + 1
        longest = min(LAST_RETRY_SECONDS, FIRST_RETRY_SECONDS * 2.0 ** min(attempt, 40))
        delay = longest * (1 - JITTER * self._draw())
        self._processing.discard(key)
        if self._dirty.pop(key, None) is not None:
            # Never at once: a key that fails on every change would starve the others.
            delay = min(delay, CURE_SECONDS)
        delay = max(delay, at_least)
        self.add_at(key, now + delay)
        return delay

    def forget(self, key: K) -> None:
        """The key's object is gone: no back-off, no delayed look."""
        self._failures.pop(key, None)
        self._due.pop(key, None)

    def failures(self, key: K) -> int:
        """Failed attempts in a row."""
        return self._failures.get(key, 0)


class Queue(Generic[K]):
    """`Lanes` for workers of one event loop."""

    def __init__(self, clock: Callable[[], float], lanes: Lanes[K] | None = None) -> None:
        self.lanes = lanes if lanes is not None else Lanes()
        self._clock = clock
        self._changed = asyncio.Event()
        self._closed = False

    def add(self, key: K, *, initial: bool = False) -> None:
        """See `Lanes.add`."""
        self.lanes.add(key, self._clock(), initial=initial)
        self._changed.set()

    def add_soon(self, key: K, seconds: float) -> None:
        """See `Lanes.add_soon`."""
        self.lanes.add_soon(key, self._clock(), seconds)
        self._changed.set()

    async def get(self) -> K | None:
        """The next key; None when the queue is closed."""
        while not self._closed:
            key = self.lanes.pop(self._clock())
            if key is not None:
                # Another key may be there for another worker that waits.
                self._changed.set()
                return key
            self._changed.clear()
            due = self.lanes.next_due()
            try:
                async with asyncio.timeout(None if due is None else max(0.0, due - self._clock())):
                    await self._changed.wait()
            except TimeoutError:
                continue
        return None

    def done(self, key: K, requeue_after: float | None = None) -> None:
        """See `Lanes.done`."""
        self.lanes.done(key, self._clock(), requeue_after=requeue_after)
        self._changed.set()

    def failed(self, key: K, *, at_least: float = 0.0) -> float:
        """See `Lanes.failed`."""
        delay = self.lanes.failed(key, self._clock(), at_least=at_least)
        self._changed.set()
        return delay

    def close(self) -> None:
        """Send the workers home; what waits stays undone (the next start looks at everything)."""
        self._closed = True
        self._changed.set()
