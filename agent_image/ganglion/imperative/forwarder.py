"""Forwarders: agents between publishers and subscribers that need not know each other.

A forwarder's SUB sockets are XSUB and its PUB sockets XPUB: each publication that comes in goes out by all of them as it is, unread, and each
topic that a subscriber asks for is asked for upstream, so that a publisher sends only what somebody wants. To others they are SUB and PUB.
Either end of each connection may bind; forwarders connect to each other too (a loop of them would forward for ever).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any, cast

import zmq

from ganglion.imperative.addresses import AgentAddress
from ganglion.imperative.agents import Backend, run_agent
from ganglion.imperative.core import Core
from ganglion.imperative.proxy import Proxy
from ganglion.imperative.receiving import drain_with
from ganglion.imperative.serializers import serializer_name
from ganglion.imperative.sockets import MORE, NOBLOCK, Entry, Key, plain_send
from ganglion.runtime import arena
from ganglion.sdk.agent import Agent
from ganglion.sdk.errors import NotSupported

_RCVMORE = int(zmq.RCVMORE)
_SUBSCRIBE, _UNSUBSCRIBE = 1, 0
"""First byte of what an XPUB receives and an XSUB sends; the topic follows."""


class _Joint:
    """The sockets of one forwarder, and what passes between them. Main thread."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._upstream: list[Entry] = []
        self._downstream: dict[Entry, set[bytes]] = {}
        """With the topics that its subscribers want."""
        self.wanted: Counter[bytes] = Counter()
        """By how many of our sockets."""
        self.forwarded = 0
        self._looks = False

    def add(self, entry: Entry, alias: Key) -> None:
        """Take in a socket that is bound or connected."""
        if entry.kind == "SUB":
            for topic in self.wanted:
                entry.socket.send(bytes((_SUBSCRIBE,)) + topic)
            self._upstream.append(entry)
            entry.drain = drain_with(self._core, entry, self._forwarder(entry))
        else:
            self._downstream[entry] = set()
            entry.drain = drain_with(self._core, entry, self._subscriber(entry))
        self._core.add(entry, alias, entry.place)

    def forget_closed(self) -> None:
        """Give up what only the subscribers of closed sockets wanted."""
        self._upstream = [entry for entry in self._upstream if not entry.closed]
        for entry in [entry for entry in self._downstream if entry.closed]:
            for topic in self._downstream.pop(entry):
                self._want(topic, -1)

    def _forwarder(self, entry: Entry) -> Callable[[], None]:
        recv, more = entry.socket.recv, entry.socket.getsockopt

        def take() -> None:
            if entry.large:
                frames = entry.socket.recv_multipart(NOBLOCK, copy=False)
                entry.large = arena.note(len(frames[-1]))
                for out in self._downstream:
                    # Not copied: the sockets share libzmq's own memory.
                    out.socket.send_multipart(frames, NOBLOCK, copy=False)
            else:
                parts = [recv(NOBLOCK)]
                while more(_RCVMORE):
                    parts.append(recv())
                entry.large = arena.note(len(parts[-1]))
                last = len(parts) - 1
                for out in self._downstream:
                    send = plain_send(out.socket)
                    for index, part in enumerate(parts):
                        # An XPUB never blocks: as any publisher, it drops what a slow subscriber has no room for.
                        send(part, NOBLOCK if index == last else MORE)
            self.forwarded += 1
            self._look_soon()

        return take

    def _subscriber(self, entry: Entry) -> Callable[[], None]:
        recv, more = entry.socket.recv, entry.socket.getsockopt

        def take() -> None:
            frame = recv(NOBLOCK)
            rest = bool(more(_RCVMORE))
            while more(_RCVMORE):
                recv()
            topics = self._downstream[entry]
            # A subscriber may also send messages; nobody of ours does, and there is nobody to take them.
            if not frame or rest or frame[0] not in (_SUBSCRIBE, _UNSUBSCRIBE):
                return
            topic = frame[1:]
            if frame[0] == _SUBSCRIBE and topic not in topics:
                topics.add(topic)
                self._want(topic, 1)
            elif frame[0] == _UNSUBSCRIBE and topic in topics:
                topics.remove(topic)
                self._want(topic, -1)

        return take

    def _want(self, topic: bytes, change: int) -> None:
        before = self.wanted[topic]
        self.wanted[topic] = now = before + change
        if not now:
            del self.wanted[topic]
        if bool(before) != bool(now):
            for entry in self._upstream:
                entry.socket.send(bytes((_SUBSCRIBE if now else _UNSUBSCRIBE,)) + topic, NOBLOCK)
            self._look_soon()

    def _look_soon(self) -> None:
        """A send may have taken the edge of a descriptor: what has arrived meanwhile would not be told of."""
        if not self._looks:
            self._looks = True
            self._core.loop.call_soon(self._look)

    def _look(self) -> None:
        self._looks = False
        for entry in (*self._downstream, *self._upstream):
            if entry.open and entry.drain is not None:
                entry.drain()


class Forwarder(Agent):
    """Joins publishers and subscribers; see the module.

    Publishers connect to `addr("publishers")` (as PUB), subscribers to `addr("subscribers")` (as SUB). `connect(address)` connects it to a
    publisher or subscriber that binds; `bind("PUB", ...)` and `bind("SUB", ...)` make further sockets, for instance of another transport.
    """

    def on_init(self) -> None:
        """Bind `publishers` and `subscribers`; a derived class may bind others instead."""
        self.bind("SUB", "publishers")
        self.bind("PUB", "subscribers")

    @property
    def _joint(self) -> _Joint:
        joint: _Joint | None = self.__dict__.get("_forwards")
        if joint is None:
            joint = self.__dict__["_forwards"] = _Joint(cast("Core", self._core))
        return joint

    def bind(
        self,
        kind: str,
        alias: Any = None,
        handler: Any = None,
        addr: Any = None,
        transport: str | None = None,
        serializer: str | None = None,
    ) -> Any:
        """Make a socket that others connect to.

        Args:
            kind: SUB: publishers connect to it; PUB: subscribers do.
            alias, addr, transport: as of `Agent.bind`.
            handler: must be None; publications are not read.
            serializer: what publishers and subscribers use; the same for all sockets of one forwarder.
        Raises:
            NotSupported: another kind, or a handler.
            ValueError: no such transport or codec, or a codec that its other sockets do not have.
        """
        core = cast("Core", self._core)
        if kind not in ("PUB", "SUB") or handler is not None:
            raise NotSupported(f"bind: found kind {kind!r}{' with a handler' if handler is not None else ''}; {_ONLY}")
        codec = serializer_name(serializer or core.serializer)

        def make() -> Any:
            self._check(codec)
            entry = core.sockets.bind(kind, transport or core.transport, addr, codec, extended=True)
            self._joint.add(entry, alias)
            return entry.place

        return core.here(make)

    def connect(self, server: Any, alias: Any = None, handler: Any = None) -> Any:
        """Connect to a publisher (its PUB is forwarded), a subscriber (its SUB gets what is forwarded), or another forwarder.

        Raises:
            NotSupported: a socket of another kind, or a handler.
            ValueError: its codec is not the forwarder's.
        """
        core = cast("Core", self._core)
        if not isinstance(server, AgentAddress) or server.kind not in ("PUB", "SUB") or server.role != "server" or handler is not None:
            found = getattr(server, "kind", type(server).__name__)
            raise NotSupported(f"connect: found {found}{' with a handler' if handler is not None else ''}; {_ONLY}")
        client = server.twin()

        def make() -> Any:
            self._check(str(client.serializer))
            if client in core.sockets:
                core.sockets.register(core.sockets.get(client), alias)
                return client
            self._joint.add(core.sockets.connect(client, extended=True), alias)
            return client

        return core.here(make)

    def _check(self, codec: str) -> None:
        """Publications pass as they are, so one codec is for all."""
        core = cast("Core", self._core)
        known = next((str(entry.place.serializer) for entry in core.sockets.entries() if entry.drain is not None), codec)
        if codec != known:
            raise ValueError(f"serializer: found {codec}; the forwarder's other sockets have {known}, and it forwards without decoding")

    def subscribe(self, alias: Any, topic: Any) -> None:
        """Refused: what its subscribers ask for is asked for upstream.

        Raises:
            NotSupported: always.
        """
        del topic
        raise NotSupported(f"alias {alias!r}: a forwarder asks for what its subscribers ask for; subscribe there")

    def unsubscribe(self, alias: Any, topic: Any) -> None:
        """As `subscribe`."""
        self.subscribe(alias, topic)

    def close(self, alias: Any, linger: float | None = None) -> None:
        """See `Agent.close`; topics that only its subscribers asked for are given up."""
        self._close(lambda: Agent.close(self, alias, linger))

    def close_all(self, linger: float | None = None) -> None:
        """See `Agent.close_all`."""
        self._close(lambda: Agent.close_all(self, linger))

    def _close(self, close: Callable[[], None]) -> None:
        def both() -> None:
            # In one piece: a publication in between would go to what is closed, and not to those behind it.
            try:
                close()
            finally:
                self._joint.forget_closed()

        cast("Core", self._core).here(both)

    def topics(self) -> list[bytes]:
        """What is asked for upstream now, sorted."""
        return sorted(self._joint.wanted)

    def forwarded(self) -> int:
        """Publications that came in and went on, so far."""
        return self._joint.forwarded


_ONLY = "a forwarder has PUB and SUB sockets only, without handlers; other agents have the rest"


def run_forwarder(
    name: str = "",
    nsaddr: Any = None,
    addr: Any = None,
    base: type[Forwarder] = Forwarder,
    serializer: str | None = None,
    transport: str | None = None,
    *,
    backend: Backend = "process",
) -> Proxy:
    """Start a forwarder.

    Args:
        base: a class derived from Forwarder.
        name, nsaddr, addr, serializer, transport, backend: as of `run_agent`; publishers and subscribers use its codec.
    Raises:
        AgentStartError, TimeoutError: as `run_agent`.
    """
    if not (isinstance(base, type) and issubclass(base, Forwarder)):
        raise TypeError(f"base: found {base!r}; must be a class derived from ganglion.Forwarder")
    return run_agent(name, nsaddr, addr, base, serializer, transport, backend=backend)
