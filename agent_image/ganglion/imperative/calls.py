"""The calling side: one connection per thread and endpoint, a deadline for each call, and the peer's death as an error at once."""

from __future__ import annotations

import atexit
import contextlib
import itertools
import os
import threading
import time
import weakref
from collections import OrderedDict
from typing import Any

import zmq

from ganglion.imperative import frames
from ganglion.imperative.control import be_patient, small_context
from ganglion.imperative.errors import CallTimeout, CommunicationError, decode_error
from ganglion.imperative.secret import domain_keys
from ganglion.imperative.settings import config
from ganglion.imperative.values import dumps, loads
from ganglion.runtime.sockets import Context, make_ipc_socket, make_socket

MAX_CONNECTIONS = 128
"""Of one thread; the one that was not used for longest is closed first."""
MAX_SOCKETS = 8192
"""A connection and its monitor are three."""
_GONE = zmq.EVENT_DISCONNECTED | zmq.EVENT_CLOSED | zmq.EVENT_CONNECT_RETRIED
_numbers = itertools.count(1)


class PeerLost(CommunicationError):
    """The connection broke, or there never was one; `sent` tells whether the call may have reached the peer."""

    def __init__(self, text: str, *, sent: bool) -> None:
        super().__init__(text)
        self.sent = sent


class WrongLife(CommunicationError):
    """Another life answers at this endpoint; the call was not executed."""


class _Connection:
    """A DEALER to one endpoint, with its monitor."""

    def __init__(self, context: Context, endpoint: str) -> None:
        self.endpoint = endpoint
        if endpoint.startswith("ipc://"):
            self.socket = make_ipc_socket(context, zmq.DEALER, max_message_bytes=config["MAX_MESSAGE_BYTES"])
        else:
            keys = domain_keys()
            self.socket = make_socket(
                context, zmq.DEALER, curve=keys, server_key=keys.public, max_message_bytes=config["MAX_MESSAGE_BYTES"]
            )
            be_patient(self.socket)
        self.monitor = self.socket.get_monitor_socket(_GONE | zmq.EVENT_HANDSHAKE_SUCCEEDED)
        self.monitor.linger = 0
        self.up = False
        self.broken = False
        self._poller = zmq.Poller()
        self._poller.register(self.socket, zmq.POLLIN)
        self._poller.register(self.monitor, zmq.POLLIN)
        self.socket.connect(endpoint)

    def look(self) -> None:
        """Take in what happened to the connection."""
        while True:
            try:
                event = self.monitor.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return
            if int.from_bytes(event[0][:2], "little") == zmq.EVENT_HANDSHAKE_SUCCEEDED:
                self.up = True
            else:
                self.broken = True

    def call(self, body: bytes, life: bytes, deadline: float) -> tuple[int, bytes]:
        """Send a call and wait for its reply: (flags, body).

        Raises:
            PeerLost, CallTimeout.
        """
        number = next(_numbers)
        self.socket.send_multipart([frames.header(frames.CALL, number, life), body])
        while True:
            ready = dict(self._poller.poll(max(0, int((deadline - time.monotonic()) * 1000) + 1)))
            if self.socket in ready:
                answer = self._take(number)
                if answer is not None:
                    return answer
            elif self.monitor in ready:
                self.look()
                if self.broken:
                    raise PeerLost(f"{self.endpoint}: {'lost' if self.up else 'nobody answers there'}", sent=self.up)
            elif time.monotonic() >= deadline:
                # A late reply must not be taken for that of a later call; its id tells them apart.
                raise CallTimeout(f"{self.endpoint}: no answer in time")

    def _take(self, number: int) -> tuple[int, bytes] | None:
        head, *rest = self.socket.recv_multipart()
        kind, flags, found, _ = frames.read_header(head)
        if kind != frames.REPLY or found != number or len(rest) != 1:
            return None
        return flags, rest[0]

    def send(self, body: bytes, life: bytes) -> None:
        """Send a call that wants no reply."""
        self.socket.send_multipart([frames.header(frames.CALL, next(_numbers), life, frames.ONEWAY), body])

    def close(self, linger_ms: int = 0) -> None:
        self.socket.disable_monitor()
        self.monitor.close()
        self.socket.close(linger_ms)


class _Connections:
    """Those of one thread."""

    def __init__(self) -> None:
        self._open: OrderedDict[str, _Connection] = OrderedDict()
        with _lock:
            _all.add(self)

    def get(self, endpoint: str) -> _Connection:
        found = self._open.get(endpoint)
        if found is not None:
            found.look()
            if not found.broken:
                self._open.move_to_end(endpoint)
                return found
            self.drop(endpoint)
        while len(self._open) >= MAX_CONNECTIONS:
            self._open.popitem(last=False)[1].close()
        made = self._open[endpoint] = _Connection(_context(), endpoint)
        return made

    def drop(self, endpoint: str) -> None:
        found = self._open.pop(endpoint, None)
        if found is not None:
            found.close()

    def close(self, linger_ms: int = 0) -> None:
        while self._open:
            self._open.popitem()[1].close(linger_ms)

    def __del__(self) -> None:
        # The thread has ended.
        with contextlib.suppress(Exception):
            self.close(1000)


_lock = threading.Lock()
_all: weakref.WeakSet[_Connections] = weakref.WeakSet()
_local = threading.local()
_state: dict[str, Any] = {"pid": 0, "context": None}


def _context() -> Context:
    with _lock:
        if _state["pid"] != os.getpid():
            # The first call of this process; what a fork left of another's is of no use.
            _state.update(pid=os.getpid(), context=small_context(MAX_SOCKETS))
            atexit.register(close_all)
        context: Context = _state["context"]
        return context


def _connections() -> _Connections:
    if getattr(_local, "pid", 0) != os.getpid():
        _local.pid = os.getpid()
        _local.connections = _Connections()
    connections: _Connections = _local.connections
    return connections


def close_all() -> None:
    """Close every connection of this process; for its end."""
    with _lock:
        held = list(_all) if _state["pid"] == os.getpid() else []
    for connections in held:
        connections.close(200)


def release(endpoint: str) -> None:
    """Close this thread's connection to an endpoint."""
    if getattr(_local, "pid", 0) == os.getpid():
        _connections().drop(endpoint)


def call(
    endpoint: str,
    method: str,
    arguments: tuple[Any, ...] = (),
    named: dict[str, Any] | None = None,
    *,
    life: bytes = frames.NO_LIFE,
    timeout: float | None = None,
) -> Any:
    """Call a method at an endpoint and return its result.

    Args:
        life: whom it is meant for.
        timeout: seconds; None: `config["CALL_TIMEOUT"]`.
    Raises:
        EncodeError: an argument cannot travel.
        CallTimeout, PeerLost, WrongLife; RuntimeError: a safe call of an agent that is not running.
        Exception: what the method raised.
    """
    seconds = float(config["CALL_TIMEOUT"] if timeout is None else timeout)
    body = dumps((method, arguments, named or {}))
    connections = _connections()
    try:
        flags, answer = connections.get(endpoint).call(body, life, time.monotonic() + seconds)
    except PeerLost:
        connections.drop(endpoint)
        raise
    except CallTimeout as error:
        raise CallTimeout(f"{method}(): {error} ({seconds:g} s); give it more time, or look what the agent does") from None
    if flags & frames.WRONG_LIFE:
        connections.drop(endpoint)
        raise WrongLife(f"{method}(): another agent answers at {endpoint}")
    if flags & frames.NOT_RUNNING:
        raise RuntimeError("Agent must be running to safely execute methods!")
    if flags & frames.FAILED:
        raise decode_error(answer)
    return loads(answer)


def cast(endpoint: str, method: str, arguments: tuple[Any, ...], named: dict[str, Any], *, life: bytes) -> None:
    """Call a method and neither wait nor learn how it ends."""
    _connections().get(endpoint).send(dumps((method, arguments, named)), life)
