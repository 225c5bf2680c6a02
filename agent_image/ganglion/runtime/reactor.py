"""Drives ZeroMQ sockets from a running asyncio loop, and from blocking calls of the thread that runs it.

`loop.add_reader` on a socket's file descriptor says that *something* happened, once: the descriptor is edge-triggered, and sending may
swallow the edge. So a socket is drained until it has no more, and looked at again after a turn in which something was sent on it. Only
then: asking a socket for its state costs two system calls.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import os
import select
import threading
import time
from collections.abc import Callable
from typing import Protocol

import zmq

from ganglion.runtime.errors import ChannelClosed
from ganglion.runtime.loop import DataLoop
from ganglion.runtime.sockets import Socket

log = logging.getLogger(__name__)

BUDGET = 32
"""Frames taken from one source before other sources and timers get their turn (up to 2,048 messages)."""
NOBLOCK = int(zmq.NOBLOCK)
NOBLOCK_MORE = int(zmq.NOBLOCK | zmq.SNDMORE)
"""Plain integers: combining the enum's members costs as much as the send."""
ROUNDS = 16
"""Drains within one turn of the loop: a frame that answers another is taken at once, without a turn of its own."""
TURN_SECONDS = 0.05
"""A turn that has taken so long ends with the frame that is being handled: timers and everything else of the loop wait for it."""
PUMP_SECONDS = 0.25
"""Longest sleep inside a blocking call between two looks at timers."""


POLLIN = int(zmq.POLLIN)
_EVENTS = zmq.EVENTS


def readable(socket: Socket) -> bool:
    """Whether `recv` would return a message now."""
    return bool(int(socket.getsockopt(_EVENTS)) & POLLIN)


class Source(Protocol):
    """A set of sockets whose input is drained together."""

    @property
    def sockets(self) -> list[Socket]:
        """Sockets to be woken by. Call `Reactor.changed` when the list changes."""
        ...

    def drain(self, budget: int) -> bool:
        """Receive at most `budget` frames without blocking. Returns whether more may be waiting."""
        ...

    def tick(self, now: float) -> None:
        """Called about every 100 ms (monotonic seconds), also in a busy loop."""
        ...


class _Entry:
    __slots__ = ("again", "drain_one", "fds", "live", "pumped", "ready", "source")

    def __init__(self, source: Source, pumped: bool) -> None:
        self.source = source
        self.pumped = pumped
        self.live = True
        """Until the source is removed."""
        self.fds: dict[int, Socket] = {}
        self.again: asyncio.Handle | None = None
        self.ready: Callable[[], bool] = getattr(source, "ready", self._any_readable)
        """Whether a socket has input whose edge may be lost. A source that knows on which it sent need not ask the others."""
        self.drain_one: Callable[[Socket, int], bool] = getattr(source, "drain_one", self._drain_all)
        """Drain the socket whose descriptor is ready; a source without this is drained as a whole."""

    def _any_readable(self) -> bool:
        return any(map(readable, self.fds.values()))

    def _drain_all(self, _socket: Socket, budget: int) -> bool:
        return self.source.drain(budget)


_Work = list[tuple[_Entry, Socket | None]]


class Reactor:
    """Made and used in the thread that runs `loop`.

    Args:
        loop: a running loop, or one that will run.
        tick_seconds: period of `Source.tick` and of `every` callbacks' resolution.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, *, tick_seconds: float = 0.1) -> None:
        self.loop = loop
        self._watch: Callable[..., object] = loop.add_direct_reader if isinstance(loop, DataLoop) else loop.add_reader
        self._unwatch_fd: Callable[[int], bool] = loop.remove_direct_reader if isinstance(loop, DataLoop) else loop.remove_reader
        self._tick_seconds = tick_seconds
        self._entries: dict[Source, _Entry] = {}
        self._flush: list[Callable[[], None]] = []
        self._ticks: list[Callable[[float], None]] = []
        self._soon: asyncio.Handle | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._next_tick = 0.0
        self._wake_read, self._wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._waking = threading.RLock()
        self._poll = select.poll()
        self._poll.register(self._wake_read, select.POLLIN)
        self._pumped_fds: dict[int, _Entry] = {}
        self._watched = select.poll()
        self._watched_fds: dict[int, _Entry] = {}
        self._stop: Exception | None = None
        self._closed = False
        self.dispatching = False
        """Input is being handled: what handlers send is flushed when it has drained."""
        self.turn_over = math.inf
        """Monotonic seconds at which a source whose handlers are slow should end its drain, and say that there is more."""
        self.flush_pending = False
        """`flush_soon` was called and did not run yet."""

    # -- wiring

    def add(self, source: Source, *, pumped: bool) -> None:
        """Start to drain a source.

        Args:
            source: its sockets are watched.
            pumped: also drained inside blocking calls (acknowledgements and replies; never handlers).
        """
        self._entries[source] = _Entry(source, pumped)
        self.changed(source)
        if self._timer is None and not self._closed:
            self._next_tick = time.monotonic() + self._tick_seconds
            self._timer = self.loop.call_later(self._tick_seconds, self._on_timer)

    def remove(self, source: Source) -> None:
        """Forget a source; call it before its sockets are closed."""
        entry = self._entries.pop(source, None)
        if entry is None:
            return
        entry.live = False
        for fd in entry.fds:
            self._unwatch(fd)
        if entry.again is not None:
            entry.again.cancel()

    def changed(self, source: Source) -> None:
        """The source's list of sockets changed. Call it before a socket is closed: its descriptor number may be reused."""
        entry = self._entries.get(source)
        if entry is None:
            return
        wanted = {int(socket.getsockopt(zmq.FD)): socket for socket in source.sockets}
        for fd in [fd for fd, socket in entry.fds.items() if wanted.get(fd) is not socket]:
            self._unwatch(fd)
            del entry.fds[fd]
        for fd, socket in wanted.items():
            if fd not in entry.fds:
                entry.fds[fd] = socket
                self._watch(fd, self._turn, entry, socket)
                self._watched.register(fd, select.POLLIN)
                self._watched_fds[fd] = entry
                if entry.pumped:
                    self._poll.register(fd, select.POLLIN)
                    self._pumped_fds[fd] = entry
        self._again(entry)

    def _unwatch(self, fd: int) -> None:
        self._unwatch_fd(fd)
        if self._watched_fds.pop(fd, None) is not None:
            self._watched.unregister(fd)
        if self._pumped_fds.pop(fd, None) is not None:
            self._poll.unregister(fd)

    def on_flush(self, hook: Callable[[], None]) -> None:
        """Run `hook` whenever input has drained, and once per turn in which `flush_soon` was called."""
        self._flush.append(hook)

    def off_flush(self, hook: Callable[[], None]) -> None:
        """Undo `on_flush`; harmless when it was not there."""
        with contextlib.suppress(ValueError):
            self._flush.remove(hook)

    def on_tick(self, hook: Callable[[float], None]) -> None:
        """Run `hook(now)` about every 100 ms, also inside blocking calls."""
        self._ticks.append(hook)

    def off_tick(self, hook: Callable[[float], None]) -> None:
        """Undo `on_tick`; harmless when it was not there."""
        with contextlib.suppress(ValueError):
            self._ticks.remove(hook)

    def flush_soon(self) -> None:
        """Something was sent or is to be sent: run the flush hooks and look at all sources in the loop's next turn."""
        if not self.flush_pending and not self.dispatching and not self._closed:
            self.flush_pending = True
            self._soon = self.loop.call_soon(self._on_soon)

    # -- blocking calls

    def pump(self, until: Callable[[], bool], deadline: float | None) -> bool:
        """Serve the pumped sources until a condition holds. Runs no handlers and no loop callbacks.

        Args:
            until: checked after every batch of input.
            deadline: monotonic seconds; None: wait for ever.
        Returns:
            False when the deadline passed.
        Raises:
            ChannelClosed: `stop` was called, before or meanwhile.
        """
        outer, self.dispatching = self.dispatching, True
        work = self._pumped()
        try:
            self.flush()
            while True:
                if self._stop is not None:
                    raise self._stop
                if until():
                    return True
                now = time.monotonic()
                if now >= self._next_tick:
                    self._tick(now, pumped_only=True)
                more = self._drain(work)
                self.flush()
                if until():
                    return True
                if deadline is not None and now >= deadline:
                    return False
                if not more:
                    # The flush may have sent: look at what was touched before going to sleep.
                    work = [(entry, None) for entry in self._entries.values() if entry.pumped and entry.ready()]
                    work = work or self._sleep(now, deadline)
        finally:
            self.dispatching = outer
            if not outer:
                # Edges of other sources may have been swallowed meanwhile.
                self.flush_soon()

    def _pumped(self) -> _Work:
        return [(entry, None) for entry in self._entries.values() if entry.pumped]

    def _drain(self, work: _Work) -> bool:
        more = False
        for entry, socket in work:
            if entry.live and (entry.source.drain(BUDGET) if socket is None else entry.drain_one(socket, BUDGET)):
                more = True
                # A blocking call may end before it has taken the rest, of which no descriptor tells any more.
                self._again(entry)
        return more

    def serve(self) -> None:
        """One turn of `pump` without waiting: for a function that blocks the loop for long, but sends now and then."""
        if self.dispatching or self._closed:
            return
        self.dispatching = True
        try:
            now = time.monotonic()
            if now >= self._next_tick:
                self._tick(now, pumped_only=True)
            self._drain(self._pumped())
        finally:
            self.dispatching = False
            self.flush()

    def _sleep(self, now: float, deadline: float | None) -> _Work:
        """Wait for input, a wake-up, or the next tick; returns what has input."""
        limit = min(PUMP_SECONDS, max(self._next_tick - now, 0.001))
        if deadline is not None:
            limit = min(limit, max(deadline - now, 0.0))
        work: _Work = []
        for fd, _ in self._poll.poll(max(int(limit * 1000), 1)):
            entry = self._pumped_fds.get(fd)
            if entry is not None:
                work.append((entry, entry.fds[fd]))
            elif fd == self._wake_read:
                with contextlib.suppress(BlockingIOError):
                    os.read(self._wake_read, 4096)
                work.extend(self._pumped())
        return work

    def stop(self, reason: str = "the agent is leaving") -> None:
        """End every blocking call, now and from now on, with `ChannelClosed`. Any thread."""
        self._stop = ChannelClosed(reason)
        self.wake()

    def resume(self) -> None:
        """Undo `stop`: the last flush before leaving blocks again."""
        self._stop = None

    @property
    def stopped(self) -> bool:
        """Whether blocking calls are refused."""
        return self._stop is not None

    def wake(self) -> None:
        """Make a blocking call look at its condition. Any thread."""
        # Held by `close` too: the pipe's number may be somebody else's a moment later.
        with self._waking:
            if not self._closed:
                with contextlib.suppress(BlockingIOError):
                    os.write(self._wake_write, b"\0")

    # -- the loop

    def _turn(self, entry: _Entry | None, socket: Socket | None) -> None:
        """Drain whoever has input, flush what that led to, and go on until there is nothing: a turn of the loop costs as much as a frame."""
        if self.dispatching or (entry is not None and not entry.live):
            return
        self.dispatching = True
        self.turn_over = over = time.monotonic() + TURN_SECONDS
        try:
            for _ in range(ROUNDS):
                more = False
                if entry is not None:
                    more = entry.source.drain(BUDGET) if socket is None else entry.drain_one(socket, BUDGET)
                if time.monotonic() >= over:
                    break
                if more:
                    continue
                entry, socket = self._next_ready() if entry is not None else (None, None)
                if entry is None:
                    self.flush()
                    # What was sent may have swallowed the edge of what came meanwhile.
                    entry = self._next_touched()
                    if entry is None:
                        return
        finally:
            self.dispatching = False
            self.turn_over = math.inf
        self.flush()
        if entry is not None:
            self._again(entry)

    def _next_ready(self) -> tuple[_Entry | None, Socket | None]:
        entry = self._next_touched()
        if entry is not None:
            return entry, None
        for fd, _ in self._watched.poll(0):
            entry = self._watched_fds.get(fd)
            if entry is not None:
                return entry, entry.fds[fd]
        return None, None

    def _next_touched(self) -> _Entry | None:
        # Whoever was found is asked last the next time.
        for source, entry in self._entries.items():
            if entry.ready():
                if len(self._entries) > 1:
                    self._entries[source] = self._entries.pop(source)
                return entry
        return None

    def _again(self, entry: _Entry) -> None:
        if entry.again is None and not self._closed:
            entry.again = self.loop.call_soon(self._run_again, entry)

    def look_again(self, source: Source) -> None:
        """The source has left input unread, of which no descriptor tells: drain it in the loop's next turn."""
        entry = self._entries.get(source)
        if entry is not None:
            self._again(entry)

    def _run_again(self, entry: _Entry) -> None:
        entry.again = None
        self._turn(entry, None)

    def _on_soon(self) -> None:
        self.flush_pending = False
        self._turn(None, None)

    def flush(self) -> None:
        """Run the flush hooks now: for handlers that keep their turn for long."""
        for hook in tuple(self._flush):
            hook()

    def _on_timer(self) -> None:
        self._timer = None
        if self._closed:
            return
        self._tick(time.monotonic(), pumped_only=False)
        self._timer = self.loop.call_later(self._tick_seconds, self._on_timer)

    def _tick(self, now: float, *, pumped_only: bool) -> None:
        self._next_tick = now + self._tick_seconds
        before, self.turn_over = self.turn_over, min(self.turn_over, time.monotonic() + TURN_SECONDS)
        hooks = [entry.source.tick for entry in self._entries.values() if entry.pumped or not pumped_only]
        for hook in (*hooks, *self._ticks):
            try:
                hook(now)
            except Exception:
                # A fault in one channel's housekeeping must not end the timer of all.
                log.exception("housekeeping by %r failed", hook)
        self.turn_over = before
        if not pumped_only:
            self.flush_soon()

    def close(self) -> None:
        """Stop watching; the sources' owners close their sockets. Idempotent."""
        with self._waking:
            if self._closed:
                return
            self._closed = True
        for source in list(self._entries):
            self.remove(source)
        for handle in (self._soon, self._timer):
            if handle is not None:
                handle.cancel()
        self._flush.clear()
        self._ticks.clear()
        os.close(self._wake_read)
        os.close(self._wake_write)
