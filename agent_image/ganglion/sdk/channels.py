"""The agent's aliases: what `send` and `recv` reach.

`senders` is the hot path of a send: one function per alias, bound once, that encodes and offers. Everything an alias cannot do is decided
when the table is made, not for each message.
"""

from __future__ import annotations

import asyncio
import functools
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, cast

from ganglion.codecs import Codec, get_codec
from ganglion.runtime.errors import ConfigurationError
from ganglion.runtime.plane import Inlet, InletSpec, MessageId, Outlet, Plane, Reply, ReqOutlet, SyncInlet, SyncOutlet, Verdict
from ganglion.sdk.errors import AliasError, HandlerError
from ganglion.sdk.handlers import Handlers, resolve, topic_bytes
from ganglion.sdk.mailbox import Mailbox
from ganglion.sdk.sync_pub import SyncPublisher, SyncSubscriber
from ganglion.wiring import ChannelWiring, WiringDocument

Sender = Callable[[Any, str | bytes, float | None], MessageId | None]
OnError = Callable[[str, MessageId, BaseException], Verdict]


def _codec(channel: ChannelWiring, *, trusted: bool) -> Codec:
    """The codec as this role uses it.

    Raises:
        UnknownCodec, CodecForbidden.
    """
    if channel.codec != "Protobuf":
        return get_codec(channel.codec, allow_code=trusted)
    from ganglion.codecs.messages import named_codec

    sent = received = channel.message_type or ""
    if channel.role == "Req":
        received = channel.reply_type or ""
    elif channel.role == "Rep":
        sent = channel.reply_type or ""
    return named_codec(sent, received)


class Channels:
    """Outlets, inlets and mailboxes of one agent.

    Args:
        wiring: the document.
        plane: where outlets and inlets are made.
        loop: the main loop.
        on_error: (alias, message id, exception) → verdict; must not raise.
        wake: called when a mailbox got something.
    Raises:
        ConfigurationError: a codec is unknown or forbidden.
    """

    def __init__(
        self, wiring: WiringDocument, plane: Plane, loop: asyncio.AbstractEventLoop, *, on_error: OnError, wake: Callable[[], None]
    ) -> None:
        self._plane = plane
        self._loop = loop
        self._on_error = on_error
        self._wake = wake
        self.wirings: Mapping[str, ChannelWiring] = {c.alias: c for c in wiring.channels if c.speaks == "Sdk"}
        self.inward = {c.alias: c.inward for c in self.wirings.values() if c.inward is not None}
        """Alias of two directions → the one that messages come in by. The agent's code knows only the former."""
        self._called = {inward: alias for alias, inward in self.inward.items()}
        self.outlets: dict[str, Outlet] = {}
        self.inlets: dict[str, Inlet] = {}
        self.mailboxes: dict[str, Mailbox] = {}
        self.senders: dict[str, Sender] = {}
        self._codecs: dict[str, Codec] = {}
        self._handlers: dict[str, Handlers] = {}
        self._topics: dict[str, list[bytes]] = {}
        """Subscriptions that were changed before the inlet was opened."""
        trusted = wiring.name_server.remote_code == "Trusted"
        for alias, channel in self.wirings.items():
            try:
                self._codecs[alias] = _codec(channel, trusted=trusted)
            except (ValueError, PermissionError) as error:
                raise ConfigurationError(f"channels[{alias}]: {error}") from error
        for alias, channel in self.wirings.items():
            if channel.sends:
                self.outlets[alias] = plane.outlet(alias)
            self.senders[alias] = self._sender(alias, channel)
        self.publishers: dict[str, SyncPublisher] = {}
        """By the alias that requests come in by."""
        self.subscribers: dict[str, SyncSubscriber] = {}
        """By the alias that publications come in by."""
        for alias, inward in self.inward.items():
            outlet, codec = self.outlets[alias], self._codecs[alias]
            if self.wirings[alias].role == "Pub":
                late = functools.partial(self._late_error, inward)
                self.publishers[inward] = SyncPublisher(alias, cast("SyncOutlet", outlet), codec, loop, late)
            elif self.wirings[alias].role == "Req":
                self.subscribers[inward] = SyncSubscriber(alias, cast("ReqOutlet", outlet), codec, loop)

    # -- sending

    def _sender(self, alias: str, channel: ChannelWiring) -> Sender:
        encode = self._codecs[alias].encode
        if channel.addressed:
            tell = self.outlets[alias].send
            return lambda value, to, timeout: tell(encode(value), topic=topic_bytes(to), timeout=timeout)
        if channel.role == "Push":
            offer = self.outlets[alias].send
            return lambda value, _topic, timeout: offer(encode(value), timeout=timeout)
        if channel.role == "Pub":
            publish = self.outlets[alias].send
            return lambda value, topic, timeout: publish(encode(value), topic=topic_bytes(topic), timeout=timeout)
        if channel.role == "Rep":
            return lambda value, _topic, _timeout: self._reply(alias, value)
        advice = "use send_recv, `await request`, or give send() a handler for the reply" if channel.role == "Req" else "this role receives"
        message = f"channel {alias!r}: role {_role(channel)} cannot send by itself; {advice}"

        def refuse(_value: Any, _topic: str | bytes, _timeout: float | None) -> MessageId | None:
            raise AliasError(message)

        return refuse

    def _reply(self, alias: str, value: Any) -> None:
        mailbox = self.mailboxes.get(alias)
        if mailbox is None or not mailbox.finish(value):
            raise AliasError(f"channel {alias!r}: no request is waiting for a reply; recv() one first (a handler replies by returning)")

    def request(self, alias: str, value: Any, timeout: float) -> asyncio.Future[Any]:
        """Send a request; the future has the decoded reply or the error, within `timeout` seconds.

        Raises:
            AliasError: the alias is not a Req role.
            EncodeError, MessageTooLarge, SendTimeout, ChannelClosed: nothing was sent.
        """
        future: asyncio.Future[Any] = self._loop.create_future()
        subscriber = self.asker(alias)

        def settle(reply: Any, error: Exception | None) -> None:
            if future.done():
                return
            if error is not None:
                future.set_exception(error)
            else:
                future.set_result(reply)
                if subscriber is not None:
                    subscriber.hold()

        self.ask(alias, value, timeout, settle)
        return future

    def asker(self, alias: str) -> SyncSubscriber | None:
        """Who asks for an alias with role SyncSub; None: it has another, or does not exist."""
        return self.subscribers.get(self.inward.get(alias, ""))

    def ask(self, alias: str, value: Any, timeout: float, on_reply: Callable[[Any, Exception | None], Any]) -> None:
        """Send a request and call back with the decoded reply or the error, within `timeout` seconds, while it still counts as unsettled.

        For a SyncSub a reply is handed over in its place among the publications; what `on_reply` returns is awaited as a handler's result is.

        Raises:
            AliasError: the role makes no requests, or a SyncSub has no handler for its publications.
            EncodeError, MessageTooLarge, SendTimeout, ChannelClosed: nothing was sent.
        """
        channel = self.wiring(alias)
        if channel.role != "Req":
            raise AliasError(f"channel {alias!r}: role {_role(channel)} makes no requests; only Req and SyncSub do")
        subscriber = self.asker(alias)
        if subscriber is not None:
            if not self.has_handler(self.inward[alias]):
                raise AliasError(
                    f"channel {alias!r}: has no handler for its publications, so a reply has no place among them; give it one, or only recv()"
                )
            subscriber.ask(value, timeout, on_reply)
            return
        codec = self._codecs[alias]

        def replied(reply: Reply) -> None:
            value, error = None, reply.error
            if error is None:
                try:
                    value = codec.decode(b"" if reply.body is None else reply.body)
                except Exception as failure:  # noqa: BLE001 - whatever a codec does, the requester must hear of it
                    error = failure
            on_reply(value, error)

        self.outlets[alias].request(codec.encode(value), timeout=timeout, on_reply=replied)

    def wiring(self, alias: str) -> ChannelWiring:
        """Wiring of an alias.

        Raises:
            AliasError: there is none.
        """
        channel = self.wirings.get(alias)
        if channel is None:
            raise AliasError(f"channel {alias!r}: this agent has no such alias; it has: {', '.join(self.aliases) or 'none'}")
        return channel

    @property
    def aliases(self) -> tuple[str, ...]:
        """Aliases that the agent's code knows."""
        return tuple(alias for alias in self.wirings if alias not in self._called)

    def called(self, alias: str) -> str:
        """What the agent's code calls an alias."""
        return self._called.get(alias, alias)

    # -- receiving

    def handle(self, alias: str, handlers: Handlers) -> None:
        """Give an alias its handler, before its inlet is opened.

        Raises:
            AliasError: the role does not receive, or its inlet is open.
        """
        alias = self.inward.get(alias, alias)
        channel = self.wiring(alias)
        if channel.sends:
            raise AliasError(f"channel {alias!r}: role {_role(channel)} receives nothing, so it takes no handler")
        if alias in self.inlets:
            raise AliasError(
                f"channel {self.called(alias)!r}: receives already; set its handler in on_init or before_loop, or before the first recv()"
            )
        self._handlers[alias] = handlers

    def has_handler(self, alias: str) -> bool:
        """Whether the manifest or `handle` gave this receiving alias a handler."""
        channel = self.wirings[alias]
        return bool(alias in self._handlers or channel.handler or channel.topic_handlers)

    def open_inlet(self, agent: object, module: Mapping[str, Any], alias: str) -> Inlet:
        """Make the inlet of an alias; messages arrive after its `start`.

        Raises:
            ConfigurationError: its handler cannot be one.
        """
        channel = self.wirings[alias]
        codec = self._codecs[alias]
        topics = channel.role == "Sub"
        handlers: Handlers | None = self._handlers.get(alias)
        if handlers is None and channel.topic_handlers:
            handlers = {entry.topic: entry.handler for entry in channel.topic_handlers}
        elif handlers is None:
            handlers = channel.handler
        if alias in self.publishers:
            return self._open_publisher(agent, module, alias, handlers)
        if handlers is None:
            mailbox = self.mailboxes[alias] = Mailbox(self._loop, self._wake)
            handler: Callable[..., Any] = mailbox.put_topic if topics else mailbox.put
        else:
            try:
                handler = resolve(agent, module, handlers, topics=topics, may_yield=channel.role == "Rep")
            except HandlerError as error:
                raise ConfigurationError(f"channels[{self.called(alias)}].handler: {error}") from error
        spec = InletSpec(
            alias=alias,
            decode=codec.decode,
            handler=handler,
            encode=codec.encode if channel.role == "Rep" else None,
            on_error=self._judge(alias),
            topics=tuple(self._topics[alias] if alias in self._topics else self._declared_topics(alias)),
            polled=alias in self.mailboxes,
        )
        subscriber = self.subscribers.get(alias)
        if subscriber is not None:
            spec = replace(spec, mark=subscriber.mark, on_reply=subscriber.replied)
        inlet = self.inlets[alias] = self._plane.inlet(spec)
        if subscriber is not None:
            subscriber.inlet = cast("SyncInlet", inlet)
        return inlet

    def _open_publisher(self, agent: object, module: Mapping[str, Any], alias: str, handlers: Handlers | None) -> Inlet:
        try:
            handler = None if handlers is None else resolve(agent, module, handlers, topics=False, may_yield=True)
        except HandlerError as error:
            raise ConfigurationError(f"channels[{self.called(alias)}].handler: {error}") from error
        publisher = self.publishers[alias]
        publisher.handle(handler)
        spec = InletSpec(alias=alias, decode=_undecoded, handler=publisher.serve, encode=_no_body, on_error=self._judge(alias))
        inlet = self.inlets[alias] = self._plane.inlet(spec)
        return inlet

    def _judge(self, alias: str) -> Callable[[MessageId, BaseException], Verdict]:
        on_error, name = self._on_error, self.called(alias)
        return lambda message, error: on_error(name, message, error)

    def _late_error(self, alias: str, error: BaseException) -> None:
        self._on_error(self.called(alias), self.inlets[alias].current or MessageId(0, 0), error)

    def _declared_topics(self, alias: str) -> list[bytes]:
        """A mapping names its topics; otherwise the manifest does."""
        handlers = self._handlers.get(alias)
        return [topic_bytes(topic) for topic in (handlers if isinstance(handlers, Mapping) else self.wirings[alias].topics)]

    def subscribe(self, alias: str, topic: bytes) -> None:
        """Sub, SyncSub: also take topics with this prefix.

        Raises:
            AliasError: no such alias, or its role has no topics.
        """
        alias = self.inward.get(alias, alias)
        inlet = self._subscriber(alias)
        if inlet is not None:
            inlet.subscribe(topic)
        else:
            self._topics.setdefault(alias, self._declared_topics(alias)).append(topic)

    def unsubscribe(self, alias: str, topic: bytes) -> None:
        """Undo `subscribe`; an unknown topic changes nothing. Otherwise as `subscribe`."""
        alias = self.inward.get(alias, alias)
        inlet = self._subscriber(alias)
        if inlet is not None:
            inlet.unsubscribe(topic)
        else:
            topics = self._topics.setdefault(alias, self._declared_topics(alias))
            self._topics[alias] = [known for known in topics if known != topic]

    def _subscriber(self, alias: str) -> Inlet | None:
        channel = self.wiring(alias)
        if channel.role != "Sub":
            raise AliasError(f"channel {self.called(alias)!r}: role {_role(channel)} has no topics; only Sub and SyncSub subscribe")
        return self.inlets.get(alias)

    @property
    def receiving(self) -> list[str]:
        """Aliases whose role receives."""
        return [alias for alias, channel in self.wirings.items() if not channel.sends]

    def inlet(self, alias: str) -> Inlet:
        """Open inlet of an alias.

        Raises:
            AliasError: no such alias, it does not receive, or it does not yet.
        """
        channel = self.wiring(alias)
        if channel.sends:
            raise AliasError(f"channel {alias!r}: role {channel.role} receives nothing")
        if alias not in self.inlets:
            raise AliasError(f"channel {alias!r}: does not receive yet; the loop has not begun")
        return self.inlets[alias]

    # -- state

    @property
    def idle(self) -> bool:
        """Nothing is being handled on any alias."""
        return all(inlet.idle for inlet in self.inlets.values())

    @property
    def delivered(self) -> int:
        """Messages handed to handlers so far."""
        return sum(inlet.delivered for inlet in self.inlets.values())

    @property
    def at_rest(self) -> bool:
        """Nothing sent is unsettled."""
        return all(outlet.at_rest for outlet in self.outlets.values())

    def unsettled(self) -> dict[str, int]:
        """Alias → messages in flight, where there are any."""
        ledgers = {alias: outlet.ledger().in_flight for alias, outlet in self.outlets.items()}
        return {alias: count for alias, count in ledgers.items() if count}

    def stop_intake(self) -> None:
        """Take no more input; what waits for a reply among publications is not answered any more."""
        for inlet in self.inlets.values():
            inlet.stop_intake()
        for subscriber in self.subscribers.values():
            subscriber.stop_intake()

    def resume_intake(self) -> None:
        """Undo `stop_intake`."""
        for inlet in self.inlets.values():
            inlet.resume_intake()
        for subscriber in self.subscribers.values():
            subscriber.resume_intake()

    def close(self, linger: float) -> None:
        """Release everything; wait at most `linger` seconds in all for what is unsettled."""
        deadline = time.monotonic() + linger
        for inlet in self.inlets.values():
            inlet.close()
        for subscriber in self.subscribers.values():
            subscriber.stop_intake()
        for outlet in self.outlets.values():
            outlet.close(max(0.0, deadline - time.monotonic()))
        self._plane.close()


def _role(channel: ChannelWiring) -> str:
    """What the manifest calls the role."""
    return {"Pub": "SyncPub", "Req": "SyncSub"}.get(channel.role, channel.role) if channel.inward is not None else channel.role


def _undecoded(body: bytes | memoryview) -> bytes | memoryview:
    return body


def _no_body(_result: object) -> bytes:
    return b""
