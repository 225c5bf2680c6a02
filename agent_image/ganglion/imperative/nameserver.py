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
from ganglion.imperative.leases import BEAT_SECONDS, LEASE_SECONDS, Leases
from ganglion.imperative.ports import Call, Pool, execute
from ganglion.runtime.sockets import CurveKeys
from ganglion.wire.departures import Reason, WatchBook, decode_wanted, encode_news

log = logging.getLogger(__name__)

PORTS = (10000, 20000)
"""Range of random ports."""
_TRIES = 50
SETTLE_SECONDS = 3 * BEAT_SECONDS
"""A name server that has just begun does not know yet who has which name."""
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
        return int(self._server.remove(name, life, "Removed" if life is None else "Killed"))

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
        self._watchers = WatchBook(time.monotonic(), LEASE_SECONDS, SETTLE_SECONDS)
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

    def remove(self, name: str, life: bytes | None, reason: Reason) -> bool:
        """Free a name, and tell those that watch it; whether it was held. Any thread."""
        with self.lock:
            record = self.leases.get(name)
            removed = self.leases.remove(name, life)
        if removed and record is not None:
            self._tell_end(record, reason)
        return removed

    def _tell_end(self, record: Record, reason: Reason) -> None:
        with self.lock:
            watchers = self._watchers.departed((record.name,), record.name, record.life.hex(), reason)

        def say() -> None:
            for session, news in watchers:
                self.control.calls.send(session, frames.header(frames.NEWS), encode_news([news]))

        if watchers:
            self.control.post(say)

    def _living(self, name: str) -> dict[str, str] | None:
        record = self.leases.get(name)
        return None if record is None else {name: record.life.hex()}

    def _on_watch(self, session: bytes, life: bytes, name: str, body: bytes) -> None:
        try:
            wanted = decode_wanted(body)
        except ValueError as error:
            log.warning("what an agent watches was malformed: %s", error)
            return
        with self.lock:
            watcher = self.leases.get(name)
            if watcher is None or watcher.life != life:
                # Its beat comes again, and this with it.
                return
            news = self._watchers.wants(name, session, wanted, time.monotonic(), self._living)
        if news:
            self.control.calls.send(session, frames.header(frames.NEWS), encode_news(news))

    def _on_call(self, call: Call) -> None:
        if call.method in self._inline:
            self.control.calls.answer(call, *execute(self._object, call))
        elif not self._pool.run(lambda: self.control.answer(call, *execute(self._object, call))):
            self.control.calls.fail(call, RuntimeError("too many calls wait"), safe=False)

    def _on_frame(self, session: bytes, kind: int, flags: int, life: bytes, number: int, rest: list[bytes]) -> None:
        taken = False
        if kind == frames.BEAT and len(rest) == 1:
            try:
                record = frames.decode_record(rest[0])
            except FrameError as error:
                log.warning("a beat was malformed: %s", error)
                return
            with self.lock:
                before = self.leases.get(record.name)
                taken = not self.leases.beat(record, session, time.monotonic())
            if before is not None and before.life != record.life and not taken:
                self._tell_end(before, "Replaced")
        elif kind == frames.GOODBYE and len(rest) == 1:
            self.remove(rest[0].decode("utf-8", "replace"), life, "Killed" if flags & frames.KILLED else "Shutdown")
        elif kind == frames.WATCH and len(rest) == 2:
            self._on_watch(session, life, rest[0].decode("utf-8", "replace"), rest[1])
            return
        else:
            return
        self.control.calls.send(session, frames.header(frames.KNOWN, number, life, frames.TAKEN if taken else 0))

    def _on_tick(self, now: float) -> None:
        with self.lock:
            gone = self.leases.tick(now)
        for record in gone:
            log.warning("agent %r was not heard for a lease; its name is free", record.name)
            self._tell_end(record, "LeaseEnded")
