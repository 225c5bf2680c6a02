"""From the directory to connections: which peers each alias should have, and what must change. Pure.

Every connector connects to every binder of the opposite role. A peer whose key, address or incarnation changed is another peer: its
connection is closed and a new one is opened, because a binder that is back on its old endpoint with a new key gets nothing on the old one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from ganglion.wire.control import Incarnation, Peer
from ganglion.wire.replicas import address_of
from ganglion.wiring import ChannelWiring, WiringDocument


@dataclass(frozen=True, slots=True)
class DesiredPeer:
    """A member of the opposite role on one channel.

    Attributes:
        replica: name of the replica; unique in the domain.
        agent: name of its agent.
        part: 0, or n for the replica's n-th further alias on the same channel.
        incarnation: which life of the replica this is.
        key: its public CURVE key, Z85; empty with `security: None`.
        endpoint: `tcp://host:port` where it listens; empty when this side binds, or when the peer is not listening yet.
        wired: whether the peer reports at least one link for this channel.
        ended: whether the peer said END (a sender) or saw it (a receiver).
    """

    replica: str
    agent: str
    incarnation: Incarnation
    key: str
    endpoint: str
    wired: bool = False
    ended: bool = False
    part: int = 0

    @property
    def address(self) -> str:
        """By what name it is sent to."""
        return address_of(self.agent, self.replica)

    @property
    def link(self) -> str:
        """Key of the connection: the replica, and the part when it has several on the channel."""
        return f"{self.replica}/{self.part}" if self.part else self.replica

    def same_connection(self, other: DesiredPeer) -> bool:
        """Whether a connection to `other` serves for this peer too: counts and END may differ."""
        return (self.endpoint, self.key, self.incarnation) == (other.endpoint, other.key, other.incarnation)


@dataclass(frozen=True, slots=True)
class Change:
    """What to do to get from the connections there are to the wanted ones. Disconnect first."""

    disconnect: tuple[DesiredPeer, ...]
    connect: tuple[DesiredPeer, ...]

    def __bool__(self) -> bool:
        return bool(self.disconnect or self.connect)


def endpoint(host: str, port: int) -> str:
    """TCP endpoint of a host address (IPv4, IPv6 or name) and a port."""
    return f"tcp://[{host}]:{port}" if ":" in host else f"tcp://{host}:{port}"


def data_port(wiring: WiringDocument, alias: str, base: int) -> int:
    """TCP port of a bound alias: `base` + its index among the bound channels of the document; 0 (any free one) when `base` is 0."""
    bound = [channel.alias for channel in wiring.channels if channel.bind]
    return base + bound.index(alias) if base else 0


def zap_domain(channel: ChannelWiring) -> str:
    """ZAP domain of the socket that this alias binds: the alias is unique within a process, channel and role make it readable."""
    return f"{channel.channel}.{channel.role}.{channel.alias}"


def peers_of(channel: ChannelWiring, peers: Iterable[Peer]) -> dict[str, DesiredPeer]:
    """Link → peer of the opposite role on `channel`, in the directory's order.

    A replica that stops is no peer for a connector any more: what still arrives there would be read by nobody.
    """
    found = {}
    for peer in peers:
        first = peer.channels.get(channel.channel)
        if first is None or peer.phase == "Stopped":
            continue
        for number, part in enumerate((first, *first.also)):
            if part.role != channel.peer_role:
                continue
            wanted = DesiredPeer(
                replica=peer.replica,
                agent=peer.agent,
                incarnation=peer.incarnation,
                key=peer.key,
                endpoint="" if channel.bind or not part.port else endpoint(peer.host, part.port),
                wired=part.wired,
                ended=part.ended,
                # Whoever binds knows a replica by its key, however often it connects.
                part=0 if channel.bind else number,
            )
            found[wanted.link] = wanted
    return found


def desired(wiring: WiringDocument, peers: Iterable[Peer]) -> dict[str, dict[str, DesiredPeer]]:
    """Alias → link → peer, for every alias of the document; an alias without peers has an empty map."""
    members = tuple(peers)
    return {channel.alias: peers_of(channel, members) for channel in wiring.channels}


def allowed_keys(wiring: WiringDocument, peers: Iterable[Peer]) -> dict[str, frozenset[str]]:
    """ZAP domain → public keys that may connect, for every alias that binds. No peers: nobody may."""
    members = tuple(peers)
    return {
        zap_domain(channel): frozenset(peer.key for peer in peers_of(channel, members).values() if peer.key)
        for channel in wiring.channels
        if channel.bind
    }


def difference(have: Mapping[str, DesiredPeer], want: Mapping[str, DesiredPeer]) -> Change:
    """What a connector must do. Peers that are not listening yet are not connected to.

    Args:
        have: connections there are, by link.
        want: peers of the directory, by link.
    """
    wanted = {link: peer for link, peer in want.items() if peer.endpoint}
    stale = {link: peer for link, peer in have.items() if link not in wanted or not wanted[link].same_connection(peer)}
    # A disconnect takes every connection to its address along: a replica that took over the address of another is connected again.
    taken = {peer.endpoint for peer in stale.values()}
    stale |= {link: peer for link, peer in have.items() if peer.endpoint in taken}
    fresh = tuple(peer for link, peer in wanted.items() if link not in have or link in stale)
    return Change(disconnect=tuple(stale.values()), connect=fresh)


def applied(have: Mapping[str, DesiredPeer], change: Change) -> dict[str, DesiredPeer]:
    """The connections after `change`."""
    gone = {peer.link for peer in change.disconnect}
    kept = {link: peer for link, peer in have.items() if link not in gone}
    return kept | {peer.link: peer for peer in change.connect}
