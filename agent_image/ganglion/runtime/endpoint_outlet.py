"""Push and Req of the acknowledged protocol: what an agent sends, on either side of the ipc leg.

A send appends to the growing batch; the batch leaves when it is full, when input has drained, or at once when nothing was sent for a
while, so that a lone message never waits.
"""

from __future__ import annotations

import logging
import secrets
import time
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

from ganglion.runtime import arena, causal
from ganglion.runtime.barrier import BarrierGate
from ganglion.runtime.batches import Batch
from ganglion.runtime.errors import (
    ChannelClosed,
    MessageTooLarge,
    ReceiverAbsent,
    RemoteError,
    ReplierLost,
    RequestTimeout,
    SendTimeout,
)
from ganglion.runtime.links import Link, Port
from ganglion.runtime.plane import MessageId, Reply
from ganglion.runtime.reactor import Reactor
from ganglion.runtime.sender import Sender
from ganglion.wire import frames
from ganglion.wire.control import Ledger
from ganglion.wiring import ChannelWiring

log = logging.getLogger(__name__)

LONE_SECONDS = 0.0002
"""Outside the loop's turns (a function that blocks the loop), a message leaves at once when nothing was sent for so long before it."""
COALESCE_SECONDS = 0.001
"""There, a batch that grew for so long leaves with the next send."""
SERVE_SECONDS = 0.02
"""There, acknowledgements are read so often, or when half of the high water mark is used: to read each at once would keep the I/O thread from
sending what was just sent, where there are fewer CPUs than threads."""

FIRST_BATCH, LEAST_BATCH = 16, 4
QUICK_SECONDS, SLOW_SECONDS = 0.05, 0.2
"""A batch goes to one receiver as a whole. It may have twice as many messages when a full one was settled quickly, and half as many when
one took long: work that takes long is spread."""

REPLY_ERROR, REPLY_LOST = 1, 2

OnReply = Callable[[Reply], None]

_monotonic = time.monotonic
_current = causal.current.get
_new_id = tuple.__new__
_MAX_BATCH_BYTES = frames.MAX_BATCH_BYTES


class EndpointOutlet:
    """Outlet of one alias; its port's links are its receivers, or the sidecar.

    Args:
        reactor: flushes it.
        channel: its wiring.
        on_dead: (id, body, reason) of a message that is given up.
        gate: start barrier.
        stream: id of this sender's incarnation; random when None.
        to: the one receiver of an addressed channel's messages.
    """

    def __init__(
        self,
        reactor: Reactor,
        channel: ChannelWiring,
        *,
        on_dead: Callable[[MessageId, bytes, str], None] = lambda _id, _body, _why: None,
        gate: BarrierGate | None = None,
        stream: int | None = None,
        to: str = "",
    ) -> None:
        self.alias = channel.alias
        self.stream = secrets.randbits(64) if stream is None else stream
        self._reactor = reactor
        self._max_bytes = channel.max_message_bytes
        self._most = channel.batch
        self._batch = min(self._most, FIRST_BATCH)
        """Most messages of a batch, at present."""
        self._high_water_mark = self._room = channel.high_water_mark
        self._block = channel.overflow == "Block"
        self._flags = frames.FLAG_REQUEST if channel.role == "Req" else 0
        self._to = to
        self.lost = False
        """Its receiver is not there: a send that would have to wait raises ReceiverAbsent instead."""
        self._gate = gate if gate is not None and not gate.open else None
        self._port: Port | None = None
        self._sender = Sender(on_settled=self._settled, on_dead=on_dead, on_failed=self._failed)
        self._bodies: list[bytes | memoryview] = []
        self._size = 0
        self._first = 0
        """Sequence of the first message of the growing batch."""
        self._space = min(self._batch, self._room)
        """Messages that may still join the growing batch."""
        self._token: causal.Token | None = None
        self._runs = causal.Runs() if channel.role == "Push" else None
        self._flushed_at = 0.0
        self._sent_at = 0.0
        self._serve_at = 0.0
        self._low = channel.high_water_mark // 2
        self._wired: int | None = None
        self._waiting: dict[int, OnReply] = {}
        self._timeouts: dict[float, deque[tuple[float, int]]] = {}
        self._asking = self._longest = 0.0
        """Timeout of the request that is being sent, and the longest of those in the growing batch."""
        self._blocked = False
        self._end = False
        self._closed = False
        self.on_settled: Callable[[], None] | None = None
        """Called after messages were settled, e.g. to report END at once."""
        reactor.on_flush(self.flush)
        reactor.on_tick(self.tick)

    def attach(self, port: Port) -> None:
        """The port whose links this outlet uses; closed with it."""
        self._port = port

    @property
    def port(self) -> Port | None:
        """The attached port."""
        return self._port

    # -- Outlet

    def send(self, body: bytes | memoryview, *, topic: bytes = b"", timeout: float | None = None) -> MessageId:
        """See `Outlet.send`. `topic` is ignored."""
        size = len(body)
        if size > self._max_bytes:
            raise MessageTooLarge(f"channel {self.alias!r}: body of {size} bytes; maxMessageBytes is {self._max_bytes}")
        # One countdown stands for three questions: has END been said, is the batch full, is the high water mark reached.
        if self._space <= 0 and not self._make_space(timeout):
            return self._drop()
        bodies = self._bodies
        count = len(bodies)
        if (token := _current()) is not self._token:
            self._switch(token, count)
        bodies.append(body)
        id_ = _new_id(MessageId, (self.stream, self._first + count))
        self._size = size = self._size + size
        self._space = space = self._space - 1
        if space == 0 or size >= _MAX_BATCH_BYTES:
            self._seal()
            self._push()
            self._sent_at = self._flushed_at = _monotonic()
        elif not self._reactor.dispatching:
            now = _monotonic()
            if now - self._sent_at > LONE_SECONDS or now - self._flushed_at > COALESCE_SECONDS:
                self._flushed_at = now
                self.flush()
                # Not for a request: its reply could be read here, before anybody waits for it.
                if not self._flags and (now >= self._serve_at or self._room <= self._low or self._sender.pending):
                    self._serve_at = now + SERVE_SECONDS
                    self._reactor.serve()
            self._sent_at = now
            if not self._reactor.flush_pending:
                self._reactor.flush_soon()
        return id_

    def request(self, body: bytes | memoryview, *, timeout: float, on_reply: OnReply) -> MessageId:
        """See `Outlet.request`."""
        deadline = _monotonic() + timeout
        before, self._asking = self._asking, max(self._asking, timeout)
        try:
            id_ = self.send(body, timeout=timeout)
        finally:
            self._asking = before
        if self._bodies:
            self._longest = max(self._longest, timeout)
        self._waiting[id_.seq] = on_reply
        # Requests of one timeout expire in the order in which they were made.
        self._timeouts.setdefault(timeout, deque()).append((deadline, id_.seq))
        return id_

    def inject(self, body: bytes) -> None:
        """Accept a message whatever the high water mark: a dead letter must not wait for room inside an acknowledgement.

        One that is larger than the channel allows is not accepted: its frame would cut every connection that it is sent on.
        """
        if len(body) > self._max_bytes:
            log.error("channel %s: a dead letter of %d bytes is lost; maxMessageBytes is %d", self.alias, len(body), self._max_bytes)
            return
        self._switch(None, len(self._bodies))
        self._bodies.append(body)
        self._size += len(body)
        self._space -= 1
        if len(self._bodies) >= self._batch or self._size >= _MAX_BATCH_BYTES:
            self._seal()
        self._reactor.flush_soon()

    def flush(self) -> None:
        """See `Outlet.flush`."""
        # While a send waits for room, the batch that it will complete waits with it; what is in flight makes that room.
        if self._bodies and not (self._blocked and self._sender.in_flight):
            self._seal()
            self._push()
        elif self._sender.pending:
            self._push()

    def end(self) -> None:
        """See `Outlet.end`."""
        self._end = True
        self._space = 0
        self.flush()

    @property
    def at_rest(self) -> bool:
        """See `Outlet.at_rest`."""
        return not self._bodies and self._sender.at_rest

    @property
    def ended(self) -> bool:
        """END was said and everything is settled."""
        return self._end and self.at_rest

    @property
    def wired(self) -> int:
        """See `Outlet.wired`. Behind a sidecar: what the sidecar tells."""
        return self._sender.links if self._wired is None else self._wired

    def ledger(self) -> Ledger:
        """See `Outlet.ledger`."""
        growing = len(self._bodies)
        ledger = self._sender.ledger()
        return Ledger(
            ledger.accepted + growing, ledger.acked, ledger.in_flight + growing, ledger.dead_lettered, ledger.dropped, ledger.redelivered
        )

    def close(self, linger: float) -> None:
        """See `Outlet.close`. Requests that still wait fail with ChannelClosed."""
        if self._closed:
            return
        self._end = True
        self._space = 0
        try:
            if linger > 0 and not self.at_rest:
                self._reactor.pump(lambda: self.at_rest, _monotonic() + linger)
        except ChannelClosed:
            pass
        finally:
            self._closed = True
            self._reactor.off_flush(self.flush)
            self._reactor.off_tick(self.tick)
            if self._port is not None:
                self._port.close()
        for on_reply in self._take_waiting():
            on_reply(Reply(None, ChannelClosed(f"channel {self.alias!r} was closed")))

    # -- LinkUser

    def link_up(self, link: Link) -> None:
        """A receiver, or the sidecar, is there; it grants credit when it is ready."""
        self._sender.add_link(link, link.send)

    def link_frame(self, link: Link, kind: int, frame: bytes, slot: bytes) -> None:
        """Apply what a receiver says."""
        if kind == frames.ACK:
            self.acked(link, frames.decode_ack(frame))
        elif kind == frames.REPLY:
            self._reply(link, frames.decode_reply(frame))
        elif kind == frames.WELCOME:
            fields = frames.decode_control(frame)[1]
            if "wired" in fields:
                self._wired = frames.count_field(fields, "wired", 0)
            if "messages" in fields:
                self._sender.grant(link, frames.count_field(fields, "messages", 0), frames.count_field(fields, "bytes", 0))
            self.flush()
        elif kind == frames.REVOKE:
            # Everything before this echo is taken back.
            link.send(frames.encode_control(frames.REVOKE))
            self._sender.revoke(link, charge=bool(frames.decode_control(frame)[1].get("charge")))
            self.flush()
        elif kind == frames.DRAIN:
            self._sender.drain(link)

    def acked(self, link: Link, ranges: Iterable[frames.Range]) -> None:
        """Apply what a receiver acknowledged."""
        self._sender.ack(link, ranges)
        if self._sender.pending:
            self._push()

    def give_up(self, why: str) -> None:
        """Dead-letter whatever no link holds."""
        self._seal()
        self._sender.give_up(why)

    def link_down(self, link: Link, *, crashed: bool) -> None:
        """Send what it held to another at once."""
        self._wired = None if self._wired is None else 0
        self._sender.lost(link, charge=crashed and link.charge)
        self.flush()

    def tick(self, now: float) -> None:
        """Let requests time out and the barrier open."""
        if self._gate is not None:
            self.flush()
        for queue in self._timeouts.values():
            while queue and (queue[0][0] <= now or queue[0][1] not in self._waiting):
                seq = queue.popleft()[1]
                on_reply = self._waiting.pop(seq, None)
                if on_reply is None:
                    continue
                self._cancel(seq)
                on_reply(Reply(None, RequestTimeout(f"channel {self.alias!r}: no reply to {MessageId(self.stream, seq)} in time")))
        for timeout in [timeout for timeout, queue in self._timeouts.items() if not queue]:
            del self._timeouts[timeout]

    def forget_requests(self) -> None:
        """See `ReqOutlet.forget_requests`."""
        for seq in tuple(self._waiting):
            del self._waiting[seq]
            self._cancel(seq)

    # -- inside

    def _cancel(self, seq: int) -> None:
        if not self._sender.cancel(self.stream, seq):
            # Not on the wire yet: seal it, so that its loss is on record.
            self._seal()
            self._sender.cancel(self.stream, seq)

    def _make_space(self, timeout: float | None) -> bool:
        """Wait for room. False: the message is to be dropped."""
        if self._end:
            raise ChannelClosed(f"channel {self.alias!r}: end() was called")
        if self._room <= len(self._bodies):
            if not self._block:
                self.flush()
                if self._room <= 0:
                    return False
            elif self.lost:
                raise ReceiverAbsent(self._absence())
            else:
                self._wait(timeout)
        self._space = min(self._batch, self._room) - len(self._bodies)
        if self._space <= 0:
            # Injected messages have filled the batch, or batches have become smaller since it began.
            self._seal()
            self._push()
        return True

    def _wait(self, timeout: float | None) -> None:
        deadline = None if timeout is None else _monotonic() + timeout
        self._blocked = True
        try:
            # Woken for a whole batch: every message that is settled alone would otherwise become a frame.
            self._reactor.pump(lambda: self._room >= self._batch or self.lost, deadline)
        finally:
            self._blocked = False
        if self.lost and self._room <= len(self._bodies):
            raise ReceiverAbsent(self._absence())
        if self._batch > LEAST_BATCH:
            # Who was blocked is no lone sender: what follows is the next batch, and its first message must not be a frame of its own.
            self._sent_at = self._flushed_at = _monotonic()
        if self._room <= len(self._bodies):
            raise SendTimeout(
                f"channel {self.alias!r}: {self._high_water_mark} messages are unacknowledged after {timeout} s ({self.wired} receivers)"
            )

    def _absence(self) -> str:
        return f"channel {self.alias!r}: {self._to!r} is not there, and {self._high_water_mark} messages (highWaterMark) wait for it"

    def _drop(self) -> MessageId:
        self._sender.drop(1)
        # It has an id that nobody else gets; batches hold consecutive sequences only.
        self._seal()
        self._first += 1
        return MessageId(self.stream, self._first - 1)

    def _switch(self, token: causal.Token | None, count: int) -> None:
        # A request is awaited by its handler, or by nobody: no input waits for it.
        if self._runs is not None:
            self._runs.switch(token, count)
        self._token = token

    def _seal(self) -> None:
        bodies = self._bodies
        if not bodies:
            return
        ext: dict[str, Any] | None = None
        if self._flags:
            ext = {"deadline": int(time.time() * 1000 + 1000 * max(self._longest, self._asking))}
            self._longest = 0.0
        elif self._to:
            ext = {"to": self._to}
        frame = frames.encode_data(self.stream, self._first, bodies, flags=self._flags, ext=ext)
        count = len(bodies)
        arena.note_sent(len(frame), count)
        runs = self._runs.seal(count) if self._runs is not None else ()
        self._sender.offer(frame, frames.make_head((self._flags, count, self.stream, self._first, 0)), (count, runs, _monotonic()))
        self._first += count
        self._room -= count
        self._bodies = []
        self._size = 0
        self._token = None
        self._space = 0 if self._end else min(self._batch, self._room)

    def _push(self) -> None:
        if self._gate is not None:
            if not self._gate.passes(self.wired, _monotonic()):
                return
            self._gate = None
        self._sender.pump()
        self._reactor.flush_soon()

    def _settled(self, batch: Batch) -> None:
        count, runs, sealed_at = batch.tokens
        self._room += count
        seconds = _monotonic() - sealed_at
        if seconds > SLOW_SECONDS:
            self._batch = max(min(self._most, LEAST_BATCH), self._batch // 2)
        elif count >= self._batch < self._most and seconds < QUICK_SECONDS:
            self._batch = min(self._most, 2 * self._batch)
        for token, sends in runs:
            token.settled(sends)
        if self.on_settled is not None:
            self.on_settled()

    def _reply(self, link: Link, reply: frames.ReplyFrame) -> None:
        if not self._sender.reply(link, reply.stream, reply.seq, lost=reply.code == REPLY_LOST):
            return
        on_reply = self._waiting.pop(reply.seq, None)
        if on_reply is not None:
            if reply.code == frames.DONE:
                arena.note(len(reply.body))
                on_reply(Reply(reply.body, None))
            elif reply.code == REPLY_LOST:
                on_reply(Reply(None, self._lost_error(reply.seq)))
            else:
                on_reply(Reply(None, RemoteError(*frames.error_fields(reply.body))))
        if self._sender.pending:
            self._push()

    def _failed(self, _stream: int, seq: int) -> None:
        on_reply = self._waiting.pop(seq, None)
        if on_reply is not None:
            on_reply(Reply(None, self._lost_error(seq)))

    def _lost_error(self, seq: int) -> ReplierLost:
        return ReplierLost(f"channel {self.alias!r}: the replier of {MessageId(self.stream, seq)} is gone; whether it acted is unknown")

    def _take_waiting(self) -> list[OnReply]:
        waiting = list(self._waiting.values())
        self._waiting.clear()
        return waiting
