"""The control thread's way into the main thread, open also while a handler blocks in a send.

The loop's own `call_soon_threadsafe` waits until the loop turns. A send that blocks inside a handler may be waiting for exactly what such a
callback brings (a directory with a new peer, the order to leave), so callbacks are queued here and run by whoever turns first: the loop, or
the reactor's tick inside the blocking call. A callback that must be known at once, even while user code computes, has an *urgent* half
that runs in the posting thread.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from typing import Any

from ganglion.runtime.reactor import Reactor
from ganglion.runtime.sockets import Socket

log = logging.getLogger(__name__)


class Gate:
    """Has the two methods of an event loop that the control thread uses, and is a pumped source of the reactor.

    Args:
        loop: the main loop.
        reactor: told to look when something was posted.
        on_tick: called in the main thread about every 100 ms, also inside blocking sends (monotonic seconds).
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, reactor: Reactor, on_tick: Callable[[float], None]) -> None:
        self._loop = loop
        self._reactor = reactor
        self._on_tick = on_tick
        self._posts: deque[tuple[Callable[..., object], tuple[Any, ...]]] = deque()
        self._urgent: dict[Callable[..., object], Callable[..., object]] = {}
        reactor.add(self, pumped=True)

    def urgent(self, callback: Callable[..., object], first: Callable[..., object]) -> None:
        """Before `callback` is queued, call `first` with the same arguments in the posting thread."""
        self._urgent[callback] = first

    def call_soon_threadsafe(self, callback: Callable[..., object], *args: Any, context: object = None) -> None:
        """Queue a callback for the main thread. Any thread.

        Raises:
            RuntimeError: the loop is closed.
        """
        first = self._urgent.get(callback)
        if first is not None:
            first(*args)
        self._posts.append((callback, args))
        self._loop.call_soon_threadsafe(self._run)
        self._reactor.wake()

    def create_future(self) -> asyncio.Future[Any]:
        """A future of the main loop."""
        return self._loop.create_future()

    def _run(self) -> None:
        while self._posts:
            callback, args = self._posts.popleft()
            try:
                callback(*args)
            except Exception:
                # One bad callback must not swallow those behind it.
                log.exception("a callback of the control thread failed")

    # -- the reactor's source

    @property
    def sockets(self) -> list[Socket]:
        """None: it is served by the tick."""
        return []

    def drain(self, budget: int) -> bool:
        """Nothing to receive."""
        return False

    def tick(self, now: float) -> None:
        """Run what was posted, and the driver's own look."""
        self._run()
        self._on_tick(now)

    def close(self) -> None:
        """Leave the reactor; later posts wait for the loop."""
        self._reactor.remove(self)
