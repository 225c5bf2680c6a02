"""Sockets of proxied channels: on the network (a sidecar's outer side, or an agent in process) and on the ipc leg behind a sidecar."""

from __future__ import annotations

import logging
import socket
import struct
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import zmq
from zmq.utils.monitor import parse_monitor_message

from ganglion.runtime import outqueue
from ganglion.runtime.connections import Change, DesiredPeer, applied, data_port, difference, endpoint, zap_domain
from ganglion.runtime.errors import GanglionError
from ganglion.runtime.proxy import rewire
from ganglion.runtime.reactor import readable
from ganglion.runtime.sockets import Context, CurveKeys, Socket, ipc_endpoint, make_ipc_socket, make_socket
from ganglion.wire.frames import MAX_BATCH_BYTES
from ganglion.wire.published import MARK_BYTES
from ganglion.wiring import ChannelWiring, WiringDocument

log = logging.getLogger(__name__)

FRAME_OVERHEAD_BYTES: Final = 4096
"""Room for the header of a frame beside its bodies."""
MARKER: Final = b"\xff\xffganglion\xff"
"""Topics with this prefix are never published: each subscriber subscribes to one with its replica's name after its own topics. Proxies merge
equal subscriptions, but these differ, so a publisher can count who is wired; and no message leaks into a plain program's subscription."""

_LINK_EVENTS: Final = zmq.EVENT_HANDSHAKE_SUCCEEDED | zmq.EVENT_DISCONNECTED | zmq.EVENT_MONITOR_STOPPED
LEAVING_SECONDS: Final = 60.0
"""A sender that left the directory may still have messages in its queues: a receiver keeps the connection until it ends, for so long."""
_HANDSHAKE_SECONDS: Final = 1.0
_CLOSE_SECONDS: Final = 1.0
"""For libzmq to close a socket that does not linger any more."""

_PATIENT: Final = (
    (zmq.HEARTBEAT_IVL, 0),
    (zmq.TCP_MAXRT, 0),
    (zmq.TCP_KEEPALIVE, 1),
    (zmq.TCP_KEEPALIVE_IDLE, 5),
    (zmq.TCP_KEEPALIVE_INTVL, 2),
    (zmq.TCP_KEEPALIVE_CNT, 3),
)
"""A receiver whose queue is full reads nothing, no heartbeats either: their timeout, or TCP's own user timeout, would reset the connection and
drop what the kernel holds, though nobody has failed. Keepalive probes are answered by the kernel; who vanished in the midst of data is found
by the lease at the name server."""

_KINDS: Final = {"Push": zmq.PUSH, "Pull": zmq.PULL, "Pub": zmq.XPUB, "Sub": zmq.SUB}
"""What an SDK process opens. An XPUB sends like a PUB and sees subscriptions."""


_MARK: Final = struct.Struct(f">{MARK_BYTES}sI")


def marker(replica: str, mark: bytes = b"", generation: int = 0) -> bytes:
    """Topic that says: this replica's subscriptions have arrived.

    Args:
        mark, generation: of a subscriber that asks (`ganglion.wire.published`); empty: it does not.
    """
    return MARKER + replica.encode() + (b"\xff" + _MARK.pack(mark, generation) if mark else b"")


def marked(topic: bytes) -> tuple[bytes, int]:
    """(who, generation) of a marker: the mark of a subscriber that asks, else its replica's name."""
    replica, _, tail = topic.removeprefix(MARKER).partition(b"\xff")
    return _MARK.unpack(tail) if len(tail) == _MARK.size else (replica, 0)


def bound_port(socket: Socket) -> int:
    """TCP port that the socket was bound to last."""
    where = socket.getsockopt(zmq.LAST_ENDPOINT)
    assert isinstance(where, bytes)
    return int(where.rstrip(b"\0").rpartition(b":")[2])


def frame_bytes(channel: ChannelWiring) -> int:
    """Largest frame on the channel, in bytes: a body that was coalesced with small and large ones before it."""
    return channel.max_message_bytes + 2 * MAX_BATCH_BYTES + FRAME_OVERHEAD_BYTES


def largest_batch(channel: ChannelWiring) -> int:
    """Most messages in one frame. Fewer than on acknowledged channels: nobody tells how long receivers take, and libzmq deals out frames."""
    batched = channel.pattern == "PushPull" and channel.frames == "Ganglion"
    return max(1, min(64, channel.high_water_mark // 16)) if batched else 1


def queue_length(channel: ChannelWiring) -> int:
    """High-water mark of one socket in frames."""
    return max(1, channel.high_water_mark // largest_batch(channel))


@dataclass(frozen=True, slots=True)
class Network:
    """Where and as whom this process opens network sockets.

    Attributes:
        context: of the data plane; a ZAP handler runs in it when `keys` is given.
        host: address that is bound and advertised.
        port_base: first data port; 0: any free ones.
        keys: None with `security: None`.
    """

    context: Context
    host: str
    port_base: int
    keys: CurveKeys | None


class LinkMonitor:
    """Which of a socket's connections are up, and when it has sent its last. Call `drain` in the thread that made it.

    Make it before the socket connects and before the socket is handed to another thread; close it after the socket.
    """

    def __init__(self, socket: Socket) -> None:
        self.socket: Socket = socket.get_monitor_socket(_LINK_EVENTS)
        self.up: frozenset[str] = frozenset()
        """Endpoints that a connector is connected to; replaced, never changed, so that any thread may read it."""
        self.over = False
        """The socket was closed and no longer lingers."""

    def drain(self) -> bool:
        """Take what happened; whether anything did."""
        up = set(self.up)
        while True:
            try:
                event = parse_monitor_message(self.socket.recv_multipart(zmq.NOBLOCK))
            except zmq.Again:
                break
            where = event["endpoint"].decode("utf-8", "replace")
            if event["event"] == zmq.EVENT_HANDSHAKE_SUCCEEDED:
                up.add(where)
            elif event["event"] == zmq.EVENT_DISCONNECTED:
                up.discard(where)
            else:
                self.over = True
        changed = up != self.up
        self.up = frozenset(up)
        return changed

    def keep(self, endpoints: set[str]) -> None:
        """Forget others: a connection that we end ourselves makes no event."""
        self.up = self.up & endpoints

    def await_end(self, seconds: float) -> bool:
        """After the socket was closed: wait until it no longer lingers, and close the monitor. False: it took too long."""
        deadline = time.monotonic() + seconds
        self.drain()
        while not self.over and (left := deadline - time.monotonic()) > 0:
            self.socket.poll(max(1, int(left * 1000)))
            self.drain()
        self.socket.close(0)
        return self.over


def _await_links(monitor: LinkMonitor, wanted: int, seconds: float) -> None:
    """Wait until so many connections are up: libzmq may reset one that is closed in the middle of its handshake, with what is queued for it."""
    deadline = time.monotonic() + min(seconds, _HANDSHAKE_SECONDS)
    monitor.drain()
    while len(monitor.up) < wanted and (left := deadline - time.monotonic()) > 0:
        monitor.socket.poll(max(1, int(left * 1000)))
        monitor.drain()


class CarrierLeg:
    """The data socket of one alias, on the network.

    Args:
        kind: `zmq.PUSH`, ...; None: what an SDK process opens for the role.

    Attributes:
        curve: whether a peer's key is set before each connect.
    Raises:
        GanglionError: the port cannot be bound.
    """

    def __init__(self, network: Network, wiring: WiringDocument, channel: ChannelWiring, *, kind: int | None = None) -> None:
        self.channel = channel
        self.tcp_port = 0
        self._have: Mapping[str, DesiredPeer] = {}
        self._want: Mapping[str, DesiredPeer] = {}
        self._leaving: dict[str, float] = {}
        keys = network.keys
        self.curve = keys is not None
        self.socket = make_socket(
            network.context,
            _KINDS[channel.role] if kind is None else kind,
            curve=keys,
            # A connector gets each peer's key before its connect; this one only says that it is no server.
            server_key=keys.public if keys is not None and not channel.bind else None,
            zap_domain=zap_domain(channel) if keys is not None and channel.bind else None,
            max_message_bytes=frame_bytes(channel),
            high_water_mark=queue_length(channel),
        )
        for option, value in _PATIENT:
            self.socket.set(option, value)
        self.monitor = LinkMonitor(self.socket)
        try:
            if ":" in network.host:
                self.socket.ipv6 = True
            if channel.bind:
                port = data_port(wiring, channel.alias, network.port_base)
                where = endpoint(network.host, port) if port else endpoint(network.host, 0).removesuffix("0") + "*"
                self.socket.bind(where)
                self.tcp_port = bound_port(self.socket)
        except zmq.ZMQError as error:
            self.close()
            raise GanglionError(f"channel {channel.channel}: cannot listen on {where}: {error}") from error

    def plan(self, want: Mapping[str, DesiredPeer]) -> Change:
        """Take what the directory says; the change is to be made by the thread that uses the socket."""
        self._want = want
        if not self.channel.sends:
            self._keep_leaving(want)
        return self._change({**want, **{link: self._have[link] for link in self._leaving}})

    @property
    def over(self) -> bool:
        """A connection of a sender that has left is over; what it left in the socket may still have to be read."""
        return any(self._have[link].endpoint not in self.monitor.up for link in self._leaving)

    def tend(self, now: float, *, empty: bool) -> Change:
        """Connections of senders that have left and are over; call it now and then.

        Args:
            now: monotonic seconds.
            empty: the socket had nothing to read after `over` became true. A disconnect drops what is unread, so without it nothing is
                disconnected before `LEAVING_SECONDS`.
        """
        if not self._leaving:
            return Change((), ())
        up = self.monitor.up
        for link, until in tuple(self._leaving.items()):
            if now >= until or (empty and self._have[link].endpoint not in up):
                del self._leaving[link]
        return self._change({**self._want, **{link: self._have[link] for link in self._leaving}})

    def _keep_leaving(self, want: Mapping[str, DesiredPeer]) -> None:
        wanted_at = {peer.endpoint for peer in want.values()}
        for link, peer in self._have.items():
            # One whose address somebody else has now is gone for good.
            if link in want or peer.endpoint in wanted_at:
                self._leaving.pop(link, None)
            else:
                self._leaving.setdefault(link, time.monotonic() + LEAVING_SECONDS)

    def _change(self, want: Mapping[str, DesiredPeer]) -> Change:
        change = difference(self._have, want)
        self._have = applied(self._have, change)
        if change.disconnect:
            gone = {peer.endpoint for peer in change.disconnect}
            self.monitor.keep({peer.endpoint for peer in self._have.values()} - gone)
        return change

    def apply(self, want: Mapping[str, DesiredPeer]) -> None:
        """Connect to and disconnect from what the directory says; for the thread that uses the socket."""
        rewire(self.socket, self.plan(want), curve=self.curve)

    def tick(self, now: float) -> None:
        """Disconnect from senders that have left; for the thread that uses the socket."""
        if self._leaving:
            rewire(self.socket, self.tend(now, empty=not readable(self.socket)), curve=self.curve)

    @property
    def wired(self) -> int:
        """Peers with a live connection: a connector sees its own, a binder goes by what the connectors report."""
        return sum(1 for peer in self._want.values() if peer.wired) if self.channel.bind else len(self.monitor.up)

    def close(self, linger: float = 0.0) -> None:
        """Close the socket and wait until what was queued is sent, for at most `linger` seconds."""
        deadline = time.monotonic() + linger
        if linger > 0 and not self.channel.bind:
            _await_links(self.monitor, len(self._have), linger)
        left = max(0.0, deadline - time.monotonic())
        self.socket.close(int(left * 1000))
        self.monitor.await_end(left + _CLOSE_SECONDS)


class IpcLeg:
    """The data socket of one alias behind a sidecar: connected to `<run>/<alias>.sock`."""

    def __init__(self, context: Context, run_dir: Path, channel: ChannelWiring) -> None:
        self.channel = channel
        self.tcp_port = 0
        self._want: Mapping[str, DesiredPeer] = {}
        self.socket = make_ipc_socket(
            context, _KINDS[channel.role], max_message_bytes=frame_bytes(channel), high_water_mark=queue_length(channel)
        )
        self.monitor = LinkMonitor(self.socket)
        self._path = run_dir / f"{channel.alias}.sock"
        self.socket.connect(ipc_endpoint(self._path))

    def apply(self, want: Mapping[str, DesiredPeer]) -> None:
        """Remember who is there; the sidecar connects."""
        self._want = want

    def tick(self, now: float) -> None:
        """Nothing is due: the sidecar disconnects."""

    @property
    def wired(self) -> int:
        """Peers that report a live connection on this channel."""
        return sum(1 for peer in self._want.values() if peer.wired)

    def close(self, linger: float = 0.0) -> None:
        """Close the socket and wait until what was queued is sent, for at most `linger` seconds."""
        deadline = time.monotonic() + linger
        held: list[socket.socket] = []
        if linger > 0 and self.channel.role == "Push":
            _await_links(self.monitor, 1, linger)
            held = outqueue.hold(self._path)
        left = max(0.0, deadline - time.monotonic())
        self.socket.close(int(left * 1000))
        self.monitor.await_end(left + _CLOSE_SECONDS)
        unread = outqueue.release(held, max(0.0, deadline - time.monotonic()))
        if unread:
            log.warning("channel %r: the sidecar did not read %d bytes in time; they are lost", self.channel.alias, unread)


Leg = CarrierLeg | IpcLeg
