"""The connecting side: one DEALER per binder, so that a monitor event names its peer.

After a loss the socket is closed and a new one is opened: the old one's queue would be sent again after a reconnect, behind the back of
the ledger.
"""

from __future__ import annotations

import logging
import random
import time

import zmq
from zmq.backend import zmq_poll

from ganglion.runtime.connections import DesiredPeer, difference
from ganglion.runtime.links import NO_SLOT, Frame, Identity, Link, LinkUser
from ganglion.runtime.reactor import BUDGET, NOBLOCK, NOBLOCK_MORE, POLLIN, Reactor
from ganglion.runtime.sockets import Context, CurveKeys, Socket, make_ipc_socket, make_socket
from ganglion.wire import frames

log = logging.getLogger(__name__)

SILENCE_SECONDS = 3.5
"""A binder sends PING every second; three that are missing and half a second of grace are a loss (only for peers that run no user code)."""
ANSWER_SECONDS = 10.0
"""A HELLO without an answer for so long is said again on a new socket."""
FAREWELL_FRAMES = 1024
"""Read of a peer that is not listed any more: about a window; it might go on for ever."""
RETRY_SECONDS = 0.05
RETRY_MAX_SECONDS = 2.0

_COMMON = frozenset((frames.DATA, frames.ACK, frames.REPLY))


class _Connection(Link):
    __slots__ = ("_touched", "_write", "at_odds", "desired", "lone", "monitor", "opened", "question", "socket", "suspect")

    def __init__(self, touched: set[_Connection], desired: DesiredPeer, socket: Socket, monitor: Socket, slotted: bool) -> None:
        super().__init__()
        self._touched = touched
        self.desired = desired
        self.address = desired.address
        self.socket = socket
        # Without pyzmq's outer method, which costs as much as the send.
        self._write = super(zmq.Socket, socket).send
        self.question = (socket, POLLIN)
        self.monitor = monitor
        self.slotted = slotted
        self.lone = False
        """The last wake-up was for one frame: the next one probably is, too."""
        self.suspect = False
        self.at_odds = False
        """One end could not read what the other said: the next attempt is not likely to end better."""
        self.opened = time.monotonic()

    def send(self, frame: Frame) -> bool:
        if self.slotted:
            return self.send_slot(NO_SLOT, frame)
        self._touched.add(self)
        try:
            self._write(frame, NOBLOCK)
        except zmq.ZMQError:
            self.suspect = True
            return False
        return True

    def send_slot(self, slot: bytes, frame: Frame) -> bool:
        self._touched.add(self)
        try:
            if self.slotted:
                self._write(slot, NOBLOCK_MORE)
            self._write(frame, NOBLOCK)
        except zmq.ZMQError:
            # Closed, or a queue without end: the monitor or the next tick ends the link.
            self.suspect = True
            return False
        return True


class ConnectedPort:
    """Connections to the binders of one channel (or to the sidecar's leg).

    Args:
        reactor: drains it.
        context: of the data plane.
        user: gets links and frames.
        identity: who we are.
        curve: our keys; None on an ipc leg and with `security: None`.
        max_frame_bytes: longest frame taken from a peer.
        slotted: frames carry a slot.
        zero_copy: batches are given to `user` as they lie in libzmq's memory (a relay does not open them).
        pumped: served inside blocking calls (sending roles).
    """

    def __init__(
        self,
        reactor: Reactor,
        context: Context,
        user: LinkUser,
        identity: Identity,
        *,
        curve: CurveKeys | None = None,
        max_frame_bytes: int,
        slotted: bool = False,
        zero_copy: bool = False,
        pumped: bool,
    ) -> None:
        self._reactor = reactor
        self._pumped = pumped
        self._context = context
        self._user = user
        self._identity = identity
        self._curve = curve
        self._max_frame_bytes = max_frame_bytes
        self._slotted = slotted
        self._zero_copy = zero_copy
        self._peers: dict[str, DesiredPeer] = {}
        self._connections: dict[str, _Connection] = {}
        self._touched: set[_Connection] = set()
        """Something was sent on them since they were last drained."""
        self._found: list[_Connection] = []
        self._retry: dict[str, tuple[float, float]] = {}
        """link → (monotonic time of the next attempt, delay after it)"""
        self._last_tick = time.monotonic()
        self._closed = False
        self.refused = 0
        """Frames that were no frames, and peers that refused us."""
        reactor.add(self, pumped=pumped)

    # -- Port

    tcp_port = 0

    def set_peers(self, peers: dict[str, DesiredPeer]) -> None:
        """Connect to every peer that listens; disconnect from what is not listed or came back as another."""
        if self._closed:
            return
        change = difference(self._peers, peers)
        for gone in change.disconnect:
            connection = self._connections.get(gone.link)
            if connection is not None:
                # An agent that is replaced did not leave by itself, but what it could still say is on its way: read it first.
                self._take(connection, FAREWELL_FRAMES)
                # What it said may have been BYE, which has dropped it.
                if not connection.socket.closed:
                    self._drop(connection, crashed=False, say_bye=True)
            # After reading: a BYE asks for another attempt, and the peer is not listed any more.
            self._retry.pop(gone.link, None)
        self._peers = {link: peer for link, peer in peers.items() if peer.endpoint}
        for fresh in change.connect:
            self._open(fresh)

    def close(self) -> None:
        """Say BYE everywhere and close."""
        if self._closed:
            return
        self._closed = True
        self._reactor.remove(self)
        for connection in self._connections.values():
            _shut(connection, say_bye=True)
        self._connections.clear()

    # -- Source

    @property
    def sockets(self) -> list[Socket]:
        """Data and monitor sockets."""
        return [socket for c in self._connections.values() for socket in (c.socket, c.monitor)]

    def ready(self) -> bool:
        """Whether frames wait whose edge a send may have swallowed."""
        # After this question the descriptors tell of everything new.
        touched = [connection for connection in self._touched if not connection.socket.closed]
        self._touched.clear()
        if touched and (answers := zmq_poll([connection.question for connection in touched], 0)):
            readable = {socket for socket, _ in answers}
            self._found.extend(connection for connection in touched if connection.socket in readable)
        return bool(self._found)

    def drain_one(self, socket: Socket, budget: int) -> bool:
        """Drain the socket whose descriptor is ready."""
        for connection in self._connections.values():
            if connection.socket is socket:
                if connection.lone:
                    # To find out by `ready` that there is no other costs less than the exception of another `recv`.
                    self._touched.add(connection)
                    self._take(connection, 1)
                    return False
                count = self._take(connection, budget)
                connection.lone = count == 1
                return count == budget
            if connection.monitor is socket:
                self._on_monitor(connection)
                return False
        return False

    def drain(self, budget: int) -> bool:
        """Take at most `budget` frames per connection: of those that `ready` found, else of all."""
        found, self._found = self._found, []
        more = False
        for connection in found or list(self._connections.values()):
            if not connection.socket.closed:
                connection.lone = False
                more |= self._take(connection, budget) == budget
        return more

    def tick(self, now: float) -> None:
        """Look at monitors, silence and retries."""
        # Acknowledgements are read at once; handlers get no more than in a turn, or a sender that goes on would keep us here.
        if self.drain(1 << 16 if self._pumped else BUDGET):
            self._reactor.look_again(self)
        # After a handler kept us busy, silence proves nothing: what peers said may just have been read.
        awake = now - self._last_tick < 1.0
        self._last_tick = now
        for connection in list(self._connections.values()):
            if connection.socket.closed:
                continue
            if not awake:
                connection.heard = now
            self._on_monitor(connection)
            if connection.socket.closed:
                continue
            if connection.suspect:
                self._lost(connection, "cannot be written to")
            elif not connection.up:
                if now - connection.opened > ANSWER_SECONDS:
                    self._lost(connection, "does not answer")
            elif connection.peer is not None and connection.peer.host == "sidecar" and now - connection.heard > SILENCE_SECONDS:
                self._lost(connection, f"silent for {SILENCE_SECONDS} s")
        for link, (due, _) in list(self._retry.items()):
            if due <= now and link not in self._connections:
                self._open(self._peers[link])

    # -- inside

    def _open(self, desired: DesiredPeer) -> None:
        try:
            socket, monitor = self._dial(desired)
        except zmq.ZMQError as error:
            # A peer says itself what its key and port are, and descriptors may be short: the other peers must not suffer.
            if desired.link not in self._retry:
                log.warning("cannot connect to %s at %s: %s; trying again", desired.link, desired.endpoint, error)
            self._try_again(desired.link, RETRY_MAX_SECONDS)
            return
        connection = self._connections[desired.link] = _Connection(self._touched, desired, socket, monitor, self._slotted)
        connection.send(frames.encode_control(frames.HELLO, self._identity.fields()))
        self._reactor.changed(self)

    def _dial(self, desired: DesiredPeer) -> tuple[Socket, Socket]:
        if desired.endpoint.startswith("ipc:"):
            socket = make_ipc_socket(self._context, zmq.DEALER, max_message_bytes=self._max_frame_bytes, high_water_mark=0)
            # A frozen process keeps its ipc connection; only its silence shows.
            socket.set(zmq.HEARTBEAT_IVL, 1000)
            socket.set(zmq.HEARTBEAT_TIMEOUT, 3000)
        else:
            socket = make_socket(
                self._context,
                zmq.DEALER,
                curve=self._curve,
                server_key=desired.key if self._curve is not None else None,
                max_message_bytes=self._max_frame_bytes,
                high_water_mark=0,
            )
        monitor: Socket | None = None
        try:
            monitor = socket.get_monitor_socket(zmq.EVENT_DISCONNECTED)
            socket.connect(desired.endpoint)
        except zmq.ZMQError:
            socket.disable_monitor()
            if monitor is not None:
                monitor.close(0)
            socket.close(0)
            raise
        return socket, monitor

    def _take(self, connection: _Connection, budget: int) -> int:
        """Take frames; returns how many, `budget` when the rest has to wait."""
        recv, slotted, slot, handles = connection.socket.recv, self._slotted, NO_SLOT, not self._pumped
        count = 0
        try:
            while count < budget:
                if slotted:
                    slot = recv(NOBLOCK)
                if self._zero_copy:
                    part = recv(NOBLOCK, copy=False)
                    count += 1
                    if frames.is_data(part) and connection.up:
                        self._on_batch(connection, part, slot)
                    else:
                        self._on_frame(connection, part.bytes, slot)
                else:
                    frame = recv(NOBLOCK)
                    count += 1
                    self._on_frame(connection, frame, slot)
                if connection.socket.closed:
                    return 0
                if handles and time.monotonic() >= self._reactor.turn_over:
                    return budget
        except zmq.Again:
            self._touched.discard(connection)
        finally:
            if count:
                connection.heard = time.monotonic()
        return count

    def _on_frame(self, connection: _Connection, frame: bytes, slot: bytes) -> None:
        try:
            kind = frames.kind(frame)
            if connection.up and kind in _COMMON:
                self._user.link_frame(connection, kind, frame, slot)
            elif kind == frames.PING:
                connection.send(frames.encode_control(frames.PONG))
            elif kind == frames.WELCOME and not connection.up:
                connection.peer = Identity.parse(frames.decode_control(frame)[1])
                connection.up = True
                self._retry.pop(connection.desired.link, None)
                self._user.link_up(connection)
            elif kind == frames.REFUSE:
                self.refused += 1
                fields = frames.decode_control(frame)[1]
                connection.at_odds = fields.get("code") in ("BadFrame", "UnknownVersion")
                self._lost(connection, f"refused: {str(fields.get('text', ''))[:200]}")
            elif kind == frames.BYE and slot == NO_SLOT:
                if connection.up:
                    connection.up = False
                    self._user.link_down(connection, crashed=False)
                self._lost(connection, "said BYE")
            elif connection.up and kind != frames.PONG:
                self._user.link_frame(connection, kind, frame, slot)
        except frames.FrameError as error:
            self._bad_frame(connection, error)

    def _on_batch(self, connection: _Connection, frame: zmq.Frame, slot: bytes) -> None:
        try:
            self._user.link_frame(connection, frames.DATA, frame, slot)
        except frames.FrameError as error:
            self._bad_frame(connection, error)

    def _bad_frame(self, connection: _Connection, error: frames.FrameError) -> None:
        self.refused += 1
        connection.at_odds = True
        log.warning("peer %s: %s", connection.desired.replica, error)
        connection.send(frames.encode_control(frames.REFUSE, {"code": "BadFrame", "text": str(error)}))

    def _on_monitor(self, connection: _Connection) -> None:
        try:
            connection.monitor.recv_multipart(NOBLOCK)
        except zmq.Again:
            return
        # What was acknowledged before the loss still counts.
        self._take(connection, 1 << 30)
        if not connection.socket.closed:
            self._lost(connection, "disconnected")

    def _lost(self, connection: _Connection, why: str) -> None:
        link = connection.desired.link
        if connection.up:
            log.info("link to %s lost: %s", link, why)
        self._drop(connection, crashed=True, say_bye=False)
        _, delay = self._retry.get(link, (0.0, RETRY_SECONDS))
        self._try_again(link, RETRY_MAX_SECONDS if connection.at_odds else delay)

    def _try_again(self, link: str, delay: float) -> None:
        # Jitter: a binder that restarts is not greeted by all its peers at once.
        due = time.monotonic() + delay * random.uniform(0.5, 1.0)  # noqa: S311 - no secret
        self._retry[link] = (due, min(delay * 2, RETRY_MAX_SECONDS))

    def _drop(self, connection: _Connection, *, crashed: bool, say_bye: bool) -> None:
        if self._connections.get(connection.desired.link) is connection:
            del self._connections[connection.desired.link]
        self._reactor.changed(self)
        _shut(connection, say_bye=say_bye)
        if connection.up:
            connection.up = False
            self._user.link_down(connection, crashed=crashed)


def _shut(connection: _Connection, *, say_bye: bool) -> None:
    if say_bye and connection.up:
        connection.send(frames.encode_control(frames.BYE))
    connection.socket.disable_monitor()
    connection.monitor.close(0)
    # Time for BYE only: everything else is in the ledger. The context's end waits for it at most so long.
    connection.socket.close(linger=200 if say_bye else 0)
