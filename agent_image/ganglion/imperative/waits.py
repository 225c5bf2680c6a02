"""Waiting for one socket in a handler or call, until it is ready, its deadline has come or the agent is killed. Main thread."""

from __future__ import annotations

import contextlib
import socket as network
import time

import zmq

from ganglion.runtime.errors import ReplierLost
from ganglion.runtime.sockets import Socket
from ganglion.sdk.errors import AgentStopping


class Waits:
    """The waits of one agent."""

    def __init__(self) -> None:
        self._stopping = False
        self._out, self._in = network.socketpair()

    def interrupt(self) -> None:
        """Any thread: this wait and all later ones raise AgentStopping."""
        self._stopping = True
        with contextlib.suppress(OSError):
            self._in.send(b"\0")

    def until(self, socket: Socket, events: int, deadline: float | None, monitor: Socket | None = None) -> bool:
        """Wait until the socket is ready; False: deadline.

        Raises:
            AgentStopping: the agent was killed meanwhile.
            ReplierLost: the monitor told so.
        """
        poller = zmq.Poller()
        poller.register(socket, events)
        poller.register(self._out, zmq.POLLIN)
        if monitor is not None:
            poller.register(monitor, zmq.POLLIN)
        while True:
            if self._stopping:
                raise AgentStopping("the agent was killed while it waited")
            left = -1 if deadline is None else max(0, int((deadline - time.monotonic()) * 1000) + 1)
            ready = dict(poller.poll(left))
            if socket in ready:
                return True
            if monitor is not None and monitor in ready:
                monitor.recv_multipart()
                raise ReplierLost("the replier is gone; whether it acted on the request is unknown")
            if deadline is not None and time.monotonic() >= deadline:
                return False

    def close(self) -> None:
        """Free the descriptors."""
        self._in.close()
        self._out.close()
