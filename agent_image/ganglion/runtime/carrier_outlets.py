"""Sending roles of proxied channels: Push (best effort) and Pub. Nobody acknowledges; what left for the carrier is counted."""

from __future__ import annotations

import secrets
import time
from abc import abstractmethod
from collections import deque
from collections.abc import Callable, Mapping

import zmq

from ganglion.runtime import arena
from ganglion.runtime.barrier import BarrierGate
from ganglion.runtime.carrier_legs import MARKER, Leg, largest_batch, marked
from ganglion.runtime.connections import DesiredPeer
from ganglion.runtime.errors import ChannelClosed, MessageTooLarge, SendTimeout
from ganglion.runtime.plane import MessageId, Reply
from ganglion.runtime.reactor import NOBLOCK, NOBLOCK_MORE, Reactor, readable
from ganglion.runtime.sockets import Socket
from ganglion.wire.control import Ledger
from ganglion.wire.frames import MAX_BATCH_BYTES, encode_data

_monotonic = time.monotonic
_new_id = tuple.__new__

_COALESCE_SECONDS = 0.0002
"""Outside the loop's turns (a function that blocks), a batch that grew for so long leaves with the next send."""
_WAIT_MS = 50
"""Longest wait for a full socket between two looks at acknowledgements of other channels and at the wish to stop."""


class _Outlet:
    """What both roles share: numbering, the barrier, blocking, and the count.

    A message is *held* until it is given to the socket; at most `highWaterMark` are.
    """

    def __init__(self, leg: Leg, reactor: Reactor) -> None:
        channel = leg.channel
        self.alias = channel.alias
        self.stream = secrets.randbits(64)
        self.gate = BarrierGate(channel.barrier)
        self._leg = leg
        self._socket = leg.socket
        self._reactor = reactor
        self._limit = channel.high_water_mark
        self._max_bytes = channel.max_message_bytes
        self._blocks = channel.overflow == "Block"
        self._bare = channel.frames == "Bare"
        self._sent = 0
        self._dropped = 0
        self._ended = False
        self._closed = False
        self._goal = 0
        reactor.add(self, pumped=True)
        reactor.on_flush(self.flush)

    # -- Outlet

    def request(self, body: bytes | memoryview, *, timeout: float, on_reply: Callable[[Reply], None]) -> MessageId:
        """Not for this role.

        Raises:
            TypeError: always.
        """
        raise TypeError(f"alias {self.alias!r}: found role {self._leg.channel.role}, requests need Req")

    def end(self) -> None:
        """No more sends."""
        self._ended = True
        self._goal = 0
        self.flush()

    @property
    def at_rest(self) -> bool:
        """Everything accepted was given to the socket, or dropped."""
        return not self._held

    @property
    def ended(self) -> bool:
        """`end` was called and everything has left."""
        return self._ended and not self._held

    @property
    def tcp_port(self) -> int:
        """Port that it listens on; 0 when it connects."""
        return self._leg.tcp_port

    @property
    def wired(self) -> int:
        """Receivers with a live link."""
        return self._leg.wired

    def ledger(self) -> Ledger:
        """Counts in messages; `acked` is what was given to the carrier."""
        # Read in this order by any thread: a message is accepted before it is sent or dropped, so in_flight is never negative.
        sent, dropped = self._sent, self._dropped
        accepted = self._accepted
        return Ledger(accepted=accepted, acked=sent, in_flight=accepted - sent - dropped, dropped=dropped)

    @property
    @abstractmethod
    def _accepted(self) -> int:
        """Messages that have a number."""

    @property
    @abstractmethod
    def _held(self) -> int:
        """Messages accepted and not given to the socket."""

    @abstractmethod
    def _forget(self) -> int:
        """Drop what is held; how many messages."""

    @abstractmethod
    def flush(self) -> None:
        """Give what is held to the socket as far as it takes it."""

    def close(self, linger: float) -> None:
        """Release the socket; wait at most `linger` seconds, or the channel's `lingerSeconds` if they are more, for what is held or queued."""
        if self._closed:
            return
        self._closed = True
        # What libzmq has queued counts as sent; nobody else would see to it.
        linger = max(linger, self._leg.channel.linger_seconds)
        deadline = time.monotonic() + linger
        self.flush()
        while self._held and (left := deadline - time.monotonic()) > 0:
            if self.gate.open:
                self._socket.poll(max(1, int(left * 1000)), zmq.POLLOUT)
            else:
                for one in self.sockets:
                    one.poll(_WAIT_MS)
                self.drain(1000)
            self.flush()
        self._dropped += self._forget()
        self._reactor.off_flush(self.flush)
        self._reactor.remove(self)
        self._leg.close(max(0.0, deadline - time.monotonic()))

    def apply(self, peers: Mapping[str, DesiredPeer]) -> None:
        """The directory changed."""
        self._leg.apply(peers)
        if self._held:
            self._reactor.flush_soon()

    # -- Source

    @property
    def sockets(self) -> list[Socket]:
        """Woken by the socket (it takes more, or has subscriptions) and by its monitor."""
        return [self._socket, self._leg.monitor.socket]

    def ready(self) -> bool:
        """Whether `drain` has something to do: an event, a subscription, or room for what is held."""
        events = int(self._socket.getsockopt(zmq.EVENTS))
        wanted = events & (zmq.POLLIN | zmq.POLLOUT if self._held and self.gate.open else zmq.POLLIN)
        return bool(wanted) or readable(self._leg.monitor.socket)

    def drain(self, budget: int) -> bool:
        """Take monitor events, and send on."""
        self._leg.monitor.drain()
        # Asked, so that its descriptor does not stay ready for an event that concerns nothing here.
        if int(self._socket.getsockopt(zmq.EVENTS)) & zmq.POLLOUT and self._held:
            self.flush()
        return False

    def tick(self, now: float) -> None:
        """The barrier's timeout."""
        if self._held:
            self.flush()

    # -- inside

    def _passes(self) -> bool:
        return self.gate.open or self.gate.passes(self.wired, time.monotonic())

    def _check(self, size: int) -> None:
        if self._ended or self._closed:
            raise ChannelClosed(f"alias {self.alias!r}: the channel was ended")
        if size > self._max_bytes:
            raise MessageTooLarge(f"alias {self.alias!r}: found {size} bytes, maxMessageBytes is {self._max_bytes}")

    def _make_room(self, timeout: float | None) -> bool:
        """Wait until less than `highWaterMark` messages are held; False: drop the newest.

        Raises:
            SendTimeout: `timeout` seconds passed.
        """
        self.flush()
        if self._held < self._limit:
            return True
        if not self._blocks:
            return False
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            now = time.monotonic()
            # Behind a closed barrier the reactor sleeps; with a full socket it only takes a turn, and we sleep on the socket.
            until = now if self.gate.open else min(now + 0.25, deadline or now + 0.25)
            if self._reactor.pump(self._has_room, until):
                return True
            if deadline is not None and time.monotonic() >= deadline:
                raise SendTimeout(f"alias {self.alias!r}: full for {timeout:g} s ({self._held} messages wait)")
            if self.gate.open:
                wait = _WAIT_MS if deadline is None else max(1, min(_WAIT_MS, int((deadline - now) * 1000)))
                self._socket.poll(wait, zmq.POLLOUT)

    def _has_room(self) -> bool:
        return self._held < self._limit


class PushOutlet(_Outlet):
    """Push, best effort: ready messages share one DATA frame."""

    def __init__(self, leg: Leg, reactor: Reactor) -> None:
        self._batch = largest_batch(leg.channel)
        self._bodies: list[bytes] = []
        self._bytes = 0
        self._first = 0
        """Number of the growing batch's first message."""
        self._flushed_at = 0.0
        self._frames: deque[tuple[bytes, int]] = deque()
        self._in_frames = 0
        super().__init__(leg, reactor)
        self._goal = min(self._batch, self._limit)
        """Messages at which the growing batch is complete; 0: look closer before the next one."""
        self._large = min(MAX_BATCH_BYTES // self._batch, self._max_bytes)
        """Larger bodies are looked at closer: a batch of others is small."""

    def send(self, body: bytes | memoryview, *, topic: bytes = b"", timeout: float | None = None) -> MessageId:
        """See `Outlet.send`."""
        # What waits here must not change under us.
        if type(body) is not bytes:
            body = bytes(body)
        size = len(body)
        bodies = self._bodies
        count = len(bodies)
        # One comparison stands for three questions: has END been said, is the batch full, is the high-water mark reached.
        if (count >= self._goal or size > self._large) and not self._admit(size, timeout):
            return self._drop()
        seq = self._first + len(bodies)
        bodies.append(body)
        if len(bodies) >= self._goal:
            self._cut()
            self._put()
        elif not self._reactor.dispatching:
            now = _monotonic()
            if now - self._flushed_at > _COALESCE_SECONDS:
                self._flushed_at = now
                self.flush()
            if not self._reactor.flush_pending:
                self._reactor.flush_soon()
        return _new_id(MessageId, (self.stream, seq))

    def flush(self) -> None:
        """See `Outlet.flush`. A partial batch is cut only when nothing waits before it: a full socket makes fuller batches."""
        if self._frames:
            self._put()
        if not self._frames and self._bodies:
            self._cut()
            self._put()

    @property
    def _accepted(self) -> int:
        return self._first + len(self._bodies)

    @property
    def _held(self) -> int:
        return self._in_frames + len(self._bodies)

    def _forget(self) -> int:
        count = self._held
        self._first += len(self._bodies)
        self._bodies.clear()
        self._frames.clear()
        self._in_frames = 0
        return count

    def _admit(self, size: int, timeout: float | None) -> bool:
        """The rarer cases of a send. False: the message is dropped."""
        self._check(size)
        if self._held >= self._limit and not self._make_room(timeout):
            return False
        if not self._bodies:
            self._bytes = 0
        self._goal = min(self._batch, self._limit - self._in_frames)
        if size > self._large:
            arena.note_sent(size)
            self._bytes += size
            if self._bytes >= MAX_BATCH_BYTES:
                self._goal = len(self._bodies) + 1
        return True

    def _drop(self) -> MessageId:
        # The numbers of one frame are consecutive, so a dropped one ends the batch.
        if self._bodies:
            self._cut()
        seq = self._first
        self._first = seq + 1
        self._dropped += 1
        return MessageId(self.stream, seq)

    def _cut(self) -> None:
        bodies = self._bodies
        count = len(bodies)
        if self._bare:
            self._frames.extend((body, 1) for body in bodies)
        else:
            self._frames.append((encode_data(self.stream, self._first, bodies), count))
        self._first += count
        self._in_frames += count
        bodies.clear()
        self._bytes = 0
        self._goal = 0

    def _put(self) -> None:
        if not self._passes():
            return
        frames, send = self._frames, self._socket.send
        while frames:
            frame, count = frames[0]
            try:
                send(frame, NOBLOCK)
            except zmq.Again:
                break
            frames.popleft()
            self._in_frames -= count
            self._sent += count
        if not self._ended:
            self._goal = min(self._batch, self._limit - self._in_frames)


class PubOutlet(_Outlet):
    """Pub. Subscribers that are too slow lose messages (libzmq drops them); a send blocks only behind the barrier."""

    def __init__(self, leg: Leg, reactor: Reactor) -> None:
        self._waiting: deque[tuple[bytes, bytes, int]] = deque()
        """(topic, frame, messages that it counts for)"""
        self._wired: dict[bytes, int] = {}
        """Who is wired → generation of its subscriptions."""
        self._seq = 0
        super().__init__(leg, reactor)

    def send(self, body: bytes | memoryview, *, topic: bytes = b"", timeout: float | None = None) -> MessageId:
        """See `Outlet.send`."""
        if type(body) is not bytes:
            body = bytes(body)
        self._check(size := len(body))
        if size >= arena.LARGE_SENT_BYTES:
            arena.note_sent(size)
        seq = self._seq
        if self._held >= self._limit and not self._make_room(timeout):
            self._seq = seq + 1
            self._dropped += 1
            return MessageId(self.stream, seq)
        self._seq = seq + 1
        self._waiting.append((topic, body if self._bare else encode_data(self.stream, seq, (body,)), 1))
        self.flush()
        return MessageId(self.stream, seq)

    @property
    def _accepted(self) -> int:
        return self._seq

    @property
    def _held(self) -> int:
        return len(self._waiting)

    def _forget(self) -> int:
        count = sum(counts for _, _, counts in self._waiting)
        self._waiting.clear()
        return count

    @property
    def wired(self) -> int:
        """Subscribers whose subscriptions have arrived."""
        return len(self._wired)

    def flush(self) -> None:
        """See `Outlet.flush`."""
        if not self._waiting or not self._passes():
            return
        waiting, send = self._waiting, self._socket.send
        while waiting:
            topic, frame, counts = waiting.popleft()
            send(topic, NOBLOCK_MORE)
            send(frame, NOBLOCK)
            self._sent += counts
        # Sending may have swallowed the edge that tells of a subscription.
        self._reactor.flush_soon()

    def drain(self, budget: int) -> bool:
        """Take subscriptions."""
        more = True
        try:
            for _ in range(budget):
                message = self._socket.recv(zmq.NOBLOCK)
                if message[1:].startswith(MARKER):
                    self._mark(*marked(message[1:]), there=message[:1] == b"\x01")
        except zmq.Again:
            more = False
        super().drain(budget)
        return more

    def _mark(self, who: bytes, generation: int, *, there: bool) -> None:
        if there:
            self._wired[who] = generation
        elif self._wired.get(who) == generation:
            # A subscriber takes back the marker of an earlier generation when the next one is there.
            del self._wired[who]
