"""All channels of one agent that the protocol endpoint carries, with sockets in this process or behind a sidecar."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType

from ganglion.runtime.addressed_outlet import AddressedOutlet
from ganglion.runtime.addressees import Addressees
from ganglion.runtime.barrier import BarrierGate
from ganglion.runtime.bound_port import BoundPort
from ganglion.runtime.connected_port import ConnectedPort
from ganglion.runtime.connections import DesiredPeer, zap_domain
from ganglion.runtime.endpoint_inlet import EndpointInlet
from ganglion.runtime.endpoint_outlet import EndpointOutlet
from ganglion.runtime.errors import ConfigurationError
from ganglion.runtime.links import Identity, LinkUser, Port
from ganglion.runtime.plane import InletSpec, MessageId
from ganglion.runtime.reactor import Reactor
from ganglion.runtime.sockets import Context, CurveKeys, ipc_endpoint
from ganglion.wire import frames
from ganglion.wire.control import ChannelReport, ChannelState, Incarnation
from ganglion.wiring import ChannelWiring

log = logging.getLogger(__name__)

FRAME_OVERHEAD_BYTES = frames.DATA_HEADER_BYTES + 4 * frames.MAX_BATCH + frames.MAX_CONTROL_BYTES + frames.MAX_BATCH_BYTES
"""A frame exceeds the largest body by header, lengths, extension, and what was coalesced before that body."""
PROGRAM_SLACK_BYTES = 4 * 1024 * 1024
"""A plain program's message may exceed `maxMessageBytes` by so much and is still read, to be refused by name: libzmq's own limit ends the
connection without a word, and loses what else is in it. No more, since libzmq queues such frames while the channel is full."""

OnDead = Callable[[ChannelWiring, MessageId, str], None]
"""Told of every dead letter (channel, id, reason), e.g. to post an Event."""


@dataclass(frozen=True, slots=True)
class InProcess:
    """Data sockets in this process.

    Attributes:
        identity: this replica.
        curve: our keys; None with `security: None`.
        listen: `tcp://` address to listen on, without a port.
        ports: alias → port; missing or 0: any free one.
    """

    identity: Identity
    curve: CurveKeys | None
    listen: str = "tcp://0.0.0.0"
    ports: Mapping[str, int] | None = None


@dataclass(frozen=True, slots=True)
class BehindSidecar:
    """Data sockets in the sidecar.

    Attributes:
        run_dir: where its legs are.
        replica: this replica.
    """

    run_dir: Path
    replica: str


Location = InProcess | BehindSidecar


def max_frame_bytes(channel: ChannelWiring) -> int:
    """Longest frame of a channel."""
    return channel.max_message_bytes + FRAME_OVERHEAD_BYTES


def max_program_frame_bytes(channel: ChannelWiring) -> int:
    """Longest frame that is read from a plain program on an acknowledged channel."""
    return channel.max_message_bytes + PROGRAM_SLACK_BYTES


def open_port(
    reactor: Reactor,
    context: Context,
    channel: ChannelWiring,
    user: LinkUser,
    location: InProcess,
    *,
    pumped: bool,
    zero_copy: bool = False,
) -> BoundPort | ConnectedPort:
    """The network port of an alias: a ROUTER where it binds, DEALERs where it connects.

    Raises:
        GanglionError: its address cannot be listened on.
    """
    if not channel.bind:
        return ConnectedPort(
            reactor,
            context,
            user,
            replace(location.identity, alias=channel.alias),
            curve=location.curve,
            max_frame_bytes=max_frame_bytes(channel),
            zero_copy=zero_copy,
            pumped=pumped,
        )
    port = (location.ports or {}).get(channel.alias, 0)
    return BoundPort(
        reactor,
        context,
        user,
        location.identity,
        endpoint=f"{location.listen}:{port or '*'}",
        curve=location.curve,
        zap_domain=zap_domain(channel) if location.curve is not None else None,
        max_frame_bytes=max_frame_bytes(channel),
        zero_copy=zero_copy,
        pumped=pumped,
    )


def leg_path(run_dir: Path, alias: str) -> Path:
    """Socket file of an alias's leg."""
    return run_dir / f"{alias}.sock"


class EndpointPlane:
    """Makes outlets and inlets of the aliases with `carrier: Endpoint`.

    Args:
        reactor: of the main thread.
        context: of the data plane.
        channels: wirings; those of other carriers are ignored.
        location: where the data sockets are.
        on_dead: told of every dead letter.
    """

    def __init__(
        self,
        reactor: Reactor,
        context: Context,
        channels: tuple[ChannelWiring, ...],
        location: Location,
        *,
        on_dead: OnDead = lambda _channel, _id, _why: None,
    ) -> None:
        self._reactor = reactor
        self._context = context
        self._channels = {channel.alias: channel for channel in channels if channel.carrier == "Endpoint"}
        self._location = location
        self._on_dead = on_dead
        self._outlets: dict[str, EndpointOutlet] = {}
        self._addressed: dict[str, AddressedOutlet] = {}
        self._inlets: dict[str, EndpointInlet] = {}
        self._peers: Mapping[str, dict[str, DesiredPeer]] = {}
        self._states: Mapping[str, ChannelState] = {}

    # -- Plane

    def outlet(self, alias: str) -> EndpointOutlet:
        """The outlet of an alias, made at first use.

        Raises:
            ConfigurationError: no such alias, or it does not send.
            GanglionError: its socket cannot be opened.
        """
        outlet = self._outlets.get(alias)
        if outlet is not None:
            return outlet
        channel = self._channel(alias, sends=True)
        outlet = EndpointOutlet(
            self._reactor,
            channel,
            gate=BarrierGate(channel.barrier),
            on_dead=lambda id_, body, why: self._dead(channel, id_, body, why),
        )
        outlet.attach(self._port(channel, outlet, slotted=False, pumped=True))
        self._outlets[alias] = outlet
        return outlet

    def addressed_outlet(self, alias: str) -> AddressedOutlet:
        """As `outlet`, of a channel whose messages name their receiver."""
        outlet = self._addressed.get(alias)
        if outlet is not None:
            return outlet
        channel = self._channel(alias, sends=True)
        outlet = AddressedOutlet(
            self._reactor,
            channel,
            behind=isinstance(self._location, BehindSidecar),
            on_dead=lambda id_, body, why: self._dead(channel, id_, body, why),
        )
        outlet.set_addressees(self._addressees(channel))
        outlet.attach(self._port(channel, outlet, slotted=False, pumped=True))
        self._addressed[alias] = outlet
        return outlet

    def inlet(self, spec: InletSpec) -> EndpointInlet:
        """The inlet of an alias; it takes nothing before `start`.

        Raises:
            ConfigurationError: no such alias, it does not receive, or it has its inlet already.
            GanglionError: its socket cannot be opened.
        """
        channel = self._channel(spec.alias, sends=False)
        if spec.alias in self._inlets:
            raise ConfigurationError(f"channel {spec.alias!r}: has an inlet already")
        inlet = EndpointInlet(self._reactor, channel, spec)
        inlet.attach(self._port(channel, inlet, slotted=True, pumped=spec.polled))
        self._inlets[spec.alias] = inlet
        return inlet

    def close(self) -> None:
        """Close every socket of the plane; idempotent."""
        for inlet in self._inlets.values():
            inlet.close()
        for outlet in self._senders().values():
            outlet.close(0.0)

    # -- directory and report

    def apply(self, peers: Mapping[str, dict[str, DesiredPeer]], states: Mapping[str, ChannelState] = MappingProxyType({})) -> None:
        """The current directory: peers by alias and replica (behind a sidecar it connects to none of them), and channels by name."""
        self._peers, self._states = peers, states
        for alias, outlet in self._addressed.items():
            outlet.set_addressees(self._addressees(self._channels[alias]))
        if isinstance(self._location, BehindSidecar):
            return
        for alias, port in self._ports().items():
            port.set_peers(dict(peers.get(alias, {})))

    def listening(self) -> dict[str, int]:
        """Alias → TCP port, of those that listen here."""
        return {alias: port.tcp_port for alias, port in self._ports().items() if port.tcp_port}

    def report(self) -> dict[str, ChannelReport]:
        """Alias → its part of the report. Any thread: it reads counters only."""
        reports = {}
        for alias, outlet in self._senders().items():
            port = outlet.port.tcp_port if outlet.port is not None else 0
            reports[alias] = ChannelReport(port=port, wired=outlet.wired, sent=outlet.ledger(), ended=outlet.ended)
        for alias, inlet in list(self._inlets.items()):
            port = inlet.port.tcp_port if inlet.port is not None else 0
            reports[alias] = ChannelReport(port=port, wired=inlet.wired, delivered=inlet.delivered, failed=inlet.failed)
        return reports

    # -- inside

    def _addressees(self, channel: ChannelWiring) -> Addressees:
        return Addressees(self._peers.get(channel.alias, {}).values(), self._states.get(channel.channel))

    def _senders(self) -> dict[str, EndpointOutlet | AddressedOutlet]:
        return {**self._outlets, **self._addressed}

    def _ports(self) -> dict[str, Port]:
        users: dict[str, EndpointOutlet | AddressedOutlet | EndpointInlet] = {**self._senders(), **self._inlets}
        return {alias: user.port for alias, user in users.items() if user.port is not None}

    def _channel(self, alias: str, *, sends: bool) -> ChannelWiring:
        channel = self._channels.get(alias)
        if channel is None:
            raise ConfigurationError(
                f"channel {alias!r}: no such alias of the protocol endpoint; found: {', '.join(self._channels) or 'none'}"
            )
        if channel.sends != sends:
            raise ConfigurationError(f"channel {alias!r}: role {channel.role} {'receives' if sends else 'sends'}")
        return channel

    def _port(self, channel: ChannelWiring, user: LinkUser, *, slotted: bool, pumped: bool) -> Port:
        location = self._location
        if isinstance(location, InProcess):
            port = open_port(self._reactor, self._context, channel, user, location, pumped=pumped)
            port.set_peers(dict(self._peers.get(channel.alias, {})))
            return port
        nobody = Incarnation("", 0, 0)
        leg = ConnectedPort(
            self._reactor,
            self._context,
            user,
            Identity(location.replica, nobody),
            max_frame_bytes=max_frame_bytes(channel),
            slotted=slotted,
            pumped=pumped,
        )
        endpoint = ipc_endpoint(leg_path(location.run_dir, channel.alias))
        leg.set_peers({"sidecar": DesiredPeer(replica="sidecar", agent="", incarnation=nobody, key="", endpoint=endpoint)})
        return leg

    def _dead(self, channel: ChannelWiring, id_: MessageId, body: bytes, why: str) -> None:
        log.error("channel %s: message %s is given up: %s", channel.alias, id_, why)
        self._on_dead(channel, id_, why)
        if channel.dead_letter is None:
            return
        if channel.dead_letter not in self._channels:
            log.error("channel %s: dead letter channel %s is no acknowledged channel of this agent", channel.alias, channel.dead_letter)
            return
        self.outlet(channel.dead_letter).inject(body)
