"""Channels: many outstanding requests (ASYNC_REP), and requests whose replies keep their place among publications (SYNC_PUB).

ASYNC_REP  server PULL ◀─ [head, body] ─ PUSH client;  server PUSH ─ [head, body] ─▶ PULL client, whose address is in the request's head
SYNC_PUB   server PUB ─ [channel uuid + topic, body] ─▶ SUB client;  server PULL ◀─ [head, body] ─ PUSH client;
           the reply goes out on the same PUB: [client uuid, head, body]
A head is msgpack: client uuid, request uuid, failed, and for ASYNC_REP the transport and address of the client's PULL.
"""

from __future__ import annotations

import functools
import inspect
from collections import OrderedDict
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import msgspec
import zmq

from ganglion.codecs import Body
from ganglion.imperative.addresses import AgentAddress, AgentChannel, AgentChannelKind, unique_identifier
from ganglion.imperative.failures import decode_error, encode_error
from ganglion.imperative.sending import send_slowly
from ganglion.imperative.sockets import Entry, need_handler
from ganglion.sdk.channels import Sender
from ganglion.sdk.handlers import resolve

if TYPE_CHECKING:
    from ganglion.imperative.core import Core

MAX_CLIENTS = 256
"""Connections back to clients of ASYNC_REP that are kept; the one that was not used for longest is closed."""


class Head(msgspec.Struct, array_like=True, frozen=True):
    """See the module."""

    client: bytes
    request: bytes
    failed: bool = False
    transport: str = ""
    address: str = ""


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Head).decode


class _Pending:
    __slots__ = ("entry", "handler", "timer")

    def __init__(self, entry: Entry, handler: Any) -> None:
        self.entry = entry
        self.handler = handler
        self.timer: Any = None


class Requests:
    """The channels of one agent, and what they wait for."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._pending: dict[bytes, _Pending] = {}
        self._handlers: dict[Entry, Any] = {}
        """Default reply handler by the socket that sends the requests."""
        self._uuids: dict[Entry, bytes] = {}
        self._back: OrderedDict[tuple[str, str], Entry] = OrderedDict()

    def __len__(self) -> int:
        return len(self._pending)

    def closed(self, entry: Entry) -> None:
        """One socket is closed: what was asked through it is not answered any more, but who waits for a reply is still told."""
        if self._uuids.pop(entry, None) is not None:
            self._handlers.pop(entry, None)
            lost = [request for request, pending in self._pending.items() if pending.entry is entry and pending.timer is None]
            for request in lost:
                del self._pending[request]

    def forget(self) -> None:
        """All sockets are closed: nothing will be answered."""
        for pending in self._pending.values():
            if pending.timer is not None:
                pending.timer.cancel()
        self._pending.clear()
        self._handlers.clear()
        self._uuids.clear()
        self._back.clear()

    # -- the server

    def bind(self, kind: AgentChannelKind, alias: Any, handler: Any, addr: Any, transport: str, serializer: str) -> Any:
        """Bind a channel."""
        core = self._core
        if kind not in ("ASYNC_REP", "SYNC_PUB"):
            raise NotImplementedError(f"Unsupported channel kind {kind}!")
        need_handler(handler, required=True)
        resolved = core.resolve(handler, may_yield=True)
        if kind == "ASYNC_REP":
            entry = core.sockets.bind("PULL", transport, addr, serializer)
            assert isinstance(entry.place, AgentAddress)
            channel = AgentChannel(kind, receiver=entry.place, sender=None)
            entry.place, entry.handler = channel, resolved
            core.add(entry, alias, channel)
            return channel
        if addr:
            raise NotImplementedError("addr: a SYNC_PUB channel has two sockets; their addresses are chosen")
        pull = core.sockets.bind("PULL_SYNC_PUB", transport, None, serializer)
        try:
            entry = core.sockets.bind("PUB", transport, None, serializer)
        except BaseException:
            core.sockets.close(pull, 0)
            raise
        assert isinstance(entry.place, AgentAddress)
        assert isinstance(pull.place, AgentAddress)
        channel = AgentChannel(kind, receiver=pull.place, sender=entry.place)
        entry.place, entry.partner = channel, pull
        pull.handler, pull.partner = resolved, entry
        core.add(pull, pull.place)
        core.add(entry, alias, channel)
        return channel

    def taker(self, entry: Entry) -> Callable[[], None]:
        """What takes one message of a channel's receiving socket; raises zmq.Again when there is none."""
        if isinstance(entry.place, AgentChannel):
            return lambda: self._serve(entry, self._answer_directly)
        if entry.kind == "PULL_SYNC_PUB":
            publisher = entry.partner
            assert publisher is not None
            return lambda: self._serve(entry, functools.partial(self._answer_published, publisher))
        from ganglion.imperative.receiving import receive_parts

        return lambda: self._take_reply(entry, receive_parts(entry))

    def _serve(self, entry: Entry, answer: Callable[[Entry, Head, bool, Body], None]) -> None:
        from ganglion.imperative.receiving import core_reply, receive_parts

        parts = receive_parts(entry)
        if len(parts) != 2:
            raise ValueError(f"{entry.place}: found {len(parts)} frames; a request has a head and a body")
        head = _decode(parts[0])

        def respond(value: Any) -> None:
            try:
                body = entry.codec.encode(value)
            except Exception as error:
                refuse(error)
                raise
            answer(entry, head, False, body)

        def refuse(error: BaseException) -> None:
            answer(entry, head, True, encode_error(error))

        core_reply(self._core, entry, parts[1], respond, refuse)

    def _answer_directly(self, entry: Entry, head: Head, failed: bool, body: Body) -> None:
        place = (head.transport, head.address)
        back = self._back.get(place)
        if back is None or back.closed:
            serializer = entry.place.serializer
            back = self._core.sockets.connect(AgentAddress(head.transport, head.address, "PUSH", "client", serializer))
            self._core.sockets.register(back, back.place)
            self._back[place] = back
            while len(self._back) > MAX_CLIENTS:
                _, oldest = self._back.popitem(last=False)
                if not oldest.closed:
                    self._core.sockets.close(oldest, None)
        self._back.move_to_end(place)
        # To a client that is gone it must not wait: what does not fit is dropped, and the client's own timeout tells.
        try:
            back.socket.send_multipart([_encode(Head(head.client, head.request, failed)), body], zmq.NOBLOCK)
        except zmq.Again:
            self._core.agent.log_warning(f"a reply to {head.address} was dropped: its client takes no more")

    def _answer_published(self, publisher: Entry, entry: Entry, head: Head, failed: bool, body: Body) -> None:
        del entry
        publisher.socket.send_multipart([head.client, _encode(Head(head.client, head.request, failed)), body], zmq.NOBLOCK)

    # -- the client

    def connect(self, channel: AgentChannel, alias: Any, handler: Any) -> AgentChannel | None:
        """Connect to a channel."""
        core = self._core
        key = channel if channel.kind == "ASYNC_REP" else channel.twin() if channel.kind == "SYNC_PUB" else None
        if key is None or channel.receiver is None:
            raise NotImplementedError(f"Unsupported channel kind {channel.kind}!")
        if key in core.sockets:
            raise NotImplementedError("Tried to (re)connect a channel")
        uuid = unique_identifier()
        if channel.kind == "ASYNC_REP":
            push = core.sockets.connect(channel.receiver.twin())
            # The same transport as the requests: a server on another host could not reach an ipc socket.
            replies = core.sockets.bind("PULL", channel.transport, None, channel.serializer)
            push.place = key
        else:
            assert key.receiver is not None
            assert key.sender is not None
            topics = core.resolve_topics(handler) if handler is not None else {}
            push = core.sockets.connect(key.sender)
            replies = core.sockets.connect(key.receiver)
            push.place = key
            replies.socket.set(zmq.SUBSCRIBE, uuid)
            for topic, one in topics.items():
                replies.topics[channel.uuid + topic] = one
                replies.socket.set(zmq.SUBSCRIBE, channel.uuid + topic)
        push.partner, replies.partner = replies, push
        self._uuids[push] = self._uuids[replies] = uuid
        replies.handler = _unused
        self._handlers[push] = handler if channel.kind == "ASYNC_REP" else None
        core.add(push, alias, key)
        core.sockets.register(replies, replies.place)
        core.add(replies, replies.place)
        return key if channel.kind == "SYNC_PUB" else None

    def sender(self, entry: Entry) -> Sender | None:
        """`send` of a channel, without handler, wait and on_error."""
        assert isinstance(entry.place, AgentChannel)
        if entry.place.kind == "SYNC_PUB":
            return functools.partial(_publish, entry, entry.place.uuid)
        if entry in self._uuids:
            return lambda value, topic, _timeout: self.send(entry, value, topic, None, None, None)
        return None

    def send(self, entry: Entry, value: Any, topic: Any, handler: Any, wait: float | None, on_error: Any) -> None:
        """Send a request.

        Raises:
            ValueError: nobody would get the reply of a SYNC_PUB request.
            NotImplementedError: the socket sends no requests.
        """
        place = entry.place
        uuid = self._uuids.get(entry)
        if uuid is None or not isinstance(place, AgentChannel):
            if handler is None and on_error is None and wait is None:
                raise NotImplementedError(f"{place}: found kind {entry.kind}, which does not send")
            # As for any other socket: there is no reply, so these have no use.
            self._core.agent.send(place, value, topic)
            return
        if handler is None and place.kind == "SYNC_SUB":
            raise ValueError("No handler for SYNC_PUB request")
        chosen = handler if handler is not None else self._handlers.get(entry)
        call = None if chosen is None else self._core.resolve(chosen)
        failed = None if on_error is None else resolve_on_error(self._core.agent, on_error)
        head = Head(uuid, unique_identifier())
        replies = entry.partner.place if entry.partner is not None else None
        if place.kind == "ASYNC_REP" and isinstance(replies, AgentAddress):
            head = Head(uuid, head.request, False, str(replies.transport), str(replies.address))
        body = entry.codec.encode(value)
        parts = [_encode(head), body]
        pending = self._pending[head.request] = _Pending(entry, call)
        try:
            try:
                entry.socket.send_multipart(parts, zmq.NOBLOCK)
            except zmq.Again:
                send_slowly(self._core, entry, parts, None)
        except BaseException:
            del self._pending[head.request]
            raise
        if wait:
            pending.timer = self._core.loop.call_later(wait, self._overdue, head.request, wait, failed)

    def _overdue(self, request: bytes, wait: float, on_error: Callable[[], Any] | None) -> None:
        if self._pending.pop(request, None) is None:
            return
        if on_error is None:
            self._core.agent.log_warning(f"Did not receive request {request!r} after {wait} seconds")
            return
        try:
            result = on_error()
        except Exception as error:  # noqa: BLE001 - user code
            self._core.failed("on_error", error)
            return
        if inspect.isawaitable(result):
            self._core.spawn(result, "on_error")

    def _take_reply(self, entry: Entry, parts: list[Body]) -> None:
        if entry.kind == "SUB" and len(parts) == 2:
            self._publication(entry, bytes(parts[0]), parts[1])
            return
        if len(parts) not in (2, 3):
            raise ValueError(f"{entry.place}: found {len(parts)} frames; a reply has a head and a body")
        head, body = _decode(parts[-2]), parts[-1]
        pending = self._pending.pop(head.request, None)
        if pending is None:
            self._core.agent.log_warning(f"Received response for an unknown request! {head.request!r}")
            return
        if pending.timer is not None:
            pending.timer.cancel()
        if head.failed:
            # There is no caller on the stack to raise it at.
            raise decode_error(bytes(body))
        if pending.handler is None:
            raise ValueError(f"{entry.place}: a reply arrived, and neither send() nor connect() was given a handler for it")
        result = pending.handler(entry.codec.decode(body))
        if inspect.isawaitable(result):
            self._core.spawn(result, "handler")

    def _publication(self, entry: Entry, topic: bytes, body: Body) -> None:
        # The channel's own prefix is none of the user's business.
        shown = 32
        value = topic[shown:] + body if entry.raw else entry.codec.decode(body)
        for prefix, handler in list(entry.topics.items()):
            if topic.startswith(prefix):
                result = handler(prefix[shown:], value)
                if inspect.isawaitable(result):
                    self._core.spawn(result, "handler")


def _publish(entry: Entry, uuid: bytes, value: Any, topic: str | bytes, _timeout: float | None) -> None:
    body = entry.codec.encode(value)
    entry.socket.send(uuid + (topic.encode() if isinstance(topic, str) else topic), zmq.SNDMORE | zmq.NOBLOCK)
    entry.socket.send(body, zmq.NOBLOCK)


def _unused(_message: Any) -> None:
    """Stands for "this socket receives": its messages go to the handlers of their requests."""


def resolve_on_error(agent: Any, on_error: Any) -> Callable[[], Any]:
    """What is called when there was no reply: a method's name, a method, or a function that takes the agent."""
    if isinstance(on_error, str):
        return functools.partial(getattr(agent, on_error))
    if inspect.ismethod(on_error):
        return on_error
    return functools.partial(resolve(agent, {}, lambda _agent, _message: on_error(agent), topics=False, may_yield=False), None)
