"""One proxied alias in a sidecar: the ipc leg, the network leg, and libzmq's proxy between them."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import zmq

from ganglion.runtime.carrier_legs import CarrierLeg, Network, frame_bytes, marker, queue_length
from ganglion.runtime.connections import DesiredPeer
from ganglion.runtime.programs import ProgramMonitor
from ganglion.runtime.proxy import SteerableProxy
from ganglion.runtime.reactor import Reactor, readable
from ganglion.runtime.sockets import Socket, bind_ipc, make_ipc_socket
from ganglion.wiring import ChannelWiring, WiringDocument

_LEGS: Final = {
    "Push": (zmq.PULL, zmq.PUSH),
    "Pull": (zmq.PUSH, zmq.PULL),
    "Pub": (zmq.XSUB, zmq.XPUB),
    "Sub": (zmq.XPUB, zmq.XSUB),
}
"""Role → (socket of the ipc leg, socket of the network leg)."""
_MARK_SECONDS: Final = 0.1
"""A plain subscriber's subscriptions follow its connection at once; after so long it counts as wired."""


class ProxiedChannel:
    """Made and used in the main thread; the proxy has a thread of its own.

    Args:
        network: where the outer socket is opened.
        wiring: of the agent.
        channel: the alias.
        run_dir: directory of the ipc legs.
        replica: our name.
        reactor: drains the monitors.
        tap: endpoint of the capture socket, e.g. `inproc://tap-log`; None: none.
    Raises:
        GanglionError: the port cannot be bound.
        zmq.ZMQError: the ipc leg cannot be bound.
    """

    def __init__(
        self,
        network: Network,
        wiring: WiringDocument,
        channel: ChannelWiring,
        reactor: Reactor,
        *,
        run_dir: Path,
        replica: str,
        tap: str | None = None,
    ) -> None:
        self.channel = channel
        self._reactor = reactor
        self._marker = marker(replica)
        self._marks = channel.role == "Sub" and channel.speaks == "Plain"
        self._mark_at: float | None = None
        self._marked = False
        self._leaving = self._gone = self._empty = False
        inner, outer = _LEGS[channel.role]
        context = network.context
        self._leg = CarrierLeg(network, wiring, channel, kind=outer)
        self._path = run_dir / f"{channel.alias}.sock"
        ipc = make_ipc_socket(context, inner, max_message_bytes=frame_bytes(channel), high_water_mark=queue_length(channel))
        capture: Socket | None = None
        try:
            self._programs = ProgramMonitor(ipc, channel if channel.sends and channel.speaks == "Plain" else None)
            bind_ipc(ipc, self._path)
            if tap is not None:
                capture = context.socket(zmq.PUB)
                capture.linger = 0
                capture.bind(tap)
        except BaseException:
            ipc.close(0)
            if capture is not None:
                capture.close(0)
            self._leg.close()
            raise
        self._ipc = ipc
        frontend, backend = (ipc, self._leg.socket) if channel.sends else (self._leg.socket, ipc)
        self.proxy = SteerableProxy(context, frontend, backend, name=channel.alias, capture=capture)
        self.proxy.start()
        reactor.add(self, pumped=False)

    @property
    def attached(self) -> bool:
        """Whether somebody is on the ipc leg."""
        return self._programs.count > 0

    @property
    def tcp_port(self) -> int:
        """Port that it listens on; 0 when it connects."""
        return self._leg.tcp_port

    @property
    def wired(self) -> int:
        """Peers with a live connection."""
        return self._leg.wired

    def apply(self, peers: Mapping[str, DesiredPeer]) -> None:
        """The directory changed."""
        self.proxy.rewire(self._leg.socket, self._leg.plan(peers), curve=self._leg.curve)

    def leave(self) -> None:
        """Begin to end: forward what has arrived, then let libzmq send it, each for at most `lingerSeconds`. Then `left` becomes true."""
        self._leave(self.channel.linger_seconds if self.channel.sends else 0.0)

    def _leave(self, linger: float) -> None:
        if self._leaving:
            return
        self._leaving = True
        ipc, outer = self._ipc, self._leg.socket

        def last_words() -> None:
            ipc.disable_monitor()
            ipc.linger = outer.linger = int(linger * 1000)

        self.proxy.steer(last_words)
        self.proxy.ask_to_stop(linger)

    @property
    def left(self) -> bool:
        """Everything that could be sent was sent."""
        return self._gone or (not self.proxy.alive and self._leg.monitor.over)

    def close(self, *, timeout: float = 2.0) -> bool:
        """Stop the proxy and close its sockets; idempotent. Without `leave` nothing lingers.

        Args:
            timeout: seconds to wait for the thread.
        Returns:
            False if the proxy's thread did not end.
        """
        if self._gone:
            return not self.proxy.alive
        self._gone = True
        self._reactor.remove(self)
        self._leave(0.0)
        stopped = self.proxy.stop(timeout=timeout)
        # Not before their sockets are closed: libzmq blocks in an event that nobody can receive.
        self._leg.monitor.await_end(timeout)
        self._programs.close()
        self._path.unlink(missing_ok=True)
        return stopped

    # -- Source

    @property
    def sockets(self) -> list[Socket]:
        """The monitors; the data sockets are the proxy's."""
        return [self._programs.socket, self._leg.monitor.socket]

    def drain(self, budget: int) -> bool:
        """Take monitor events."""
        self._leg.monitor.drain()
        self._programs.drain()
        if self._marks:
            attached = self._programs.count > 0
            self._mark_at = time.monotonic() + _MARK_SECONDS if attached and not self._marked else None
            if self._marked and not attached:
                self._mark(b"\x00")
        return False

    def tick(self, now: float) -> None:
        """Look after the proxy and its connections; mark a plain subscriber as wired."""
        self.proxy.tend()
        empty, self._empty = self._empty and self._leg.over, False
        self.proxy.rewire(self._leg.socket, self._leg.tend(now, empty=empty), curve=self._leg.curve)
        if self._leg.over:
            # Asked in the proxy's thread; the answer counts at the next tick.
            self.proxy.steer(self._look)
        if self._mark_at is not None and now >= self._mark_at:
            self._mark_at = None
            self._mark(b"\x01")

    # -- inside

    def _look(self) -> None:
        self._empty = not readable(self._leg.socket)

    def _mark(self, prefix: bytes) -> None:
        self._marked = prefix == b"\x01"
        outer, message = self._leg.socket, prefix + self._marker
        self.proxy.steer(lambda: _send(outer, message))


def _send(socket: Socket, message: bytes) -> None:
    socket.send(message)
