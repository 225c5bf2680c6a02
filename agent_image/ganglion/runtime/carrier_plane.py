"""Best-effort PushPull and PubSub for the SDK, on the network or behind a sidecar: one code path over two kinds of legs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from ganglion.runtime.carrier_inlets import PullInlet, SubInlet
from ganglion.runtime.carrier_legs import CarrierLeg, IpcLeg, Leg, Network
from ganglion.runtime.carrier_outlets import PubOutlet, PushOutlet
from ganglion.runtime.connections import DesiredPeer
from ganglion.runtime.plane import InletSpec
from ganglion.runtime.reactor import Reactor
from ganglion.runtime.sockets import Context
from ganglion.runtime.sync_carrier import SyncPubOutlet, SyncSubInlet
from ganglion.wiring import ChannelWiring, WiringDocument

CarrierOutlet = PushOutlet | PubOutlet
CarrierInlet = PullInlet | SubInlet


class CarrierPlane:
    """Outlets and inlets of all proxied aliases of one process.

    Args:
        wiring: of the agent.
        reactor: drains them.
        replica: our name.
        network: in process: where to open sockets.
        behind: behind a sidecar: the data context and the directory of the ipc legs. Exactly one of the two.
    """

    def __init__(
        self,
        wiring: WiringDocument,
        reactor: Reactor,
        replica: str,
        *,
        network: Network | None = None,
        behind: tuple[Context, Path] | None = None,
    ) -> None:
        self._wiring = wiring
        self._reactor = reactor
        self._replica = replica
        self._network = network
        self._behind = behind
        self._peers: Mapping[str, Mapping[str, DesiredPeer]] = {}
        self.outlets: dict[str, CarrierOutlet] = {}
        self.inlets: dict[str, CarrierInlet] = {}

    def outlet(self, channel: ChannelWiring) -> CarrierOutlet:
        """The outlet of an alias with role Push or Pub; made at the first call."""
        found = self.outlets.get(channel.alias)
        if found is None:
            leg = self._leg(channel)
            kind = PushOutlet if channel.role == "Push" else PubOutlet if channel.inward is None else SyncPubOutlet
            found = kind(leg, self._reactor)
            self.outlets[channel.alias] = found
            found.apply(self._peers.get(channel.alias, {}))
        return found

    def inlet(self, channel: ChannelWiring, spec: InletSpec) -> CarrierInlet:
        """The inlet of an alias with role Pull or Sub.

        Raises:
            ValueError: it was made before.
        """
        if channel.alias in self.inlets:
            raise ValueError(f"alias {channel.alias!r}: has an inlet already")
        leg = self._leg(channel)
        found: CarrierInlet
        if channel.role == "Pull":
            found = PullInlet(leg, self._reactor, spec)
        else:
            found = (SubInlet if spec.on_reply is None else SyncSubInlet)(leg, self._reactor, spec, replica=self._replica)
        self.inlets[channel.alias] = found
        found.apply(self._peers.get(channel.alias, {}))
        return found

    def apply(self, peers: Mapping[str, Mapping[str, DesiredPeer]]) -> None:
        """The directory changed: alias → link → peer."""
        self._peers = peers
        for alias, part in (*self.outlets.items(), *self.inlets.items()):
            part.apply(peers.get(alias, {}))

    def close(self, linger: float = 0.0) -> None:
        """Close everything; outlets wait at most `linger` seconds."""
        for inlet in self.inlets.values():
            inlet.close()
        for outlet in self.outlets.values():
            outlet.close(linger)

    def _leg(self, channel: ChannelWiring) -> Leg:
        if self._network is not None:
            return CarrierLeg(self._network, self._wiring, channel)
        assert self._behind is not None
        context, run_dir = self._behind
        return IpcLeg(context, run_dir, channel)
