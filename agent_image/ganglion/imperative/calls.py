"""The calling side: a deadline for each call, and the peer's death as an error at once."""

from __future__ import annotations

import atexit
import contextlib
import os
import pickle
import sys
import threading
import time
import weakref
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

from ganglion.imperative import frames
from ganglion.imperative.connections import Connection, PeerLost, Reply
from ganglion.imperative.control import small_context
from ganglion.imperative.errors import CallTimeout
from ganglion.imperative.futures import Future, WrongLife, outcome
from ganglion.imperative.settings import config
from ganglion.imperative.trust import call_body
from ganglion.imperative.values import PLAIN
from ganglion.runtime.sockets import Context

__all__ = ["PeerLost", "WrongLife", "call", "cast", "close_all", "release", "submit"]

MAX_CONNECTIONS = 128
"""Of one thread; the one that was not used for longest is closed first."""
MAX_SOCKETS = 8192
"""A connection and its monitor are three."""


class _Connections:
    """Those of one thread, which is the one that makes this."""

    def __init__(self) -> None:
        self.thread = threading.current_thread()
        self._open: OrderedDict[str, Connection] = OrderedDict()
        with _lock:
            _all.add(self)

    def get(self, endpoint: str) -> Connection:
        found = self._open.get(endpoint)
        if found is not None:
            if found.usable():
                if len(self._open) > MAX_CONNECTIONS // 2:
                    self._open.move_to_end(endpoint)
                return found
            self.drop(endpoint)
        # Where nobody is any more libzmq would try again for ever.
        for gone in [key for key, connection in self._open.items() if not connection.pending and not connection.usable()]:
            self.drop(gone)
        if len(self._open) >= MAX_CONNECTIONS:
            # One that is waited for stays; should all be, there are more of them for a while.
            idle = [key for key, connection in self._open.items() if not connection.pending]
            for key in idle[: len(self._open) - MAX_CONNECTIONS + 1]:
                self.drop(key)
        made = self._open[endpoint] = Connection(_context(), endpoint)
        return made

    def drop(self, endpoint: str) -> None:
        found = self._open.pop(endpoint, None)
        if found is not None:
            found.close()

    def close(self, linger_ms: int = 0) -> None:
        while self._open:
            self._open.popitem()[1].close(linger_ms)


class _ThreadEnd:
    """Closes a thread's connections with the thread. Only the thread refers to it; to the connections, the traceback of every exception
    that a call has raised does so too."""

    def __init__(self, connections: _Connections) -> None:
        self._connections = connections

    def __del__(self) -> None:
        with contextlib.suppress(Exception):
            # An interpreter that ends forgets threads that still run; see `close_all`.
            if not sys.is_finalizing():
                self._connections.close(1000)


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
        _local.end = _ThreadEnd(_local.connections)
    connections: _Connections = _local.connections
    return connections


def _body(method: str, arguments: tuple[Any, ...], named: dict[str, Any], life: bytes, seconds: float) -> bytes:
    for value in arguments:
        if value.__class__ not in PLAIN:
            return call_body(method, arguments, named, life=life, seconds=seconds)
    # Nothing to look into: what most calls carry.
    return call_body(method, arguments, named, life=life, seconds=seconds) if named else pickle.dumps((method, arguments, named), 5)


def close_all() -> None:
    """Close every connection of this process that nobody uses any more; for its end.

    Those of other threads that still run stay: libzmq aborts the process when a socket is closed while a thread receives from it.
    """
    with _lock:
        held = list(_all) if _state["pid"] == os.getpid() else []
    for connections in held:
        if connections.thread is threading.current_thread() or not connections.thread.is_alive():
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
    body = _body(method, arguments, named or {}, life, seconds)
    connections = _connections()
    connection = connections.get(endpoint)
    reply = Reply(time.monotonic() + seconds)
    try:
        connection.submit(reply, body, life)
        if connection.wait(reply, reply.deadline):
            return outcome(reply, method)
    except (PeerLost, WrongLife):
        connections.drop(endpoint)
        raise
    # A late reply finds nobody.
    connection.pending.pop(reply.number, None)
    raise CallTimeout(f"{method}(): no answer from {endpoint} within {seconds:g} s; give it more time, or look what the agent does")


def submit(
    endpoint: str,
    method: str,
    arguments: tuple[Any, ...],
    named: dict[str, Any],
    *,
    life: bytes,
    timeout: float | None = None,
    again: Callable[[], Future] | None = None,
) -> Future:
    """Send a call and return its future; arguments and errors as of `call`.

    Args:
        again: makes the call once more, after this one has certainly not been executed.
    """
    seconds = float(config["CALL_TIMEOUT"] if timeout is None else timeout)
    body = _body(method, arguments, named, life, seconds)
    connection = _connections().get(endpoint)
    future = Future(connection, method, time.monotonic() + seconds, again)
    connection.submit(future, body, life)
    return future


def cast(endpoint: str, method: str, arguments: tuple[Any, ...], named: dict[str, Any], *, life: bytes) -> None:
    """Call a method and neither wait for it nor learn how it ends."""
    seconds = float(config["CALL_TIMEOUT"])
    body = _body(method, arguments, named, life, seconds)
    _connections().get(endpoint).cast(body, life, time.monotonic() + seconds)
