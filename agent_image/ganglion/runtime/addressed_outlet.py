"""The sending side of an addressed channel (Router): one outlet, and so one stream, batch and ledger, for each receiver.

What waits for a receiver that is away holds up nobody else, and can be given to nobody else.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from functools import partial

from ganglion.runtime.addressees import Addressees, no_such
from ganglion.runtime.endpoint_outlet import EndpointOutlet, OnReply
from ganglion.runtime.errors import ChannelClosed, UnknownReceiver
from ganglion.runtime.links import Link, Port
from ganglion.runtime.plane import MessageId
from ganglion.runtime.reactor import Reactor
from ganglion.wire import frames
from ganglion.wire.control import Ledger
from ganglion.wiring import ChannelWiring

GONE = "its receiver {!r} is gone for good: it was scaled away, deleted or is done, or never was"


class _Heard:
    """What a link said that an outlet made later must hear, too."""

    __slots__ = ("drains", "grant")

    def __init__(self) -> None:
        self.grant: bytes | None = None
        self.drains: bytes | None = None

    def frames(self) -> Iterable[tuple[int, bytes]]:
        if self.grant is not None:
            yield frames.WELCOME, self.grant
        if self.drains is not None:
            yield frames.DRAIN, self.drains


class AddressedOutlet:
    """Outlet of one alias; each message names its receiver.

    Args:
        reactor: flushes its parts.
        channel: its wiring.
        behind: links lead to the sidecar, which knows the receivers; otherwise each to one receiver.
        on_dead: (id, body, reason) of a message that is given up.
    """

    def __init__(
        self,
        reactor: Reactor,
        channel: ChannelWiring,
        *,
        behind: bool,
        on_dead: Callable[[MessageId, bytes, str], None] = lambda _id, _body, _why: None,
    ) -> None:
        self.alias = channel.alias
        self._reactor = reactor
        self._channel = channel
        self._behind = behind
        self._on_dead = on_dead
        self._port: Port | None = None
        self._addressees = Addressees()
        self._parts: tuple[dict[bytes, EndpointOutlet], Ledger] = ({}, Ledger())
        """By address, and the account of those that are no more. Replaced as one: the control thread counts meanwhile."""
        self._by_stream: dict[int, EndpointOutlet] = {}
        self._gone: set[bytes] = set()
        self._links: dict[Link, _Heard] = {}
        self._wired = 0
        self._end = False

    def attach(self, port: Port) -> None:
        """The port whose links this outlet uses; closed with it."""
        self._port = port

    @property
    def port(self) -> Port | None:
        """The attached port."""
        return self._port

    # -- Outlet

    def send(self, body: bytes | memoryview, *, topic: bytes = b"", timeout: float | None = None) -> MessageId:
        """See `Outlet.send`. `topic` is the receiver's address.

        Raises:
            UnknownReceiver: no such replica is declared, or it is done.
            ReceiverAbsent: it is away, and the high water mark of what waits for it is reached.
        """
        outlet = self._parts[0].get(topic)
        if outlet is None or topic in self._gone:
            outlet = self._open(topic)
        return outlet.send(body, timeout=timeout)

    def request(self, body: bytes | memoryview, *, timeout: float, on_reply: OnReply) -> MessageId:
        """Req only."""
        raise TypeError(f"channel {self.alias!r}: only Req makes requests")

    def flush(self) -> None:
        """See `Outlet.flush`."""
        for outlet in self._all():
            outlet.flush()

    def end(self) -> None:
        """See `Outlet.end`."""
        self._end = True
        for outlet in self._all():
            outlet.end()

    @property
    def at_rest(self) -> bool:
        """See `Outlet.at_rest`."""
        return all(outlet.at_rest for outlet in self._all())

    @property
    def ended(self) -> bool:
        """END was said and everything is settled."""
        return self._end and self.at_rest

    @property
    def wired(self) -> int:
        """See `Outlet.wired`. Behind a sidecar: what the sidecar tells."""
        return self._wired if self._behind else sum(1 for heard in list(self._links.values()) if heard.grant is not None)

    def ledger(self) -> Ledger:
        """See `Outlet.ledger`."""
        parts, past = self._parts
        return total(past, *(outlet.ledger() for outlet in list(parts.values())))

    def close(self, linger: float) -> None:
        """See `Outlet.close`."""
        deadline = time.monotonic() + linger
        self._end = True
        for outlet in self._all():
            outlet.close(max(0.0, deadline - time.monotonic()))
        if self._port is not None:
            self._port.close()

    # -- who there is

    def set_addressees(self, addressees: Addressees) -> None:
        """Whom there is to send to, from now on; what waits for others is given up."""
        self._addressees = addressees
        for address, outlet in list(self._parts[0].items()):
            if address.decode() in addressees:
                self._gone.discard(address)
                continue
            self._gone.add(address)
            self._give_up(address, outlet)
            if outlet.at_rest:
                self._forget(address, outlet)

    def _give_up(self, address: bytes, outlet: EndpointOutlet) -> None:
        # Behind a sidecar the sidecar does it: it knows whether a link still holds some.
        if not self._behind and not any(link.address.encode() == address for link in self._links):
            outlet.give_up(GONE.format(address.decode()))

    def _forget(self, address: bytes, outlet: EndpointOutlet) -> None:
        parts, past = self._parts
        self._parts = ({key: one for key, one in parts.items() if key != address}, total(past, outlet.ledger()))
        self._by_stream.pop(outlet.stream, None)
        self._gone.discard(address)
        outlet.close(0.0)

    # -- LinkUser

    def link_up(self, link: Link) -> None:
        """A receiver, or the sidecar, is there; it grants credit when it is ready."""
        self._links[link] = _Heard()
        for outlet in self._users(link):
            outlet.lost = False
            outlet.link_up(link)

    def link_frame(self, link: Link, kind: int, frame: bytes, slot: bytes) -> None:
        """Apply what a receiver says."""
        if kind == frames.ACK:
            self._acked(link, frames.decode_ack(frame))
            return
        heard = self._links.get(link)
        if heard is None:
            return
        if kind == frames.WELCOME:
            fields = frames.decode_control(frame)[1]
            if "wired" in fields:
                self._wired = frames.count_field(fields, "wired", 0)
            for name, lost in (("absent", True), ("back", False)):
                outlet = self._parts[0].get(str(fields.get(name, "")).encode())
                if outlet is not None:
                    outlet.lost = lost
            if "messages" not in fields:
                return
            heard.grant, heard.drains = frame, None
        elif kind == frames.DRAIN:
            heard.drains = frame
        elif kind == frames.REVOKE:
            heard.grant = heard.drains = None
            if not self._users(link):
                link.send(frames.encode_control(frames.REVOKE))
                self._reactor.flush_soon()
        for outlet in self._users(link):
            outlet.link_frame(link, kind, frame, slot)

    def link_down(self, link: Link, *, crashed: bool) -> None:
        """Keep what it held until its next life comes, or nobody will."""
        self._links.pop(link, None)
        self._wired = 0
        for outlet in self._users(link):
            outlet.link_down(link, crashed=crashed)
            address = link.address.encode()
            if self._behind:
                outlet.lost = False
            elif not any(other.address == link.address for other in self._links):
                outlet.lost = True
                if address in self._gone:
                    self._give_up(address, outlet)

    # -- inside

    def _all(self) -> list[EndpointOutlet]:
        return list(self._parts[0].values())

    def _users(self, link: Link) -> list[EndpointOutlet]:
        if self._behind:
            return self._all()
        outlet = self._parts[0].get(link.address.encode())
        return [] if outlet is None else [outlet]

    def _acked(self, link: Link, ranges: list[frames.Range]) -> None:
        mine: dict[int, list[frames.Range]] = {}
        for entry in ranges:
            mine.setdefault(entry[0], []).append(entry)
        for stream, entries in mine.items():
            outlet = self._by_stream.get(stream)
            if outlet is not None:
                outlet.acked(link, entries)

    def _open(self, address: bytes) -> EndpointOutlet:
        if self._end:
            raise ChannelClosed(f"channel {self.alias!r}: end() was called")
        if not address:
            raise UnknownReceiver(f"channel {self.alias!r}: a Router says which replica a message is for: send(..., to=...)")
        to = address.decode(errors="backslashreplace")
        if to not in self._addressees or len(to) > _LONGEST or to.encode() != address:
            raise UnknownReceiver(no_such(self.alias, to[:_LONGEST], self._addressees))
        outlet = EndpointOutlet(self._reactor, self._channel, on_dead=partial(self._dead, to), to=to)
        parts, past = self._parts
        self._parts = ({**parts, address: outlet}, past)
        self._by_stream[outlet.stream] = outlet
        links = {link: heard for link, heard in self._links.items() if self._behind or link.address == to}
        outlet.lost = not links and not self._behind
        for link, heard in links.items():
            outlet.link_up(link)
            for kind, frame in heard.frames():
                outlet.link_frame(link, kind, frame, b"")
        return outlet

    def _dead(self, to: str, id_: MessageId, body: bytes, why: str) -> None:
        self._on_dead(id_, body, why if to in why else f"for {to!r}: {why}")


_LONGEST = 253


def total(*ledgers: Ledger) -> Ledger:
    """The sum of accounts."""
    return Ledger(*(sum(terms) for terms in zip(*((*_terms(ledger),) for ledger in ledgers), strict=True)))


def _terms(ledger: Ledger) -> Iterable[int]:
    return (ledger.accepted, ledger.acked, ledger.in_flight, ledger.dead_lettered, ledger.dropped, ledger.redelivered)
