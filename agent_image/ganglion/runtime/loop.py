"""An asyncio loop that hands ready data sockets to the reactor inside its `select`.

A reader callback of asyncio goes through the queue of ready handles: about as much interpreter time as relaying the frame that woke the
loop, and all of it before the frame is even read. Here the callback runs as soon as `select` returns; the loop's own turn follows it.
"""

from __future__ import annotations

import asyncio
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

    def select(self, timeout: float | None = None) -> list[_Event]:
        others: list[_Event] = []
        fresh = True
        for event in super().select(timeout):
            direct = event[0].data
            if type(direct) is not _Direct:
                others.append(event)
            elif fresh or self.get_map().get(event[0].fd) is event[0]:
                # From now on: an earlier callback of this round may have closed the socket.
                fresh = False
                try:
                    direct.context.run(direct.callback, *direct.arguments)
                except Exception as error:
                    if self.failed is None:
                        raise
                    self.failed(error)
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
        self._direct.register(fd, selectors.EVENT_READ, _Direct(callback, arguments, copy_context()))

    def remove_direct_reader(self, fd: int) -> bool:
        """Undo `add_direct_reader`. Returns whether there was one."""
        if self.is_closed():
            return False
        try:
            self._direct.unregister(fd)
        except KeyError:
            return False
        return True

    def _direct_failed(self, error: BaseException) -> None:
        self.call_exception_handler({"message": "a direct reader failed", "exception": error})
