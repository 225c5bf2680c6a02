"""Receiving without a handler: what `recv` takes from.

A message stays unacknowledged until the next one is taken: a process that dies between two `recv` calls loses nothing. What is sent
between them counts as sent by the handler of that message, so acknowledgement stays causal. The credit window bounds the mailbox.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from contextvars import Context, copy_context
from typing import Any, NamedTuple

from ganglion.runtime import causal


class _Item(NamedTuple):
    value: Any
    done: asyncio.Future[Any]
    context: Context


class Mailbox:
    """One polled alias. Main thread only.

    Args:
        loop: the main loop.
        wake: called when something arrived.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, wake: Callable[[], None]) -> None:
        self._loop = loop
        self._wake = wake
        self._items: deque[_Item] = deque()
        self._held: _Item | None = None
        self._outer: causal.Token | None = None
        """What was being handled when a message was taken: a handler may itself poll another alias."""

    def __len__(self) -> int:
        return len(self._items)

    @property
    def holds(self) -> bool:
        """Whether a message was taken and not finished."""
        return self._held is not None

    def put(self, value: Any) -> asyncio.Future[Any]:
        """The inlet's handler: the message is finished when the returned future is."""
        item = _Item(value, self._loop.create_future(), copy_context())
        self._items.append(item)
        self._wake()
        return item.done

    def put_topic(self, topic: bytes, value: Any) -> asyncio.Future[Any]:
        """As `put`, for Sub."""
        return self.put((topic, value))

    def take(self) -> Any:
        """The oldest message; the one taken before is finished. Check `len` first."""
        self.finish()
        item = self._items.popleft()
        while item.done.cancelled():
            item = self._items.popleft()
        self._held = item
        self._outer = causal.current.get()
        causal.current.set(item.context.get(causal.current))
        return item.value

    def finish(self, result: Any = None) -> bool:
        """The message taken last is done; for Rep, `result` is the reply. Returns whether there was one."""
        held, self._held = self._held, None
        if held is None:
            return False
        if causal.current.get() is held.context.get(causal.current):
            causal.current.set(self._outer)
        self._outer = None
        if not held.done.done():
            held.done.set_result(result)
        return True

    def drop(self, error: Exception) -> None:
        """Hand back what was not taken, and what was taken and not finished."""
        items = list(self._items)
        if self._held is not None:
            items.append(self._held)
        self._items.clear()
        self._held = None
        for item in items:
            if not item.done.done():
                item.done.set_exception(error)


class HandedBack(Exception):
    """The process ends before this message was taken."""
