"""An asyncio loop that hands ready data sockets to the reactor inside its `select`.

A reader callback of asyncio goes through the queue of ready handles: about as much interpreter time as relaying the frame that woke the
loop, and all of it before the frame is even read. Here the callback runs as soon as `select` returns; the loop's own turn follows it.
"""

from __future__ import annotations

import asyncio
import math
import os
import select
import selectors
from collections.abc import Callable
from contextvars import Context, copy_context
from typing import Any

_Event = tuple[selectors.SelectorKey, int]


class _Direct:
    """A callback that is run in `select`."""

    __slots__ = ("arguments", "callback", "context")

    def __init__(self, callback: Callable[..., object], arguments: tuple[Any, ...], context: Context) -> None:
        self.callback = callback
        self.arguments = arguments
        self.context = context


class _Selector(selectors.DefaultSelector):
    """Also runs direct readers; reports the others."""

    def __init__(self) -> None:
        super().__init__()
        self.failed: Callable[[BaseException], None] | None = None
        self.directs: dict[int, _Direct] = {}
        """By descriptor."""
        # The same set of descriptors, without the lists and tuples that a selector makes of what is ready.
        self._epoll = select.epoll.fromfd(os.dup(self.fileno())) if hasattr(select, "epoll") else None

    def close(self) -> None:
        if self._epoll is not None:
            self._epoll.close()
        super().close()

    def select(self, timeout: float | None = None) -> list[_Event]:
        if self._epoll is not None and self.directs:
            # Rounded up as selectors do it: a timer must not be too early.
            wait = -1.0 if timeout is None else 0.0 if timeout <= 0 else math.ceil(timeout * 1e3) * 1e-3
            ready = self._epoll.poll(wait, len(self.directs) + 1)
            if len(ready) == 1 and (direct := self.directs.get(ready[0][0])) is not None:
                self._run(direct)
                return []
            # Nothing of that is lost: a descriptor that is ready is told again.
            timeout = 0.0
            if not ready:
                return []
        return self._select(timeout)

    def _run(self, direct: _Direct) -> None:
        try:
            direct.context.run(direct.callback, *direct.arguments)
        except Exception as error:
            if self.failed is None:
                raise
            self.failed(error)

    def _select(self, timeout: float | None) -> list[_Event]:
        others: list[_Event] = []
        fresh = True
        for event in super().select(timeout):
            direct = event[0].data
            if type(direct) is not _Direct:
                others.append(event)
            elif fresh or self.get_map().get(event[0].fd) is event[0]:
                # From now on: an earlier callback of this round may have closed the socket.
                fresh = False
                self._run(direct)
        if others and not fresh:
            # Nor must asyncio see what a callback has removed: the descriptor may be somebody else's now, who would be removed instead.
            # What was only changed is reported again in the next round.
            watched = self.get_map()
            others = [event for event in others if watched.get(event[0].fd) is event[0]]
        return others


class DataLoop(asyncio.SelectorEventLoop):
    """The main thread's loop of a process with data sockets. Any other selector loop works too, a little slower."""

    def __init__(self) -> None:
        self._direct = _Selector()
        super().__init__(self._direct)
        self._direct.failed = self._direct_failed

    def add_direct_reader(self, fd: int, callback: Callable[..., object], *arguments: Any) -> None:
        """As `add_reader`, but the callback runs before everything else that is ready, in a copy of the present context.

        Args:
            fd: descriptor that no reader or writer watches yet.
            callback: called with `arguments` whenever the descriptor is readable; its exceptions go to the loop's exception handler.
            arguments: given to it.
        """
        direct = _Direct(callback, arguments, copy_context())
        self._direct.register(fd, selectors.EVENT_READ, direct)
        self._direct.directs[fd] = direct

    def remove_direct_reader(self, fd: int) -> bool:
        """Undo `add_direct_reader`. Returns whether there was one."""
        if self.is_closed():
            return False
        try:
            self._direct.unregister(fd)
        except KeyError:
            return False
        self._direct.directs.pop(fd, None)
        return True

    def _direct_failed(self, error: BaseException) -> None:
        self.call_exception_handler({"message": "a direct reader failed", "exception": error})
