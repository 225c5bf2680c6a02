"""The control thread: a context of its own for unsafe calls and the directory, and ZAP for both contexts. It runs whatever handlers do."""

from __future__ import annotations

import contextlib
import logging
import socket
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any

import zmq

from ganglion.imperative import frames
from ganglion.imperative.frames import Record
from ganglion.imperative.hosts import bind_tcp, numeric_host, tcp_endpoint
from ganglion.imperative.leases import BEAT_SECONDS
from ganglion.imperative.ports import Call, CallPort
from ganglion.imperative.routes import route
from ganglion.imperative.secret import ZAP_DOMAIN, domain_keys
from ganglion.imperative.settings import config
from ganglion.imperative.trust import call_loads
from ganglion.runtime.sockets import Context, CurveKeys, Socket, make_context, make_socket
from ganglion.runtime.zap import ZapHandler, ZapPolicy
from ganglion.wire.departures import Departure, Watching, decode_news, encode_wanted

log = logging.getLogger(__name__)


PATIENCE_MS = 15000
"""Calls: the peer's death closes the connection at once; only a vanished host is told by silence. On a machine that is overloaded three
seconds of silence mean nothing."""


CONTROL_SOCKETS = 64
DATA_SOCKETS = 4096
"""Sockets that an agent may have. libzmq fills a table of this size when the first one is made: 12 bytes for each, in every process."""


def small_context(sockets: int) -> Context:
    """A context for at most so many sockets."""
    context = make_context()
    context.set(zmq.MAX_SOCKETS, sockets)
    return context


def be_patient(socket: Socket) -> None:
    """For the sockets of calls, before they are bound or connected."""
    socket.set(zmq.HEARTBEAT_TIMEOUT, PATIENCE_MS)
    socket.set(zmq.HEARTBEAT_TTL, PATIENCE_MS)
    socket.set(zmq.HANDSHAKE_IVL, PATIENCE_MS)
    socket.set(zmq.TCP_MAXRT, PATIENCE_MS)


class Control:
    """See the module. Every method may be called from any thread.

    Args:
        name: for thread names.
        life: of whom answers here.
        host, port: to bind; port None: any.
        on_call: control thread: gets each call.
        on_tick: control thread: about every quarter of a second.
        on_other: control thread: as of `CallPort`.
        on_say: control thread: what the name server tells.
        on_departure: control thread: an agent that is watched has ended.
        keys: of this process's sockets; None: those of its join secret.
        load: as of `CallPort`.
        max_call_bytes: of one call; None: as configured.
    """

    def __init__(
        self,
        name: str,
        life: bytes,
        host: str,
        port: int | None,
        *,
        on_call: Callable[[Call], None],
        on_tick: Callable[[float], None] = lambda _now: None,
        on_other: Callable[[bytes, int, int, bytes, int, list[bytes]], None] | None = None,
        on_say: Callable[[str], None] = lambda _word: None,
        on_departure: Callable[[Departure], None] = lambda _departure: None,
        keys: CurveKeys | None = None,
        load: Callable[[bytes], Any] | None = None,
        max_call_bytes: int | None = None,
    ) -> None:
        self._name = name
        self._life = life
        self._on_tick = on_tick
        self._on_say = on_say
        self._on_departure = on_departure
        self._watching = Watching()
        keys = keys or domain_keys()
        # What these need may be missing; nothing is open yet.
        load = load or call_loads(life)
        # All hold the same key: its name would tell nothing.
        policy = ZapPolicy(named=False)
        policy.allow(ZAP_DOMAIN, {keys.public})
        self.context: Context = small_context(CONTROL_SOCKETS)
        self.data: Context = small_context(DATA_SOCKETS)
        """Of the main thread's sockets."""
        self._zaps: list[ZapHandler] = []
        self._nameserver: Socket | None = None
        self._record: Record | None = None
        self._answered = threading.Event()
        self._taken = False
        self._jobs: deque[Callable[[], None]] = deque()
        self._wake_out, self._wake_in = socket.socketpair()
        self._wake_out.setblocking(False)
        self._wake_in.setblocking(False)
        self._ending = False
        self._thread = threading.Thread(target=self._run, name=f"{name}-control", daemon=True)
        try:
            # Before any bind: without a handler everybody would wait, with an unenforced domain everybody would get in.
            self._zaps += [ZapHandler(context, policy) for context in (self.context, self.data)]
            limit = max_call_bytes or config["MAX_MESSAGE_BYTES"]
            router = make_socket(self.context, zmq.ROUTER, curve=keys, zap_domain=ZAP_DOMAIN, max_message_bytes=limit)
            self.calls = CallPort(router, life, on_call, on_other, load)
            be_patient(router)
            self.port = bind_tcp(router, numeric_host(host), port)
            self.endpoint = tcp_endpoint(host, self.port)
            self._poller = zmq.Poller()
            for readable in (self._wake_out, router, *(zap.socket for zap in self._zaps)):
                self._poller.register(readable, zmq.POLLIN)
        except BaseException:
            self._close()
            raise

    def start(self) -> None:
        """From now on calls are taken."""
        self._thread.start()

    def post(self, job: Callable[[], None]) -> None:
        """Run something in the control thread."""
        self._jobs.append(job)
        # A full pipe wakes it as well.
        with contextlib.suppress(BlockingIOError, OSError):
            self._wake_in.send(b"\0")

    def answer(self, call: Call, flags: int, body: bytes) -> None:
        """Reply to a call, from another thread."""
        self.post(lambda: self.calls.answer(call, flags, body))

    # -- the directory

    def join(self, endpoint: str, record: Record, timeout: float) -> bool | None:
        """Take the record's name, and keep it with beats.

        Args:
            endpoint: of the name server.
            timeout: seconds to wait for its answer.
        Returns:
            True: taken over; False: another life holds the name; None: no answer.
        """
        self._answered.clear()

        def begin() -> None:
            keys = domain_keys()
            self._nameserver = make_socket(self.context, zmq.DEALER, curve=keys, server_key=keys.public)
            be_patient(self._nameserver)
            self._nameserver.connect(route(endpoint))
            self._poller.register(self._nameserver, zmq.POLLIN)
            self._record = record
            self._beat()

        self.post(begin)
        if not self._answered.wait(timeout):
            self.post(self._stop_beating)
            return None
        if self._taken:
            self.post(self._stop_beating)
        return not self._taken

    def update(self, record: Record) -> None:
        """Another record from now on; told at once."""

        def change() -> None:
            if self._record is not None:
                self._record = record
                self._beat()

        self.post(change)

    def leave(self, timeout: float, *, killed: bool = False) -> bool:
        """Free the name; whether the name server has answered in time.

        Args:
            killed: what those hear that watch it.
        """
        self._answered.clear()

        def part() -> None:
            record, self._record = self._record, None
            if record is None or self._nameserver is None:
                self._answered.set()
                return
            self._say(frames.header(frames.GOODBYE, 0, self._life, frames.KILLED if killed else 0), record.name.encode())

        self.post(part)
        return self._answered.wait(timeout)

    def watch(self, name: str) -> None:
        """Hear of the end of whoever has this name; see `ganglion.wire.departures`."""

        def add() -> None:
            self._watching.add(name)
            self._say_whom_it_watches()

        self.post(add)

    def unwatch(self, name: str) -> None:
        """Hear no more of it."""

        def remove() -> None:
            self._watching.remove(name)
            self._say_whom_it_watches()

        self.post(remove)

    def _say_whom_it_watches(self) -> None:
        if self._record is not None:
            wanted = encode_wanted(self._watching.wanted())
            self._say(frames.header(frames.WATCH, 0, self._life), self._record.name.encode(), wanted)

    def _stop_beating(self) -> None:
        self._record = None

    def _beat(self) -> None:
        if self._record is not None:
            self._say(frames.header(frames.BEAT, 0, self._life), frames.encode_record(self._record))
            if len(self._watching):
                # Again with each beat: what a lost connection, or a name server that has gone, was to tell is found out so.
                self._say_whom_it_watches()

    def _say(self, *parts: bytes) -> None:
        if self._nameserver is not None:
            # When it does not take more, it has beats enough that wait for it.
            with contextlib.suppress(zmq.Again):
                self._nameserver.send_multipart(parts, zmq.NOBLOCK)

    def _hear(self, peer: Socket) -> None:
        while True:
            try:
                head, *rest = peer.recv_multipart(zmq.NOBLOCK)
                kind, flags, _, _ = frames.read_header(head)
            except zmq.Again:
                return
            except ValueError as error:
                log.warning("the name server's frame is malformed: %s", error)
                continue
            if kind == frames.KNOWN:
                first = not self._answered.is_set()
                before, self._taken = self._taken, bool(flags & frames.TAKEN)
                # Once, not with every beat.
                if self._taken and not before and not first and self._record is not None:
                    log.warning("another agent has taken the name %r while this one was not heard", self._record.name)
                self._answered.set()
            elif kind == frames.SAY and rest:
                self._on_say(rest[0].decode("ascii", "replace"))
            elif kind == frames.NEWS and rest:
                self._take_news(rest[0])

    def _take_news(self, body: bytes) -> None:
        try:
            ends = self._watching.take(decode_news(body))
        except ValueError as error:
            log.warning("the name server's news are malformed: %s", error)
            return
        for departure in ends:
            self._on_departure(departure)

    # -- the thread

    def _run(self) -> None:
        calls = self.calls.socket
        next_beat = time.monotonic()
        while not self._ending:
            ready = dict(self._poller.poll(250))
            if self._wake_out.fileno() in ready:
                with contextlib.suppress(BlockingIOError):
                    while len(self._wake_out.recv(4096)) == 4096:
                        pass
            while self._jobs:
                self._safely(self._jobs.popleft())
            if calls in ready:
                self._safely(self.calls.drain)
            for zap in self._zaps:
                if zap.socket in ready:
                    self._safely(zap.answer)
            peer = self._nameserver
            if peer is not None and peer in ready:
                self._hear(peer)
            now = time.monotonic()
            if now >= next_beat:
                next_beat = now + BEAT_SECONDS
                self._safely(self._beat)
            self._on_tick(now)

    def _safely(self, job: Callable[[], object]) -> None:
        try:
            job()
        except Exception:
            # One bad frame or job must not end leases and ZAP.
            log.exception("control thread: a step failed")

    def close(self, timeout: float = 2.0) -> None:
        """End the thread and its sockets. The data context is the main thread's to end before. Idempotent."""

        def end() -> None:
            self._ending = True

        self.post(end)
        if self._thread.is_alive() and threading.current_thread() is not self._thread:
            self._thread.join(timeout)
        if not self._thread.is_alive():
            self._close()

    def _close(self) -> None:
        if hasattr(self, "calls"):
            self.calls.close()
        if self._nameserver is not None:
            self._nameserver.close(200)
        for zap in self._zaps:
            zap.close()
        self._wake_in.close()
        self._wake_out.close()
        # Everything in it is closed with a bounded linger.
        self.data.term()
        self.context.term()
