"""A ZeroMQ socket in an asyncio loop, without a coroutine per message."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

import zmq

from ganglion.runtime.sockets import Socket

log = logging.getLogger(__name__)

BUDGET = 100
"""Messages taken before the loop gets its turn."""


class SocketReader:
    """Calls `take` once for each message that waits.

    libzmq's descriptor is edge-triggered, and a send can swallow the edge: call `recheck` after sends.

    Args:
        loop: the running loop.
        socket: owned by the loop's thread.
        take: receives one message without blocking; raises `zmq.Again` when there is none.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, socket: Socket, take: Callable[[], None]) -> None:
        self._loop = loop
        self._socket = socket
        self._take = take
        self._again: asyncio.Handle | None = None
        self._closed = False
        loop.add_reader(socket.fileno(), self._drain)
        self.recheck()

    def recheck(self) -> None:
        """Look soon whether messages wait."""
        if self._again is None and not self._closed:
            self._again = self._loop.call_soon(self._drain)

    def _drain(self) -> None:
        if self._again is not None:
            self._again.cancel()
            self._again = None
        if self._closed:
            return
        for _ in range(BUDGET):
            try:
                self._take()
            except zmq.Again:
                # Asking for the events re-arms the descriptor, and tells of what came meanwhile.
                if not int(self._socket.get(zmq.EVENTS)) & zmq.POLLIN:
                    return
            except Exception:
                # A fault of ours. No descriptor tells of the messages behind this one: without going on, nobody would be heard any more.
                log.exception("a message was not served")
            if self._closed:
                return
        self.recheck()

    def close(self) -> None:
        """Stop reading; the socket stays open. Idempotent."""
        if self._closed:
            return
        self._closed = True
        if self._again is not None:
            self._again.cancel()
        self._loop.remove_reader(self._socket.fileno())
