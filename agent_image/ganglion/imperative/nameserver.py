"""The name server of imperative agents: an object that is called by proxies, and the directory of leases beside it."""

from __future__ import annotations

import logging
import os
import random
import threading
import time
from collections.abc import Callable
from typing import Any

import zmq

from ganglion.imperative import frames
from ganglion.imperative.addresses import SocketAddress
from ganglion.imperative.control import Control
from ganglion.imperative.frames import FrameError, Record
from ganglion.imperative.hosts import advertised
from ganglion.imperative.leases import Leases
from ganglion.imperative.ports import Call, Pool, execute
from ganglion.runtime.sockets import CurveKeys

log = logging.getLogger(__name__)

PORTS = (10000, 20000)
"""Range of random ports."""
_TRIES = 50
_INLINE = frozenset({"ping", "agents", "list", "lookup", "remove", "tell", "daemon_shutdown"})
"""Methods that cannot block, unless a derived class has its own."""


class NameServer:
    """What `run_nameserver` serves; derive from it to add methods, which an `NSProxy` calls by their names."""

    _server: NameServerProcess

    def ping(self) -> str:
        """`pong`."""
        return "pong"

    def agents(self) -> list[str]:
        """Names of the agents that live, in the order in which they came."""
        with self._server.lock:
            return list(self._server.leases)

    def list(self) -> dict[str, str]:
        """Endpoint by name."""
        with self._server.lock:
            return {name: record.control for name in self._server.leases if (record := self._server.leases.get(name)) is not None}

    def lookup(self, name: str) -> Record | None:
        """What is known of an agent."""
        with self._server.lock:
            return self._server.leases.get(name)

    def remove(self, name: str, life: bytes | None = None) -> int:
        """Forget an agent, with `life` only when it is still that one; how many were forgotten. One that lives comes back with its next beat."""
        with self._server.lock:
            return int(self._server.leases.remove(name, life))

    def tell(self, word: str) -> int:
        """Tell all agents to `shutdown` or to `kill` themselves; how many were told."""
        return self._server.tell(word)

    def daemon_shutdown(self) -> None:
        """End the name server; agents are not told."""
        self._server.end.set()


class NameServerProcess:
    """Runs a name server until it is told to end.

    Args:
        base: class of the object.
        host: to bind.
        port: port to bind; None: a random one between 10000 and 20000.
        keys, load, max_call_bytes: as of `Control`.
    Raises:
        OSError: the address cannot be bound.
    """

    def __init__(
        self,
        base: Callable[[], NameServer],
        host: str,
        port: int | None,
        *,
        keys: CurveKeys | None = None,
        load: Callable[[bytes], Any] | None = None,
        max_call_bytes: int | None = None,
    ) -> None:
        self.lock = threading.Lock()
        self.leases = Leases(time.monotonic())
        self.end = threading.Event()
        self._pool = Pool("nameserver")
        self._object = base()
        self._object._server = self  # noqa: SLF001 - the two halves of one object
        self._inline = {name for name in _INLINE if getattr(type(self._object), name) is getattr(NameServer, name)}
        self.life = os.urandom(16)
        self._how: dict[str, Any] = {"keys": keys, "load": load, "max_call_bytes": max_call_bytes}
        self.control = self._bind(host, port)
        self.address = SocketAddress(advertised(host), self.control.port)

    def _bind(self, host: str, port: int | None) -> Control:
        for tries in range(_TRIES):
            chosen = port or random.randint(*PORTS)  # noqa: S311 - a port, not a secret
            try:
                return Control(
                    "nameserver",
                    self.life,
                    host,
                    chosen,
                    on_call=self._on_call,
                    on_other=self._on_frame,
                    on_tick=self._on_tick,
                    **self._how,
                )
            except zmq.ZMQError as error:
                if port or error.errno != zmq.EADDRINUSE or tries == _TRIES - 1:
                    raise OSError(error.errno, f"{error.strerror}: {host}:{chosen}") from error
        raise AssertionError("the loop above returns or raises")

    def serve(self) -> None:
        """Serve until `daemon_shutdown`, or `end` is set."""
        self.control.start()
        self.end.wait()

    def close(self) -> None:
        """End the threads."""
        self._pool.close(0.5)
        self.control.close()

    def tell(self, word: str) -> int:
        """See `NameServer.tell`."""
        with self.lock:
            sessions = [session for name in self.leases if (session := self.leases.session(name)) is not None]
        body = word.encode("ascii")

        def say() -> None:
            for session in sessions:
                self.control.calls.send(session, frames.header(frames.SAY), body)

        self.control.post(say)
        return len(sessions)

    def _on_call(self, call: Call) -> None:
        if call.method in self._inline:
            self.control.calls.answer(call, *execute(self._object, call))
        elif not self._pool.run(lambda: self.control.answer(call, *execute(self._object, call))):
            self.control.calls.fail(call, RuntimeError("too many calls wait"), safe=False)

    def _on_frame(self, session: bytes, kind: int, life: bytes, number: int, rest: list[bytes]) -> None:
        taken = False
        if kind == frames.BEAT and len(rest) == 1:
            try:
                record = frames.decode_record(rest[0])
            except FrameError as error:
                log.warning("a beat was malformed: %s", error)
                return
            with self.lock:
                taken = not self.leases.beat(record, session, time.monotonic())
        elif kind == frames.GOODBYE and len(rest) == 1:
            with self.lock:
                self.leases.remove(rest[0].decode("utf-8", "replace"), life)
        else:
            return
        self.control.calls.send(session, frames.header(frames.KNOWN, number, life, frames.TAKEN if taken else 0))

    def _on_tick(self, now: float) -> None:
        with self.lock:
            gone = self.leases.tick(now)
        for record in gone:
            log.warning("agent %r was not heard for a lease; its name is free", record.name)
