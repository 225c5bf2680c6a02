"""Data planes for tests: members with real sockets, CURVE and ZAP, and a directory that a test changes by hand."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from ganglion.runtime.connections import DesiredPeer, zap_domain
from ganglion.runtime.endpoint_plane import EndpointPlane, InProcess, Location
from ganglion.runtime.links import Host, Identity
from ganglion.runtime.plane import InletSpec
from ganglion.runtime.reactor import Reactor
from ganglion.runtime.sockets import Context, CurveKeys, make_context
from ganglion.wire.control import Incarnation
from ganglion.wiring import ChannelWiring


def identity(replica: str, start: int = 1, host: Host = "process") -> Identity:
    """Who a test member is."""
    return Identity(replica, Incarnation(replica + "-uid", start, 0), host)


@dataclass
class Member:
    """One replica in this process."""

    name: str
    plane: EndpointPlane
    channels: tuple[ChannelWiring, ...]
    identity: Identity
    curve: CurveKeys | None
    got: list[Any] = field(default_factory=list)

    def as_peer(self, alias: str) -> DesiredPeer:
        """How the directory shows it on `alias`."""
        port = self.plane.listening().get(alias, 0)
        return DesiredPeer(
            replica=self.name,
            agent=self.name.rpartition("-")[0],
            incarnation=self.identity.incarnation,
            key=self.curve.public if self.curve is not None else "",
            endpoint=f"tcp://127.0.0.1:{port}" if port else "",
        )


@dataclass
class Bench:
    """Everything of one test: a loop's reactor, a context, members, and their directory."""

    reactor: Reactor
    context: Context
    curve: bool = False
    members: dict[str, Member] = field(default_factory=dict)

    def member(self, name: str, *channels: ChannelWiring, start: int = 1, location: Location | None = None) -> Member:
        """Add a member."""
        who = identity(name, start)
        keys = CurveKeys.generate() if self.curve else None
        plane = EndpointPlane(self.reactor, self.context, channels, location or InProcess(who, keys, "tcp://127.0.0.1"))
        member = self.members[name] = Member(name, plane, channels, who, keys)
        return member

    def inlet(self, member: Member, alias: str, handler: Callable[..., Any] | None = None, **spec: Any) -> Any:
        """Open and start an inlet whose bodies are text; without a handler they are collected in `member.got`."""
        inlet = member.plane.inlet(InletSpec(alias, lambda body: bytes(body).decode(), handler or member.got.append, **spec))
        inlet.start()
        return inlet

    def wire(self, *gone: str) -> None:
        """Publish the directory: every member sees those of the opposite role on its channels."""
        for member in self.members.values():
            if member.name in gone:
                continue
            wanted: dict[str, dict[str, DesiredPeer]] = {}
            for channel in member.channels:
                wanted[channel.alias] = {
                    other.name: other.as_peer(theirs.alias)
                    for other in self.members.values()
                    if other.name not in gone
                    for theirs in other.channels
                    if theirs.channel == channel.channel and theirs.role == channel.peer_role
                }
            member.plane.apply(wanted)

    def allowed(self) -> dict[str, frozenset[str]]:
        """ZAP domain → keys, for all members together."""
        keys = frozenset(member.curve.public for member in self.members.values() if member.curve is not None)
        return {zap_domain(channel): keys for member in self.members.values() for channel in member.channels if channel.bind}

    def close(self, *names: str) -> None:
        """Close members; all without names."""
        for name in names or tuple(self.members):
            self.members.pop(name).plane.close()


@contextmanager
def bench(*, curve: bool = False) -> Iterator[Bench]:
    """A test's world on the running loop; closes what it made."""
    context = make_context()
    reactor = Reactor(asyncio.get_running_loop())
    world = Bench(reactor, context, curve)
    try:
        yield world
    finally:
        world.close()
        reactor.close()
        context.destroy(linger=0)
