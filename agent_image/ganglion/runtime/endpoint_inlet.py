"""Pull and Rep of the acknowledged protocol: the loop that runs handlers, on either side of the ipc leg.

A link's key is the link itself in process, and the slot of a leg behind a sidecar: what follows is the same.
"""

from __future__ import annotations

import asyncio
import logging
import time
import traceback
from collections import deque
from collections.abc import Generator, Hashable
from functools import partial
from types import CoroutineType, GeneratorType
from typing import Any

from ganglion.runtime import arena
from ganglion.runtime.causal import Token, current
from ganglion.runtime.coroutines import Done, FirstStep
from ganglion.runtime.endpoint_outlet import REPLY_ERROR
from ganglion.runtime.errors import ChannelClosed, MessageTooLarge
from ganglion.runtime.links import NO_SLOT, Link, Port
from ganglion.runtime.plane import InletSpec, MessageId, Verdict
from ganglion.runtime.reactor import Reactor
from ganglion.runtime.receiver import FLUSH_MESSAGES, Receiver
from ganglion.wire import frames
from ganglion.wire.frames import DONE, REJECTED, RELEASED, STARTED
from ganglion.wiring import ChannelWiring

log = logging.getLogger(__name__)

PARTIAL_SECONDS = 0.05
"""While handlers run for longer, what they finished is acknowledged and what they sent leaves: fewer duplicates after a crash, and credit
and results flow."""

_monotonic = time.monotonic


class _Future:
    """A message whose handler returned a future."""

    __slots__ = ("done", "future", "over")

    def __init__(self, future: asyncio.Future[Any], done: Done) -> None:
        self.future = future
        self.done = done
        self.over = False


class EndpointInlet:
    """Inlet of one alias.

    Args:
        reactor: drains its port and flushes its acknowledgements.
        channel: its wiring.
        spec: what to do with messages.
    """

    def __init__(self, reactor: Reactor, channel: ChannelWiring, spec: InletSpec) -> None:
        self.alias = channel.alias
        self._reactor = reactor
        self._handler = spec.handler
        self._decode = spec.decode
        self._encode = spec.encode
        self._on_error = spec.on_error
        self._max_bytes = channel.max_message_bytes
        self._causal = channel.ack == "Causal"
        self._receiver = Receiver(channel.window)
        self._finish = self._receiver.finished
        self._port: Port | None = None
        self._links: set[Link] = set()
        self._revoked: dict[Link, int] = {}
        """Revocations that a sender has not echoed yet."""
        self._routes: dict[Hashable, tuple[Link, bytes]] = {}
        self._senders: dict[Hashable, str] = {}
        """Addresses of those behind the routes."""
        self._steps = FirstStep(reactor.loop)
        self._futures: deque[_Future] = deque()
        self._due = 0.0
        self._started = False
        self._stopping = False
        self._closed = False
        self.delivered = 0
        self.failed = 0
        reactor.on_flush(self._flush)

    def attach(self, port: Port) -> None:
        """The port whose links this inlet uses; closed with it."""
        self._port = port

    @property
    def port(self) -> Port | None:
        """The attached port."""
        return self._port

    # -- Inlet

    def start(self) -> None:
        """See `Inlet.start`."""
        self._started = True
        self._grant_all()

    def suspend(self) -> None:
        """Whoever handled messages has gone: report what is decided, give the rest back without a charge, take nothing until `start`."""
        self._flush()
        self._started = False
        for link in self._links:
            self._revoked[link] = self._revoked.get(link, 0) + 1
            link.send(frames.encode_control(frames.REVOKE, {"charge": False}))
        self._reactor.flush_soon()

    def stop_intake(self) -> None:
        """See `Inlet.stop_intake`."""
        self._stopping = True
        for link in self._links:
            link.send(frames.encode_control(frames.DRAIN))
        self._reactor.flush_soon()

    def resume_intake(self) -> None:
        """See `Inlet.resume_intake`."""
        if not self._stopping or self._closed:
            return
        self._stopping = False
        if self._started:
            self._grant_all()

    @property
    def current(self) -> MessageId | None:
        """See `Inlet.current`."""
        token = current.get()
        # The token of another inlet's message is current too.
        return None if token is None or token.alias != self.alias else token.message_id

    @property
    def idle(self) -> bool:
        """See `Inlet.idle`."""
        return self._receiver.held == 0

    @property
    def wired(self) -> int:
        """Senders with a link."""
        return len(self._routes)

    def subscribe(self, topic: bytes) -> None:
        """Sub only."""
        raise TypeError(f"channel {self.alias!r}: only Sub subscribes")

    def unsubscribe(self, topic: bytes) -> None:
        """Sub only."""
        raise TypeError(f"channel {self.alias!r}: only Sub subscribes")

    def close(self) -> None:
        """See `Inlet.close`. What is not acknowledged is redelivered by its senders."""
        if self._closed:
            return
        self._flush()
        self._closed = True
        self._stopping = True
        self._reactor.off_flush(self._flush)
        self._steps.cancel()
        if self._port is not None:
            self._port.close()

    # -- LinkUser

    def link_up(self, link: Link) -> None:
        """A sender, or the sidecar, is there."""
        self._links.add(link)
        if not link.slotted:
            self._add_route(link, link, NO_SLOT, link.address)
        if self._started:
            self._grant(link)
        if self._stopping:
            link.send(frames.encode_control(frames.DRAIN))

    def link_frame(self, link: Link, kind: int, frame: bytes, slot: bytes) -> None:
        """Handle a batch, or note that a slot came or went."""
        # With its leg: the next sidecar counts its slots anew, while handlers of what this one brought still run.
        key: Hashable = link if slot == NO_SLOT else (link, slot)
        if kind == frames.DATA:
            if link in self._revoked:
                # Sent before the revocation came there: its sender has taken it back, and may send it again.
                return
            if slot != NO_SLOT and key not in self._routes:
                self._add_route(key, link, slot)
            try:
                data = frames.decode_data(frame)
            except frames.FrameError as error:
                self._on_unreadable(key, frames.data_head(frame), error)
            else:
                self._on_batch(key, data)
        elif kind == frames.REVOKE:
            if (left := self._revoked.pop(link, 0) - 1) > 0:
                self._revoked[link] = left
        elif slot != NO_SLOT:
            if kind == frames.WELCOME:
                self._add_route(key, link, slot, str(frames.decode_control(frame)[1].get("address", "")))
            elif kind == frames.BYE:
                self._remove_route(key)

    def link_down(self, link: Link, *, crashed: bool) -> None:
        """Drop what the link held: it is redelivered elsewhere."""
        self._links.discard(link)
        self._revoked.pop(link, None)
        for key, (via, _) in list(self._routes.items()):
            if via is link:
                self._remove_route(key)

    def _grant_all(self) -> None:
        for link in self._links:
            self._grant(link)
        self._reactor.flush_soon()

    def _grant(self, link: Link) -> None:
        link.send(frames.encode_control(frames.WELCOME, self._receiver.grant_fields()))

    def _add_route(self, key: Hashable, link: Link, slot: bytes, sender: str = "") -> None:
        self._routes[key] = (link, slot)
        self._senders[key] = sender
        self._receiver.add_link(key)

    def _remove_route(self, key: Hashable) -> None:
        self._routes.pop(key, None)
        self._senders.pop(key, None)
        self._receiver.lost(key)

    # -- acknowledgements

    def _flush(self) -> None:
        futures = self._futures
        while futures and (futures[0].over or futures[0].future.done()):
            self._future_done(futures.popleft())
        if self._receiver.waiting:
            self._send_acks()

    def _send_acks(self) -> None:
        for key, frame in self._receiver.take():
            self._write(key, frame)

    def _write(self, key: Hashable, frame: bytes) -> None:
        route = self._routes.get(key)
        if route is not None:
            link, slot = route
            if slot == NO_SLOT:
                link.send(frame)
            else:
                link.send_slot(slot, frame)
            self._reactor.flush_soon()

    # -- handlers

    def _on_batch(self, key: Hashable, data: frames.Data) -> None:
        flags, n, stream, first, skip = data.head
        if not self._receiver.received(key, n - skip.bit_count()):
            return
        arena.note(len(data.frame), n)
        if flags & frames.FLAG_REQUEST:
            self._on_requests(key, data)
            return
        handler, decode, finish, frame, offsets = self._handler, self._decode, self._finish, data.frame, data.offsets
        suspicious = bool(flags & frames.FLAG_REDELIVERY)
        due = self._due
        if (began := _monotonic()) > due:
            due = self._due = began + PARTIAL_SECONDS
        sender = self._senders.get(key, "")
        token = Token(finish, key, stream, first, causal=self._causal, alias=self.alias, sender=sender)
        start = 0
        goes_on = False
        reset = current.set(token)
        try:
            for index in range(n):
                if self._stopping or (skip and skip >> index & 1):
                    token.close(index - start)
                    if not skip >> index & 1:
                        finish(key, stream, first + index, 1, RELEASED)
                    start = index + 1
                    token = self._begin(key, stream, first + start, sender)
                    continue
                token.seq = first + index
                if suspicious:
                    # Said at once: if this message kills the process, it alone is charged.
                    finish(key, stream, first + index, 1, STARTED)
                    self._send_acks()
                try:
                    result = handler(decode(frame[offsets[index] : offsets[index + 1]]))
                    if result is not None and self._goes_on(result, token, index - start):
                        # The token is the coroutine's now.
                        goes_on = True
                        start = index + 1
                        token = self._begin(key, stream, first + start, sender)
                        continue
                except Exception as error:  # noqa: BLE001 - the verdict decides, whatever it was
                    token.close(index - start)
                    finish(key, stream, first + index, 1, self._judge(token.message_id, error))
                    start = index + 1
                    token = self._begin(key, stream, first + start, sender)
                if suspicious or _monotonic() > due:
                    token.close(index + 1 - start, tell=suspicious)
                    self._reactor.flush()
                    due = self._due = _monotonic() + PARTIAL_SECONDS
                    start = index + 1
                    token = self._begin(key, stream, first + start, sender)
            token.close(n - start)
        finally:
            current.reset(reset)
        self.delivered += n - skip.bit_count()
        self._learn(n, began, overlap=goes_on or len(self._futures) > 0)
        if self._receiver.waiting >= FLUSH_MESSAGES:
            self._send_acks()

    def _learn(self, count: int, began: float, *, overlap: bool) -> None:
        """Fit the window to what the handlers of `count` messages took since `began`, or to handlers that overlap."""
        changed = self._receiver.overlaps() if overlap else self._receiver.took(count, _monotonic() - began)
        # While intake is stopped or suspended, a WELCOME would ask for more.
        if changed and self._started and not self._stopping:
            self._grant_all()

    def _on_unreadable(self, key: Hashable, head: frames.DataHead, error: frames.FrameError) -> None:
        """Settle what a batch holds whose bodies cannot be told apart: its sender would otherwise wait for it, or send it, for ever."""
        if not self._receiver.received(key, head.n - head.skip.bit_count()):
            return
        log.warning("channel %s: %d messages of stream %016x cannot be read: %s", self.alias, head.n, head.stream, error)
        for index in range(head.n):
            if head.skip >> index & 1:
                continue
            self.failed += 1
            if not head.flags & frames.FLAG_REQUEST:
                self._finish(key, head.stream, head.first + index, 1, REJECTED)
            elif self._receiver.answered(key):
                text = f"the request cannot be read: {error}"
                self._write(
                    key, frames.encode_error(head.stream, head.first + index, type_name="FrameError", message=text, code=REPLY_ERROR)
                )
        self._send_acks()

    def _begin(self, key: Hashable, stream: int, first: int, sender: str) -> Token:
        token = Token(self._finish, key, stream, first, causal=self._causal, alias=self.alias, sender=sender)
        current.set(token)
        return token

    def _goes_on(self, result: Any, token: Token, before: int) -> bool:
        """Whether a handler's result is a coroutine or future that is not finished. `before` messages of the token preceded it.

        Raises:
            Exception: what the coroutine raised before it first waited.
        """
        if type(result) is CoroutineType:
            finished, _ = self._steps.run(result, partial(self._coroutine_done, token, before))
            return not finished
        if isinstance(result, asyncio.Future):
            self._await(result, partial(self._coroutine_done, token, before))
            return True
        return False

    def _await(self, future: asyncio.Future[Any], done: Done) -> None:
        entry = _Future(future, done)
        self._futures.append(entry)
        future.add_done_callback(lambda _future: self._future_done(entry))

    def _future_done(self, entry: _Future) -> None:
        if entry.over:
            return
        entry.over = True
        future = entry.future
        error = asyncio.CancelledError() if future.cancelled() else future.exception()
        entry.done(None if error is not None else future.result(), error)
        self._reactor.flush_soon()

    def _coroutine_done(self, token: Token, before: int, _value: Any, error: BaseException | None) -> None:
        if error is None:
            token.close(before + 1)
        else:
            token.close(before)
            self._finish(token.link, token.stream, token.seq, 1, self._judge(token.message_id, error))
        if self._receiver.waiting >= FLUSH_MESSAGES:
            self._send_acks()
        self._reactor.flush_soon()

    def _judge(self, message_id: MessageId, error: BaseException) -> int:
        if self._stopping and isinstance(error, ChannelClosed | asyncio.CancelledError):
            return RELEASED
        self.failed += 1
        verdict = self._on_error(message_id, error)
        return {Verdict.DONE: DONE, Verdict.REJECT: REJECTED, Verdict.RELEASE: RELEASED}[verdict]

    # -- requests

    def _on_requests(self, key: Hashable, data: frames.Data) -> None:
        _, n, stream, first, skip = data.head
        began = _monotonic()
        for index in range(n):
            if skip >> index & 1:
                continue
            seq = first + index
            if self._stopping:
                self._finish(key, stream, seq, 1, RELEASED)
                continue
            self.delivered += 1
            # Sends inside a request's handler delay nothing: the reply goes out when the handler returns.
            token = Token(lambda *_: None, key, stream, seq, alias=self.alias, sender=self._senders.get(key, ""))
            reset = current.set(token)
            try:
                result = self._handler(self._decode(data.body(index)))
                if type(result) is CoroutineType:
                    finished, result = self._steps.run(result, partial(self._answer, token))
                    if not finished:
                        continue
                elif isinstance(result, asyncio.Future):
                    self._await(result, partial(self._answer, token))
                    continue
                elif type(result) is GeneratorType:
                    self._answer_early(token, result)
                    continue
            except Exception as error:  # noqa: BLE001 - the requester is told whatever it was
                self._answer(token, None, error)
            else:
                self._answer(token, result, None)
            finally:
                current.reset(reset)
        self._learn(n, began, overlap=len(self._steps) + len(self._futures) > 0)

    def _answer_early(self, token: Token, handler: Generator[Any, Any, Any]) -> None:
        """A handler that yields its reply goes on when the reply is on the wire; what it raises then is told here only.

        Raises:
            Exception: what it raised before its reply.
        """
        try:
            reply = next(handler)
        except StopIteration:
            raise ValueError("the handler ended without a reply; it must yield one") from None
        self._answer(token, reply, None)
        error: Exception | None = None
        try:
            if next(handler, self) is not self:
                handler.close()
                error = ValueError("the handler yielded again; it must yield one reply")
        except Exception as raised:  # noqa: BLE001 - user code
            error = raised
        if error is not None:
            self._judge(token.message_id, error)

    def _answer(self, token: Token, result: Any, error: BaseException | None) -> None:
        key, stream, seq = token.link, token.stream, token.seq
        if not self._receiver.answered(key):
            return
        if error is None:
            try:
                body = b"" if self._encode is None else self._encode(result)
            except Exception as unencodable:  # noqa: BLE001 - the requester is told whatever it was
                error = unencodable
            else:
                # Sent all the same, it would cost the connection, and with it everything else that is under way on it.
                if len(body) > self._max_bytes:
                    error = MessageTooLarge(f"channel {self.alias!r}: a reply of {len(body)} bytes; maxMessageBytes is {self._max_bytes}")
        if error is None:
            self._write(key, frames.encode_reply(stream, seq, body))
            return
        self.failed += 1
        kind = type(error)
        # Before it is told here: what is logged is cut to the user's own lines.
        text = "".join(traceback.format_exception(error))
        self._on_error(token.message_id, error)
        name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
        self._write(key, frames.encode_error(stream, seq, type_name=name, message=str(error), traceback=text, code=REPLY_ERROR))
