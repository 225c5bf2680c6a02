"""The binding side: one ROUTER. A link begins with a HELLO whose CURVE User-Id belongs to a peer of the directory.

The routing ids are the ROUTER's own, and each frame's User-Id is compared with its link's: a client that claims a routing id that just
became free cannot speak for its former owner. ROUTER_MANDATORY tells of a lost peer when it is written to, so each link is pinged.
"""

from __future__ import annotations

import logging
import time
from pathlib import Path
from typing import Any

import zmq
from zmq.backend import zmq_poll

from ganglion.runtime.connections import DesiredPeer
from ganglion.runtime.errors import GanglionError
from ganglion.runtime.links import NO_SLOT, Frame, Identity, Link, LinkUser
from ganglion.runtime.reactor import NOBLOCK, NOBLOCK_MORE, POLLIN, Reactor
from ganglion.runtime.sockets import Context, CurveKeys, Socket, bind_ipc, make_ipc_socket, make_socket
from ganglion.wire import frames

log = logging.getLogger(__name__)

PING_SECONDS = 1.0
SILENCE_SECONDS = 3.5
"""Three missing answers and half a second of grace are a loss (only for peers that run no user code)."""
SUSPICION_SECONDS = 0.3
"""After a disconnect all links are pinged at every tick for so long: the routing table learns of it later than the monitor."""
MAX_LINKS = 4096

_PING = frames.encode_control(frames.PING)


class _Routed(Link):
    __slots__ = ("ident", "key", "port", "suspect")

    def __init__(self, port: BoundPort, ident: bytes, key: str) -> None:
        super().__init__()
        self.port = port
        self.ident = ident
        self.key = key
        self.suspect = False

    def send(self, frame: Frame) -> bool:
        return self.port.send(self, NO_SLOT, frame)

    def send_slot(self, slot: bytes, frame: Frame) -> bool:
        return self.port.send(self, slot, frame)


class BoundPort:
    """Links from connectors.

    Args:
        reactor: drains it.
        context: of the data plane.
        user: gets links and frames.
        identity: who we are.
        endpoint: `tcp://host:port`, port 0 or `*` for any free one; or the path of an ipc leg.
        curve: our keys; None on an ipc leg and with `security: None` (then a peer is who it says it is).
        zap_domain: ZAP domain of the socket.
        max_frame_bytes: longest frame taken from a peer.
        slotted: frames carry a slot.
        zero_copy: batches are given to `user` as they lie in libzmq's memory (a relay does not open them).
        anybody: admit whoever may open the ipc leg (its file mode decides), one at a time: the newest replaces the others.
        pumped: served inside blocking calls (sending roles).
    Raises:
        GanglionError: the endpoint cannot be bound.
    """

    def __init__(
        self,
        reactor: Reactor,
        context: Context,
        user: LinkUser,
        identity: Identity,
        *,
        endpoint: str | Path,
        curve: CurveKeys | None = None,
        zap_domain: str | None = None,
        max_frame_bytes: int,
        slotted: bool = False,
        zero_copy: bool = False,
        anybody: bool = False,
        pumped: bool,
    ) -> None:
        self._reactor = reactor
        self._pumped = pumped
        self._user = user
        self._identity = identity
        self._secure = curve is not None
        self._slotted = slotted
        self._zero_copy = zero_copy
        self._anybody = anybody
        self._peers: dict[str, DesiredPeer] = {}
        self._by_key: dict[str, DesiredPeer] = {}
        self._links: dict[bytes, _Routed] = {}
        self._next_ping = 0.0
        self._suspicion_ends = 0.0
        self._last_tick = time.monotonic()
        self._touched = True
        """Something was sent since the socket was last drained, or not all was read."""
        self._lone = False
        """The last wake-up was for one frame: the next one probably is, too."""
        self._closed = False
        self.refused = 0
        """Frames that were no frames, and HELLOs that were refused."""
        if isinstance(endpoint, Path):
            self._socket = make_ipc_socket(context, zmq.ROUTER, max_message_bytes=max_frame_bytes, high_water_mark=0)
            # A frozen process keeps its ipc connection; only its silence shows.
            self._socket.set(zmq.HEARTBEAT_IVL, 1000)
            self._socket.set(zmq.HEARTBEAT_TIMEOUT, 3000)
        else:
            self._socket = make_socket(
                context, zmq.ROUTER, curve=curve, zap_domain=zap_domain, max_message_bytes=max_frame_bytes, high_water_mark=0
            )
        # Without pyzmq's outer method, which costs as much as the send.
        self._write = super(zmq.Socket, self._socket).send
        self._question = [(self._socket, POLLIN)]
        self._monitor: Socket = self._socket.get_monitor_socket(zmq.EVENT_DISCONNECTED)
        self.tcp_port = 0
        try:
            if isinstance(endpoint, Path):
                bind_ipc(self._socket, endpoint)
            else:
                self._socket.bind(endpoint)
                last = self._socket.get_string(zmq.LAST_ENDPOINT)
                self.tcp_port = int(last.rstrip("\0").rpartition(":")[2])
        except (zmq.ZMQError, ValueError) as error:
            # An open socket would hold up the end of its context for ever.
            self._shut()
            raise GanglionError(f"cannot listen on {endpoint}: {error}") from error
        reactor.add(self, pumped=pumped)

    # -- Port

    def set_peers(self, peers: dict[str, DesiredPeer]) -> None:
        """Admit these peers from now on; links of others, and of former lives of these, are ended."""
        self._peers = dict(peers)
        self._by_key = {peer.key: peer for peer in peers.values() if peer.key}
        for link in list(self._links.values()):
            if self._admitted(link.key, link.peer) is None:
                link.send(frames.encode_control(frames.BYE))
                self._down(link, crashed=False)

    def close(self) -> None:
        """Say BYE to every link and close."""
        if self._closed:
            return
        self._closed = True
        self._reactor.remove(self)
        for link in self._links.values():
            self.send(link, NO_SLOT, frames.encode_control(frames.BYE))
        self._links.clear()
        self._shut(linger=200)

    def _shut(self, linger: int = 0) -> None:
        self._socket.disable_monitor()
        self._monitor.close(0)
        self._socket.close(linger=linger)

    # -- Source

    @property
    def sockets(self) -> list[Socket]:
        """Data and monitor socket."""
        return [self._socket, self._monitor]

    def ready(self) -> bool:
        """Whether frames wait whose edge a send may have swallowed."""
        if not self._touched:
            return False
        # After this question the descriptor tells of everything new.
        self._touched = False
        return not self._closed and bool(zmq_poll(self._question, 0))

    def drain_one(self, socket: Socket, budget: int) -> bool:
        """Drain the socket whose descriptor is ready."""
        if socket is self._monitor:
            self._on_monitor()
            return False
        if self._lone:
            # To find out by `ready` that there is no other costs less than the exception of another `recv`.
            self._touched = True
            self._drain(1)
            return False
        count = self._drain(budget)
        self._lone = count == 1
        return count == budget

    def drain(self, budget: int) -> bool:
        """Take at most `budget` frames."""
        self._lone = False
        return self._drain(budget) == budget

    def _drain(self, budget: int) -> int:
        """Returns how many frames were taken; `budget` when the rest has to wait."""
        links, secure, slotted, slot = self._links, self._secure, self._slotted, NO_SLOT
        recv, user_id, zero_copy, handles = self._socket.recv, "", self._zero_copy, not self._pumped
        link_frame = self._user.link_frame
        frame: Frame
        count = 0
        try:
            for count in range(budget):  # noqa: B007 - how many came is told behind the loop
                ident = recv(NOBLOCK)
                part = recv(NOBLOCK, copy=False)
                if slotted:
                    if not part.more:
                        self.refused += 1
                        continue
                    slot = part.bytes
                    part = recv(NOBLOCK, copy=False)
                if part.more:
                    self._skip_parts()
                    continue
                if secure:
                    user_id = str(part.get("User-Id"))
                frame = part if zero_copy else part.bytes
                link = links.get(ident)
                if link is not None and link.key == user_id and frames.is_data(frame) and link.up:
                    # The hot path: everything else is once per link or per second.
                    link.heard = self._last_tick
                    try:
                        link_frame(link, frames.DATA, frame, slot)
                    except frames.FrameError as error:
                        self._refuse(link.ident, "BadFrame", str(error))
                else:
                    self._on_frame(link, ident, user_id, frame if isinstance(frame, bytes) else frame.bytes, slot)
                if handles and time.monotonic() >= self._reactor.turn_over:
                    return budget
        except zmq.Again:
            self._touched = False
            return count
        return budget

    def tick(self, now: float) -> None:
        """Ping, and end what does not answer."""
        awake = now - self._last_tick < 1.0
        self._last_tick = now
        self._on_monitor()
        if now < self._next_ping and now >= self._suspicion_ends:
            return
        if now >= self._next_ping:
            self._next_ping = now + PING_SECONDS
        if not awake:
            # A handler kept us busy: the answers may lie unread in our queue.
            for link in self._links.values():
                link.heard = now
        self._ping()
        for link in list(self._links.values()):
            if link.peer is not None and link.peer.host == "sidecar" and now - link.heard > SILENCE_SECONDS:
                log.info("link to %s lost: silent for %s s", link.peer.replica, SILENCE_SECONDS)
                self._down(link, crashed=True)

    def send(self, link: _Routed, slot: bytes, frame: Frame) -> bool:
        """Queue a frame; False when the peer is gone."""
        self._touched = True
        try:
            write = self._write
            write(link.ident, NOBLOCK_MORE)
            if self._slotted:
                write(slot, NOBLOCK_MORE)
            write(frame, NOBLOCK)
        except zmq.ZMQError:
            # EHOSTUNREACH. The link ends in the port's own turn: the caller may be in the middle of something.
            link.suspect = True
            self._suspicion_ends = max(self._suspicion_ends, time.monotonic() + SUSPICION_SECONDS)
            return False
        return True

    # -- inside

    def _on_monitor(self) -> None:
        """Somebody was disconnected; who, a PING tells."""
        try:
            while True:
                self._monitor.recv_multipart(NOBLOCK)
                self._suspicion_ends = time.monotonic() + SUSPICION_SECONDS
        except zmq.Again:
            pass
        if time.monotonic() < self._suspicion_ends:
            self._ping()

    def _ping(self) -> None:
        for link in list(self._links.values()):
            if not link.send(_PING):
                if link.peer is not None:
                    log.info("link to %s lost: unreachable", link.peer.replica)
                self._down(link, crashed=True)

    def _skip_parts(self) -> None:
        self.refused += 1
        while self._socket.getsockopt(zmq.RCVMORE):
            self._socket.recv(NOBLOCK)

    def _on_frame(self, link: _Routed | None, ident: bytes, user_id: str, frame: bytes, slot: bytes) -> None:
        if link is not None and link.key != user_id:
            self.refused += 1
            return
        try:
            kind = frames.kind(frame)
            if kind == frames.HELLO:
                self._hello(link, ident, user_id, frame)
            elif link is None:
                # A link that we gave up: the peer must begin anew.
                self._refuse(ident, "UnknownLink", "say HELLO on a new connection")
            elif kind == frames.PONG:
                link.heard = time.monotonic()
            elif kind == frames.PING:
                link.send(frames.encode_control(frames.PONG))
            elif kind == frames.REFUSE:
                self._refused(link, frames.decode_control(frame)[1])
            elif kind == frames.BYE and slot == NO_SLOT:
                self._down(link, crashed=False)
            else:
                self._deliver(link, kind, frame, slot)
        except frames.UnknownVersion as error:
            self._refuse(ident, "UnknownVersion", str(error))
        except frames.FrameError as error:
            self._refuse(ident, "BadFrame", str(error))

    def _refused(self, link: _Routed, fields: dict[str, Any]) -> None:
        """The peer dropped a frame of ours, and does not say which: what the link holds must go elsewhere, or again."""
        self.refused += 1
        peer = link.peer.replica if link.peer is not None else "?"
        log.warning("link to %s ends: it refused a frame: %s", peer, str(fields.get("text", ""))[:200])
        link.send(frames.encode_control(frames.BYE))
        self._down(link, crashed=False)

    def _deliver(self, link: _Routed, kind: int, frame: Frame, slot: bytes) -> None:
        link.heard = self._last_tick
        try:
            self._user.link_frame(link, kind, frame, slot)
        except frames.FrameError as error:
            self._refuse(link.ident, "BadFrame", str(error))

    def _hello(self, link: _Routed | None, ident: bytes, user_id: str, frame: bytes) -> None:
        desired = self._admitted(user_id, None) if self._secure else None
        if self._secure and desired is None:
            # Nothing of the frame was decoded for a key that the directory does not list.
            self._refuse(ident, "NotAuthorised", "this key is not registered for the channel")
            return
        peer = Identity.parse(frames.decode_control(frame)[1])
        admitted = self._admitted(user_id, peer)
        if admitted is None:
            self._refuse(ident, "NotAuthorised", f"{peer.replica} is not registered for the channel")
            return
        if link is None:
            if len(self._links) >= MAX_LINKS:
                self._refuse(ident, "TooManyLinks", f"at most {MAX_LINKS}")
                return
            rivals = [link for link in self._links.values() if link.peer is not None and self._rivals(link.peer, peer)]
            if not self._anybody and any(link.peer is not None and _newer(link.peer, peer) for link in rivals):
                self._refuse(ident, "Fenced", "a newer incarnation is connected")
                return
            for other in rivals:
                other.send(frames.encode_control(frames.REFUSE, {"code": "Replaced", "text": "a newer connection took over"}))
                self._down(other, crashed=True)
            link = _Routed(self, ident, user_id)
            link.heard = time.monotonic()
            link.address = admitted.address if isinstance(admitted, DesiredPeer) else ""
        if not link.send(frames.encode_control(frames.WELCOME, self._identity.fields())):
            return
        link.peer = peer
        if not link.up:
            link.up = True
            self._links[ident] = link
            self._user.link_up(link)

    def _rivals(self, one: Identity, other: Identity) -> bool:
        """Whether only one of them may have a link: two lives of a replica, or two connections for the same alias of it."""
        if self._anybody:
            return True
        return one.replica == other.replica and (one.alias == other.alias or one.incarnation != other.incarnation)

    def _admitted(self, user_id: str, peer: Identity | None) -> DesiredPeer | Identity | None:
        if self._anybody:
            return peer or self._identity
        if not self._secure:
            return self._peers.get(peer.replica) if peer is not None else None
        desired = self._by_key.get(user_id)
        return desired if desired is not None and (peer is None or peer.replica == desired.replica) else None

    def _refuse(self, ident: bytes, code: str, text: str) -> None:
        self.refused += 1
        refusal = frames.encode_control(frames.REFUSE, {"code": code, "text": text})
        stranger = _Routed(self, ident, "")
        self.send(stranger, NO_SLOT, refusal)

    def _down(self, link: _Routed, *, crashed: bool) -> None:
        if self._links.get(link.ident) is link:
            del self._links[link.ident]
        if link.up:
            link.up = False
            self._user.link_down(link, crashed=crashed)


def _newer(one: Identity, other: Identity) -> bool:
    return one.incarnation != other.incarnation and one.incarnation.supersedes(other.incarnation)
