"""The surroundings of a real process: data sockets here or in the sidecar, the name server reached directly or through the sidecar."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Mapping

from ganglion.runtime.carrier_legs import Network
from ganglion.runtime.carrier_plane import CarrierPlane
from ganglion.runtime.connections import allowed_keys, data_port, desired
from ganglion.runtime.control import ControlListener, ControlThread, NameServerUplink, SidecarUplink
from ganglion.runtime.desk import AdHocDesk
from ganglion.runtime.endpoint_plane import BehindSidecar, EndpointPlane, InProcess, Location
from ganglion.runtime.links import Identity
from ganglion.runtime.plane import Inlet, InletSpec, MessageId, Outlet, Plane
from ganglion.runtime.reactor import Reactor
from ganglion.runtime.sockets import CurveKeys, make_context
from ganglion.runtime.surroundings import Surroundings, check_legs, next_life
from ganglion.runtime.zap import ZapPolicy
from ganglion.wire.control import AdHoc, AdHocTerms, ChannelState, Incarnation, Notice, Part, Peer, Report
from ganglion.wiring import ChannelWiring, WiringDocument


class _BothCarriers:
    """One plane over the protocol endpoint and the proxied carriers."""

    def __init__(self, wiring: WiringDocument, endpoint: EndpointPlane, carrier: CarrierPlane) -> None:
        self._channels = {channel.alias: channel for channel in wiring.channels}
        self.endpoint = endpoint
        self.carrier = carrier

    def outlet(self, alias: str) -> Outlet:
        """See `Plane.outlet`."""
        channel = self._channels[alias]
        if channel.carrier != "Endpoint":
            return self.carrier.outlet(channel)
        return self.endpoint.addressed_outlet(alias) if channel.addressed else self.endpoint.outlet(alias)

    def inlet(self, spec: InletSpec) -> Inlet:
        """See `Plane.inlet`."""
        channel = self._channels[spec.alias]
        return self.endpoint.inlet(spec) if channel.carrier == "Endpoint" else self.carrier.inlet(channel, spec)

    def close(self) -> None:
        """See `Plane.close`."""
        self.endpoint.close()
        self.carrier.close()


class ProcessLink:
    """See the module.

    Args:
        wiring: the document.
        surroundings: of this process.
    """

    def __init__(self, wiring: WiringDocument, surroundings: Surroundings) -> None:
        self._wiring = wiring
        self._here = surroundings
        self._in_process = wiring.agent.data_plane == "InProcess"
        if surroundings.token_file is None:
            check_legs(surroundings.run_dir, () if self._in_process else (channel.alias for channel in wiring.channels))
        secure = wiring.name_server.security == "Curve"
        self._keys = CurveKeys.generate() if secure and (self._in_process or surroundings.token_file is not None) else None
        self._context = make_context()
        self._policy = ZapPolicy()
        self._plane: _BothCarriers | None = None
        self._control: ControlThread | None = None
        self._desk: AdHocDesk | None = None
        self._ports: dict[str, int] = {}
        if surroundings.token_file is not None:
            self._life = next_life(surroundings.run_dir, surroundings.uid)
            self.upstream = f"the name server at {wiring.name_server.endpoint}"
        else:
            # Only the sidecar knows the replica's incarnation; between lives of this process the later one counts.
            self._life = Incarnation(surroundings.uid, time.time_ns(), 0)
            self.upstream = "the sidecar"

    def make_control(self, loop: asyncio.AbstractEventLoop, report: Callable[[], Report], listener: ControlListener) -> ControlThread:
        """See `Link.make_control`."""
        uplink: NameServerUplink | SidecarUplink
        here, server = self._here, self._wiring.name_server
        if here.token_file is None:
            key = self._keys.public if self._keys is not None else ""
            uplink = SidecarUplink(path=here.run_dir / "control.sock", replica=here.replica, pid=os.getpid(), data_key=key)
        else:
            uplink = NameServerUplink(
                endpoint=server.endpoint,
                server_key=server.public_key,
                keys=self._keys,
                agent=self._wiring.agent.name,
                replica=here.replica,
                incarnation=self._life,
                host=here.host,
                token_file=here.token_file,
                parts={channel.alias: Part(channel.channel, channel.role) for channel in self._wiring.channels},
                shutdown_seconds=float(server.shutdown_timeout_seconds),
            )
        data = self._context if self._in_process and self._keys is not None else None
        self._control = ControlThread(
            uplink,
            loop=loop,
            report=report,
            listener=listener,
            policy=self._policy,
            on_ad_hoc=self._make_desk(),
            admits=lambda peers: allowed_keys(self._wiring, peers),
            data_context=data,
        )
        return self._control

    def _make_desk(self) -> Callable[[AdHocTerms | None], None] | None:
        """Where programs are to learn of the domain from this process: it joins by itself, so no sidecar tells them."""
        here = self._here
        if here.token_file is None or not os.environ.get("GANGLION_DOMAIN"):
            return None
        host = self._wiring.name_server.endpoint.rpartition("://")[2].rpartition(":")[0].strip("[]")
        desk = self._desk = AdHocDesk(here.run_dir / "control.sock")
        return lambda terms: desk.set(AdHoc(name_server=host, host=here.host, terms=terms))

    def make_plane(self, reactor: Reactor) -> Plane:
        """See `Link.make_plane`."""
        here, wiring = self._here, self._wiring
        location: Location
        if self._in_process:
            listen = f"tcp://[{here.host}]" if ":" in here.host else f"tcp://{here.host}"
            ports = {c.alias: data_port(wiring, c.alias, here.port_base) for c in wiring.channels if c.bind}
            location = InProcess(Identity(here.replica, self._life), self._keys, listen, ports)
            network = Network(self._context, here.host, here.port_base, self._keys)
            carrier = CarrierPlane(wiring, reactor, here.replica, network=network)
        else:
            location = BehindSidecar(here.run_dir, here.replica)
            carrier = CarrierPlane(wiring, reactor, here.replica, behind=(self._context, here.run_dir))
        endpoint = EndpointPlane(reactor, self._context, wiring.channels, location, on_dead=self._dead)
        self._plane = _BothCarriers(wiring, endpoint, carrier)
        return self._plane

    def _dead(self, channel: ChannelWiring, message: MessageId, reason: str) -> None:
        if self._control is not None:
            self._control.notice(Notice(reason="DeadLettered", channel=channel.declared, message=f"message {message}: {reason}"))

    def apply(self, peers: Mapping[str, Peer], channels: Mapping[str, ChannelState]) -> None:
        """See `Link.apply`."""
        if self._plane is not None:
            wanted = desired(self._wiring, peers.values())
            self._plane.endpoint.apply(wanted, channels)
            self._plane.carrier.apply(wanted)

    def ports(self) -> Mapping[str, int]:
        """See `Link.ports`."""
        if self._plane is None or not self._in_process:
            return {}
        carrier = self._plane.carrier
        parts = (*list(carrier.outlets.items()), *list(carrier.inlets.items()))
        return {**self._plane.endpoint.listening(), **{alias: part.tcp_port for alias, part in parts if part.tcp_port}}

    def close(self) -> None:
        """See `Link.close`."""
        if self._plane is not None:
            self._plane.close()
        if self._desk is not None:
            self._desk.close()
        # Not `term`: one socket that somebody forgot would keep the process for ever.
        self._context.destroy(linger=0)
