"""Receiving roles of proxied channels: Pull (best effort) and Sub."""

from __future__ import annotations

import asyncio
import logging
import time
from abc import abstractmethod
from collections import deque
from collections.abc import Awaitable, Mapping
from contextvars import ContextVar
from typing import Any

import zmq

from ganglion.runtime import arena
from ganglion.runtime.carrier_legs import Leg, marker
from ganglion.runtime.connections import DesiredPeer
from ganglion.runtime.coroutines import FirstStep
from ganglion.runtime.plane import InletSpec, MessageId
from ganglion.runtime.reactor import Reactor, readable
from ganglion.runtime.sockets import Socket
from ganglion.wire.frames import FrameError, decode_data

log = logging.getLogger(__name__)

QUIET_SECONDS = 0.5
"""Nobody tells when the last message of a best-effort channel has crossed all queues: an inlet is idle after so much silence."""

_VIEW_BYTES = 16384
"""Bodies of a frame that are larger on average are handed on as views; `Codec.decode` takes both."""

_current: ContextVar[tuple[str, MessageId] | None] = ContextVar("ganglion-carrier-input", default=None)


class _Inlet:
    """What both roles share: dispatch to the handler, coroutine handlers, counting."""

    def __init__(self, leg: Leg, reactor: Reactor, spec: InletSpec) -> None:
        self.alias = spec.alias
        self.delivered = 0
        self.failed = 0
        self.malformed = 0
        """Messages that were no frames of this protocol; dropped."""
        self._leg = leg
        self._socket = leg.socket
        self._reactor = reactor
        self._spec = spec
        self._bare = leg.channel.frames == "Bare"
        self._window = max(1, min(256, leg.channel.high_water_mark // 4))
        """Coroutine handlers that may run at a time."""
        self._first_step = FirstStep(reactor.loop)
        self._futures: deque[tuple[asyncio.Future[Any], MessageId]] = deque()
        self._stream = 0
        self._seq: int | None = None
        self._bare_seq = 0
        self._aside = 0
        """Messages of the frame that is being handled that are no deliveries."""
        self._last = 0.0
        self._started = False
        self._closed = False
        self._paused = False

    # -- Inlet

    def start(self) -> None:
        """Messages may arrive from now on."""
        if not self._started:
            self._started = True
            self._paused = False
            self._reactor.add(self, pumped=self._spec.polled)

    def stop_intake(self) -> None:
        """Take no more."""
        if self._started and not self._closed:
            self._reactor.remove(self)
            self._started = False

    def resume_intake(self) -> None:
        """See `Inlet.resume_intake`."""
        if not self._closed:
            self.start()

    @property
    def current(self) -> MessageId | None:
        """The message whose handler is running now."""
        if self._seq is not None:
            return MessageId(self._stream, self._seq)
        alias, message = _current.get() or ("", None)
        return message if alias == self.alias else None

    @property
    def idle(self) -> bool:
        """No handler runs, and nothing has arrived for a while."""
        self._settle()
        busy = self._seq is not None or self._first_step or self._futures
        return not busy and (not self._started or time.monotonic() - self._last > QUIET_SECONDS)

    @property
    def wired(self) -> int:
        """Senders with a live link."""
        return self._leg.wired

    @property
    def tcp_port(self) -> int:
        """Port that it listens on; 0 when it connects."""
        return self._leg.tcp_port

    def subscribe(self, topic: bytes) -> None:
        """Sub only.

        Raises:
            TypeError: always, for other roles.
        """
        raise TypeError(f"alias {self.alias!r}: found role {self._leg.channel.role}, topics need Sub")

    def unsubscribe(self, topic: bytes) -> None:
        """Sub only; see `subscribe`."""
        self.subscribe(topic)

    def close(self) -> None:
        """Cancel coroutine handlers and release the socket; idempotent."""
        if self._closed:
            return
        self.stop_intake()
        self._closed = True
        self._first_step.cancel()
        self._leg.close()

    def apply(self, peers: Mapping[str, DesiredPeer]) -> None:
        """The directory changed."""
        if not self._closed:
            self._leg.apply(peers)

    # -- Source

    @property
    def sockets(self) -> list[Socket]:
        """The data socket, unless too many messages are unfinished: what is not read must not keep the reactor awake; and its monitor."""
        monitor = self._leg.monitor.socket
        return [monitor] if self._paused else [self._socket, monitor]

    def ready(self) -> bool:
        """Whether `drain` has something to do."""
        return (not self._paused and readable(self._socket)) or readable(self._leg.monitor.socket)

    def drain(self, budget: int) -> bool:
        """Handle what has arrived."""
        self._leg.monitor.drain()
        self._settle()
        if self._paused and not self._full:
            self._pause(False)
        try:
            for _ in range(budget):
                if not self._started:
                    return False
                if self._full:
                    self._pause(True)
                    return False
                self._take()
        except zmq.Again:
            return False
        return True

    def tick(self, now: float) -> None:
        """Let go of senders that have left."""
        self._leg.tick(now)

    # -- inside

    @abstractmethod
    def _take(self) -> None:
        """Receive and handle one message of the socket."""

    def _batch(self, frame: bytes, *topic: bytes) -> None:
        """Handle every message of a DATA frame."""
        try:
            data = decode_data(frame)
        except FrameError as error:
            self._malformed(str(error))
            return
        head, offsets = data.head, data.offsets
        decode, handler = self._spec.decode, self._spec.handler
        body: bytes | memoryview = frame
        if len(frame) > _VIEW_BYTES * head.n:
            # A large body is not copied once more.
            body = memoryview(frame)
            arena.note(len(frame), head.n)
        self._last = time.monotonic()
        self._stream = head.stream
        seq, start = head.first, offsets[0]
        try:
            for end in offsets[1:]:
                self._seq = seq
                try:
                    result = handler(*topic, decode(body[start:end]))
                    if result is not None and hasattr(result, "__await__"):
                        self._go_on(result, MessageId(head.stream, seq))
                except Exception as error:  # noqa: BLE001 - reported with its message id
                    self._failure(MessageId(head.stream, seq), error)
                seq, start = seq + 1, end
        finally:
            self._seq = None
            self.delivered += seq - head.first - self._aside
            self._aside = 0

    def _single(self, body: bytes, *topic: bytes) -> None:
        """Handle a bare message; its number is the order of arrival."""
        self._last = time.monotonic()
        self._stream, self._seq = 0, self._bare_seq
        message = MessageId(0, self._bare_seq)
        self._bare_seq += 1
        arena.note(len(body))
        self.delivered += 1
        try:
            result = self._spec.handler(*topic, self._spec.decode(body))
            if result is not None and hasattr(result, "__await__"):
                self._go_on(result, message)
        except Exception as error:  # noqa: BLE001 - reported with its message id
            self._failure(message, error)
        finally:
            self._seq = None

    def _finished(self) -> None:
        if self._started:
            if self._paused and not self._full:
                self._pause(False)
            self._reactor.flush_soon()

    def _pause(self, paused: bool) -> None:
        self._paused = paused
        self._reactor.changed(self)

    @property
    def _full(self) -> bool:
        return len(self._first_step) + len(self._futures) >= self._window

    def _go_on(self, awaitable: Awaitable[Any], message: MessageId) -> None:
        """Run a coroutine handler up to its first wait; the rest of it runs beside other handlers."""
        if isinstance(awaitable, asyncio.Future):
            self._futures.append((awaitable, message))
            awaitable.add_done_callback(self._future_done)
            return
        coroutine = awaitable if asyncio.iscoroutine(awaitable) else _await(awaitable)

        def done(_result: object, error: BaseException | None) -> None:
            if error is not None and not (self._closed and isinstance(error, asyncio.CancelledError)):
                self._failure(message, error)
            self._last = time.monotonic()
            self._finished()

        token = _current.set((self.alias, message))
        try:
            self._first_step.run(coroutine, done)
        finally:
            _current.reset(token)

    def _future_done(self, _future: asyncio.Future[Any]) -> None:
        self._settle()
        self._finished()

    def _settle(self) -> None:
        """Finish messages whose future is done; called from everywhere, because a blocking call runs no callbacks of futures."""
        futures = self._futures
        while futures and futures[0][0].done():
            future, message = futures.popleft()
            self._last = time.monotonic()
            error = None if future.cancelled() else future.exception()
            if error is not None:
                self._failure(message, error)

    def _failure(self, message: MessageId, error: BaseException) -> None:
        self.failed += 1
        # What becomes of the message is not ours to decide: nobody keeps another copy.
        self._spec.on_error(message, error)

    def _malformed(self, why: str) -> None:
        self.malformed += 1
        if self.malformed == 1:
            log.warning("alias %r: a message was dropped: %s (further ones are only counted)", self.alias, why)


async def _await(awaitable: Awaitable[Any]) -> Any:
    return await awaitable


class PullInlet(_Inlet):
    """Pull, best effort."""

    def _take(self) -> None:
        if not self._bare:
            self._batch(self._socket.recv(zmq.NOBLOCK))
            return
        parts = self._socket.recv_multipart(zmq.NOBLOCK)
        if len(parts) == 1:
            self._single(parts[0])
        else:
            self._malformed(f"found {len(parts)} frames, a message on this channel has one")


class SubInlet(_Inlet):
    """Sub. Topics match by prefix and may hold any byte.

    Args:
        replica: says which subscriber is wired.
    """

    def __init__(self, leg: Leg, reactor: Reactor, spec: InletSpec, *, replica: str) -> None:
        super().__init__(leg, reactor, spec)
        self._marker = marker(replica)
        self._topics: set[bytes] = set(spec.topics)

    def start(self) -> None:
        """Subscribe."""
        if self._started:
            return
        super().start()
        for topic in self._topics:
            self._socket.subscribe(topic)
        # Last, so that whoever sees it has the others too.
        self._socket.subscribe(self._marker)

    def stop_intake(self) -> None:
        """Unsubscribe, and take no more."""
        if self._started and not self._closed:
            self._socket.unsubscribe(self._marker)
            for topic in self._topics:
                self._socket.unsubscribe(topic)
        super().stop_intake()

    def subscribe(self, topic: bytes) -> None:
        """Take messages whose topic begins with `topic`, from now on; again changes nothing."""
        if topic not in self._topics:
            self._topics.add(topic)
            if self._started:
                self._socket.subscribe(topic)

    def unsubscribe(self, topic: bytes) -> None:
        """Undo `subscribe`; an unknown topic changes nothing."""
        if topic in self._topics:
            self._topics.discard(topic)
            if self._started:
                self._socket.unsubscribe(topic)

    def _take(self) -> None:
        topic, *rest = self._socket.recv_multipart(zmq.NOBLOCK)
        if self._bare and len(rest) <= 1:
            self._single(rest[0] if rest else b"", topic)
        elif len(rest) == 1:
            self._batch(rest[0], topic)
        else:
            self._malformed(f"found {1 + len(rest)} frames, a publication has a topic and one more")
