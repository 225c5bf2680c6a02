"""The calling side's sockets: one connection per thread and endpoint, with as many calls under way as one likes.

What happens to one call costs two sends and two receives, of which the first one waits. A poll of the socket and its monitor would cost more
than all of these; so the monitor is looked at when nothing has come for `SLICE_MS`, and that bounds how late a peer's death is told. Nearer
to the deadline the descriptors are waited for. They are edge-triggered, and sending may take an edge: before each wait the socket is asked
whether a message is there.
"""

from __future__ import annotations

import asyncio
import contextlib
import select
import time

import zmq

from ganglion.imperative import frames
from ganglion.imperative.control import be_patient
from ganglion.imperative.errors import CallTimeout, CommunicationError
from ganglion.imperative.routes import route
from ganglion.imperative.secret import domain_keys
from ganglion.imperative.settings import config
from ganglion.imperative.sockets import plain_send
from ganglion.runtime.sockets import Context, make_ipc_socket, make_socket

NOBLOCK, MORE = int(zmq.NOBLOCK), int(zmq.NOBLOCK | zmq.SNDMORE)
_EVENTS, _POLLIN, _RCVMORE = int(zmq.EVENTS), int(zmq.POLLIN), int(zmq.RCVMORE)
_GONE = zmq.EVENT_DISCONNECTED | zmq.EVENT_CLOSED | zmq.EVENT_CONNECT_RETRIED
SLICE_MS = 20
"""Longest wait between two looks at the monitor."""
PRUNE_AT = 4096
"""Calls under way from which on those that are overdue, and that nobody has asked for, are looked for."""


class PeerLost(CommunicationError):
    """The connection broke, or there never was one; `sent` tells whether the call may have reached the peer."""

    def __init__(self, text: str, *, sent: bool) -> None:
        super().__init__(text)
        self.sent = sent


class Reply:
    """What becomes of one call: flags and body of the reply, or an error."""

    __slots__ = ("body", "deadline", "error", "flags", "number", "waiters")

    def __init__(self, deadline: float) -> None:
        self.number = 0
        self.deadline = deadline
        self.flags = -1
        self.body = b""
        self.error: CommunicationError | None = None
        self.waiters: list[asyncio.Future[None]] | None = None

    @property
    def settled(self) -> bool:
        """Whether it is known."""
        return self.flags >= 0 or self.error is not None

    def wake(self) -> None:
        """Tell the coroutines that wait."""
        waiters, self.waiters = self.waiters, None
        for waiter in waiters or ():
            if not waiter.done():
                waiter.set_result(None)


class Connection:
    """A DEALER to one endpoint, with its monitor. It belongs to the thread that made it.

    Args:
        context: of this process's calls.
        endpoint: tcp or ipc.
    """

    def __init__(self, context: Context, endpoint: str) -> None:
        self.endpoint = endpoint
        limit = config["MAX_MESSAGE_BYTES"]
        if endpoint.startswith("ipc://"):
            self.socket = make_ipc_socket(context, zmq.DEALER, max_message_bytes=limit)
        else:
            keys = domain_keys()
            self.socket = make_socket(context, zmq.DEALER, curve=keys, server_key=keys.public, max_message_bytes=limit)
            be_patient(self.socket)
        self.monitor = self.socket.get_monitor_socket(_GONE | zmq.EVENT_HANDSHAKE_SUCCEEDED)
        self.monitor.linger = 0
        self.up = False
        self.broken = False
        self.pending: dict[int, Reply] = {}
        """Calls under way by their numbers."""
        self._number = 0
        self._prune_at = PRUNE_AT
        self._fds = self.socket.fileno(), self.monitor.fileno()
        self._both, self._news = select.poll(), select.poll()
        for fd in self._fds:
            self._both.register(fd, select.POLLIN)
        self._news.register(self._fds[1], select.POLLIN)
        self._send, self._recv, self._get = plain_send(self.socket), self.socket.recv, self.socket.getsockopt
        self.socket.set(zmq.RCVTIMEO, SLICE_MS)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._drain_soon = False
        self.socket.connect(route(endpoint))
        self.look()

    def look(self) -> None:
        """Take in what happened to the connection."""
        while True:
            try:
                event = self.monitor.recv_multipart(NOBLOCK)
            except zmq.Again:
                return
            if int.from_bytes(event[0][:2], "little") == zmq.EVENT_HANDSHAKE_SUCCEEDED:
                self.up = True
            else:
                self.broken = True

    def usable(self) -> bool:
        """Whether it is not known to be broken."""
        if self._news.poll(0):
            self.look()
        return not self.broken

    # -- sending

    def submit(self, reply: Reply, body: bytes, life: bytes) -> None:
        """Send a call; `reply` becomes its reply.

        Raises:
            CallTimeout: the peer has so much unread that there was no room for it until the reply's deadline.
        """
        self._number = reply.number = number = self._number + 1
        self._push(frames.header(frames.CALL, number, life), body, reply.deadline)
        self.pending[number] = reply
        if len(self.pending) >= self._prune_at:
            now = time.monotonic()
            for other in [one for one in self.pending.values() if one.deadline < now]:
                del self.pending[other.number]
            self._prune_at = max(PRUNE_AT, 2 * len(self.pending))
        if self._loop is not None:
            self._again()

    def cast(self, body: bytes, life: bytes, deadline: float) -> None:
        """Send a call that wants no reply; otherwise as `submit`."""
        self._push(frames.header(frames.CALL, 0, life, frames.ONEWAY), body, deadline)
        if self._loop is not None:
            self._again()

    def _push(self, head: bytes, body: bytes, deadline: float) -> None:
        send = self._send
        while True:
            try:
                send(head, MORE)
            except zmq.Again:
                # It reads nothing, and a thousand calls wait. Replies are taken meanwhile: they may be what it waits for.
                self._absorb()
                left = deadline - time.monotonic()
                if left <= 0:
                    raise CallTimeout(
                        f"{self.endpoint}: {len(self.pending)} calls wait there unread, and there was no room for another in time"
                    ) from None
                self.socket.poll(min(100, int(left * 1000) + 1), zmq.POLLIN | zmq.POLLOUT)
                self._raise_if_broken()
                continue
            # The room of a message is found before its first frame is taken.
            send(body, NOBLOCK)
            return

    def _raise_if_broken(self) -> None:
        if not self.usable():
            raise self._lost()

    def _lost(self) -> PeerLost:
        return PeerLost(f"{self.endpoint}: {'lost' if self.up else 'nobody answers there'}", sent=self.up)

    # -- receiving

    def _take(self, flag: int = NOBLOCK) -> None:
        """Receive one reply; raises zmq.Again when there is none, without NOBLOCK: for a slice."""
        head = self._recv(flag)
        if not self._get(_RCVMORE):
            return
        body = self._recv()
        if self._get(_RCVMORE):
            while self._get(_RCVMORE):
                self._recv()
            return
        kind, flags, number, _ = frames.read_header(head)
        reply = self.pending.pop(number, None)
        if reply is None or kind != frames.REPLY:
            # Of a call that nobody waits for any more.
            return
        reply.flags, reply.body = flags, body
        if reply.waiters is not None:
            reply.wake()

    def _absorb(self) -> None:
        with contextlib.suppress(zmq.Again):
            while True:
                self._take()

    def wait(self, reply: Reply, deadline: float) -> bool:
        """Wait until a call's reply is known; False: not by then."""
        get, take = self._get, self._take
        try:
            while not reply.settled:
                if deadline - time.monotonic() > 2 * SLICE_MS / 1000:
                    try:
                        take(0)
                    except zmq.Again:
                        if not self.usable():
                            self._absorb()
                            self.fail()
                    continue
                if not int(get(_EVENTS)) & _POLLIN:
                    left = deadline - time.monotonic()
                    ready = self._both.poll(int(left * 1000) + 1 if left > 0 else 0)
                    if not ready and left <= 0:
                        return False
                    if any(fd == self._fds[1] for fd, _ in ready) and not self.usable():
                        self._absorb()
                        self.fail()
                        continue
                with contextlib.suppress(zmq.Again):
                    take()
            return True
        finally:
            if self._loop is not None:
                # An edge that the loop waits for may have been taken here.
                self._again()

    def fail(self) -> None:
        """It is broken: nothing that is under way will be answered."""
        self.broken = True
        while self.pending:
            _, reply = self.pending.popitem()
            reply.error = self._lost()
            reply.wake()

    # -- in a loop

    def attach(self, loop: asyncio.AbstractEventLoop) -> None:
        """From now on replies are taken in while this loop runs; the connection's thread runs it."""
        if self._loop is loop:
            return
        self.detach()
        self._loop = loop
        for fd in self._fds:
            loop.add_reader(fd, self._drain)
        self._again()

    def detach(self) -> None:
        """Undo `attach`."""
        loop, self._loop = self._loop, None
        self._drain_soon = False
        if loop is not None and not loop.is_closed():
            for fd in self._fds:
                loop.remove_reader(fd)

    def _again(self) -> None:
        loop = self._loop
        if loop is None or self._drain_soon:
            return
        if loop.is_closed():
            self.detach()
            return
        self._drain_soon = True
        loop.call_soon(self._drain)

    def _drain(self) -> None:
        self._drain_soon = False
        if self.socket.closed:
            return
        self._absorb()
        if not self.usable():
            self._absorb()
            self.fail()
            self.detach()

    def close(self, linger_ms: int = 0) -> None:
        """Idempotent."""
        if self.socket.closed:
            return
        self.detach()
        self.fail()
        self.socket.disable_monitor()
        self.monitor.close()
        self.socket.close(linger_ms)
