"""Timers of one agent: no bursts, no overlap, monotonic.

A period that is missed (a handler was busy) is skipped, not caught up; the grid of starts stays where it was. A timer whose coroutine
is still running is not started again. Timers may be made from any hook; none runs before `start`.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import math
import uuid
from collections.abc import Awaitable, Callable
from typing import Any, Protocol


class Handle(Protocol):
    """What `call_at` returns."""

    def cancel(self) -> None: ...


class Clock(Protocol):
    """The part of an event loop that timers need."""

    def time(self) -> float: ...

    def call_at(self, when: float, callback: Callable[..., Any], *args: Any) -> Handle: ...


def next_start(due: float, period: float, now: float) -> float:
    """The next start after one that was due at `due` and has ended at `now`: on the grid, never in the past (seconds)."""
    if period <= 0.0:
        return now
    following = due + period
    if following >= now:
        return following
    return due + period * math.ceil((now - due) / period)


def label_of(call: Callable[[], Any]) -> str:
    """What people call a timer without an alias: its method or function."""
    while isinstance(call, functools.partial):
        call = call.func
    return getattr(call, "__name__", None) or type(call).__name__


class _Timer:
    __slots__ = ("call", "due", "handle", "label", "period")

    def __init__(self, call: Callable[[], Any], due: float, period: float | None, label: str) -> None:
        self.label = label
        self.call = call
        self.due = due
        self.period = period
        self.handle: Handle | None = None


class Timers:
    """All timers of an agent.

    Args:
        clock: an event loop, or a clock of a test.
        on_error: called with (name, exception) when a timer's callable raised; the timer goes on. The name is the alias, or without one
            that of the callable. Must not raise.
        spawn: makes a task of a coroutine.
    """

    def __init__(
        self,
        clock: Clock,
        on_error: Callable[[str, BaseException], None],
        spawn: Callable[[Awaitable[Any]], asyncio.Future[Any]] = asyncio.ensure_future,
    ) -> None:
        self._clock = clock
        self._on_error = on_error
        self._spawn = spawn
        self._timers: dict[str, _Timer] = {}
        self._tasks: set[asyncio.Future[Any]] = set()
        self._running = False
        self._closed = False

    def __len__(self) -> int:
        return len(self._timers)

    @property
    def aliases(self) -> tuple[str, ...]:
        """Timers that will run again."""
        return tuple(self._timers)

    @property
    def busy(self) -> bool:
        """Whether a timer's coroutine is running."""
        return bool(self._tasks)

    def each(self, period: float, call: Callable[[], Any], *, alias: str | None = None, delay: float = 0.0) -> str:
        """Run `call` every `period` seconds, first in `delay` seconds.

        Returns:
            The alias: the one given, or a random one.
        Raises:
            ValueError: a negative or infinite time, or an alias that is taken.
        """
        if not 0.0 <= period < math.inf:
            raise ValueError(f"period: found {period!r}; must be 0 or more seconds")
        return self._add(call, delay, period, alias)

    def after(self, delay: float, call: Callable[[], Any], *, alias: str | None = None) -> str:
        """Run `call` once, in `delay` seconds; otherwise as `each`."""
        return self._add(call, delay, None, alias)

    def _add(self, call: Callable[[], Any], delay: float, period: float | None, alias: str | None) -> str:
        if not 0.0 <= delay < math.inf:
            raise ValueError(f"delay: found {delay!r}; must be 0 or more seconds")
        name = uuid.uuid4().hex if alias is None else alias
        if name in self._timers:
            raise ValueError(f"alias: timer {name!r} is running; stop it first or choose another alias")
        timer = _Timer(call, self._clock.time() + delay, period, label_of(call) if alias is None else alias)
        if not self._closed:
            self._timers[name] = timer
            if self._running:
                self._arm(name, timer)
        return name

    def stop(self, alias: str) -> None:
        """Never start this timer again; a run in progress ends by itself.

        Raises:
            KeyError: no such timer, or it has run out.
        """
        timer = self._timers.pop(alias, None)
        if timer is None:
            raise KeyError(f"timer {alias!r} is not running; running are: {', '.join(self._timers) or 'none'}")
        if timer.handle is not None:
            timer.handle.cancel()

    def start(self) -> None:
        """The loop begins: what is due runs now, and a grid whose first start is overdue begins now."""
        self._running = True
        for name, timer in list(self._timers.items()):
            timer.due = max(timer.due, self._clock.time())
            self._arm(name, timer)

    def close(self) -> None:
        """Stop all; later timers are accepted and never run. Coroutines in progress are cancelled."""
        self._closed = True
        for timer in self._timers.values():
            if timer.handle is not None:
                timer.handle.cancel()
        for task in self._tasks:
            task.cancel()
        self._timers.clear()

    def _arm(self, name: str, timer: _Timer) -> None:
        timer.handle = self._clock.call_at(timer.due, self._fire, name, timer)

    def _fire(self, name: str, timer: _Timer) -> None:
        timer.handle = None
        if timer.period is None:
            # Before the call: it may set the same alias again.
            del self._timers[name]
        try:
            result = timer.call()
        except BaseException as error:  # noqa: BLE001 - user code; SystemExit too is for `on_error` to judge
            self._on_error(timer.label, error)
            result = None
        if inspect.isawaitable(result):
            task = self._spawn(result)
            self._tasks.add(task)
            task.add_done_callback(lambda done: self._finished(name, timer, done))
        else:
            self._again(name, timer)

    def _finished(self, name: str, timer: _Timer, done: asyncio.Future[Any]) -> None:
        self._tasks.discard(done)
        if not done.cancelled():
            error = done.exception()
            if error is not None:
                self._on_error(timer.label, error)
        self._again(name, timer)

    def _again(self, name: str, timer: _Timer) -> None:
        if timer.period is None or self._timers.get(name) is not timer:
            return
        timer.due = next_start(timer.due, timer.period, self._clock.time())
        self._arm(name, timer)
