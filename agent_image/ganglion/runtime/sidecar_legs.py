"""Which relay serves an alias in a sidecar, and what all of them have in common."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from ganglion.runtime.carrier_legs import Network
from ganglion.runtime.connections import DesiredPeer, data_port
from ganglion.runtime.endpoint_plane import InProcess
from ganglion.runtime.links import Identity
from ganglion.runtime.plain_receive import PlainReceiver
from ganglion.runtime.plain_send import PlainPush, PlainReq
from ganglion.runtime.plane import MessageId
from ganglion.runtime.proxied import ProxiedChannel
from ganglion.runtime.reactor import Reactor
from ganglion.runtime.relay import ReceiveRelay, SendRelay
from ganglion.runtime.sidecar_report import Own
from ganglion.wiring import ChannelWiring, WiringDocument

Relay = SendRelay | ReceiveRelay | ProxiedChannel | PlainPush | PlainReq | PlainReceiver
Sends = SendRelay | PlainPush | PlainReq

OnDead = Callable[[ChannelWiring, MessageId, bytes, str], None]


@dataclass(frozen=True)
class Legs:
    """Opens the relays of one sidecar.

    Attributes:
        network: where and as whom.
        wiring: of the agent.
        identity: of the replica, as links say it.
        run_dir: where the ipc legs are.
        reactor: drains them.
        on_dead: told of every dead letter.
    """

    network: Network
    wiring: WiringDocument
    identity: Identity
    run_dir: Path
    reactor: Reactor
    on_dead: OnDead

    def open(self) -> dict[str, Relay]:
        """A relay for each alias; none stays open when one cannot be opened.

        Raises:
            GanglionError: an address cannot be listened on, or a leg cannot be made.
        """
        relays: dict[str, Relay] = {}
        try:
            for channel in self.wiring.channels:
                relays[channel.alias] = self._open(channel)
        except BaseException:
            for relay in relays.values():
                relay.close()
            raise
        return relays

    def _open(self, channel: ChannelWiring) -> Relay:
        reactor, network = self.reactor, self.network
        if channel.carrier == "Proxy":
            return ProxiedChannel(network, self.wiring, channel, reactor, run_dir=self.run_dir, replica=self.identity.replica)
        listen = f"tcp://[{network.host}]" if ":" in network.host else f"tcp://{network.host}"
        ports = {channel.alias: data_port(self.wiring, channel.alias, network.port_base)} if channel.bind else {}
        location = InProcess(self.identity, network.keys, listen, ports)
        context, run_dir = network.context, self.run_dir
        if channel.speaks == "Plain":
            if channel.role == "Push":
                return PlainPush(reactor, context, channel, location, run_dir, on_dead=self.on_dead)
            if channel.role == "Req":
                return PlainReq(reactor, context, channel, location, run_dir)
            return PlainReceiver(reactor, context, channel, location, run_dir)
        if channel.sends:
            return SendRelay(reactor, context, channel, location, run_dir, on_dead=self.on_dead)
        return ReceiveRelay(reactor, context, channel, location, run_dir)


def set_peers(relay: Relay, peers: Mapping[str, DesiredPeer]) -> None:
    """Tell a relay its peers of the directory."""
    if isinstance(relay, ProxiedChannel):
        relay.apply(peers)
    else:
        relay.port.set_peers(dict(peers))


def own(relay: Relay | None, channel: ChannelWiring, *, letters: bool) -> Own:
    """What a sidecar reports about one of its relays. Any thread: it reads counters only.

    Args:
        letters: it carries nothing but dead letters, which the sidecar itself sends.
    """
    match relay:
        case None:
            return Own()
        case ProxiedChannel():
            # Subscribers are counted end to end, by the publishing SDK; a program of any other kind has only the connections.
            counted = channel.role == "Pub" and channel.speaks == "Sdk"
            return Own(relay.tcp_port, 0 if counted else relay.wired)
        case PlainReceiver():
            return Own(relay.port.tcp_port, relay.wired, delivered=relay.delivered, failed=relay.failed)
        case ReceiveRelay():
            return Own(relay.port.tcp_port, relay.wired)
        case SendRelay():
            return Own(relay.port.tcp_port, relay.wired, relay.ledger(), by_sdk=not letters)
        case _:
            return Own(relay.port.tcp_port, relay.wired, relay.ledger())


def at_rest(relay: Relay, channel: ChannelWiring, *, vain: bool = False) -> bool:
    """Whether nobody needs the relay: what was sent is settled, and whoever received has gone.

    Args:
        vain: nobody is left who could settle what was sent.
    """
    match relay:
        case SendRelay() | PlainPush() | PlainReq():
            # A program that still sends is not to be cut off; one that only may receive replies neither.
            return (vain or relay.at_rest) and not (channel.speaks == "Plain" and relay.attached)
        case ReceiveRelay() | PlainReceiver():
            return not relay.attached
        case ProxiedChannel():
            return not (channel.speaks == "Plain" and relay.attached)
    return True


def quiet(relay: Relay) -> bool:
    """Whether a plain program's leg has nothing under way, though the program may still be there. Any thread."""
    match relay:
        case PlainPush() | PlainReq():
            return relay.quiet
        case ProxiedChannel() | ReceiveRelay():
            return True
    return relay.at_rest
