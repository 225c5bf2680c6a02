"""Whose ends an agent hears of, and what is called then. Main thread."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from typing import Any

from ganglion.wire.departures import MAX_NAME_BYTES, MAX_WATCHED, Departure

log = logging.getLogger(__name__)

MAX_WAITING = 1024
"""Ends that wait for the loop to begin; later ones are dropped, and logged."""

Handler = Callable[[Departure], Any]


class Watched:
    """See the module.

    Args:
        tell: (name, whether): the directory is to be asked about it from now on.
        run: calls a handler, and looks after what it raises or returns.
    """

    def __init__(self, tell: Callable[[str, bool], None], run: Callable[[Handler, Departure], None]) -> None:
        self._tell = tell
        self._run = run
        self._handlers: dict[str, Handler] = {}
        self._waiting: deque[Departure] | None = deque()
        """Until the loop begins."""

    @property
    def names(self) -> tuple[str, ...]:
        """Of the watched, in the order in which they came."""
        return tuple(self._handlers)

    def watch(self, name: str, handler: Handler) -> None:
        """See `Agent.watch`."""
        if not isinstance(name, str) or not name:
            raise ValueError(f"watch: found {name!r}; pass the name of an agent")
        if (size := len(name.encode())) > MAX_NAME_BYTES:
            raise ValueError(f"watch: found a name of {size} bytes; pass the name of an agent, at most {MAX_NAME_BYTES} bytes")
        if name not in self._handlers and len(self._handlers) >= MAX_WATCHED:
            raise ValueError(f"watch: {MAX_WATCHED} names are watched already; unwatch some, or watch in several agents")
        self._handlers[name] = handler
        self._tell(name, True)

    def unwatch(self, name: str) -> None:
        """See `Agent.unwatch`."""
        if name not in self._handlers:
            raise KeyError(f"unwatch: {name!r} is not watched; watched: {', '.join(self._handlers) or 'nobody'}")
        del self._handlers[name]
        self._tell(name, False)

    def ended(self, departure: Departure) -> None:
        """News of the directory."""
        if self._waiting is not None:
            if len(self._waiting) < MAX_WAITING:
                self._waiting.append(departure)
            else:
                log.warning("the end of %s came before the loop began, after %d others; it is not told", departure.replica, MAX_WAITING)
            return
        handler = self._handlers.get(departure.agent)
        if handler is None:
            # Watched no more since.
            return
        if departure.reason == "Unknown":
            log.warning("watch: nobody has the name %r", departure.agent)
        self._run(handler, departure)

    def start(self) -> None:
        """The loop begins: handlers run from now on."""
        waiting, self._waiting = self._waiting, None
        for departure in waiting or ():
            self.ended(departure)
