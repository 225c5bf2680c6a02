"""The sidecar's half of acknowledged channels: peers' links on one side, the agent's ipc leg on the other. Batches cross unopened.

Sending: the sidecar takes over what the agent sent and acknowledges to it what peers acknowledged. The agent keeps its copy until then and
replays it to the next sidecar, so the end of either loses nothing. Receiving: the agent alone acknowledges; the sidecar forwards, and
revokes what a lost agent held.
"""

from __future__ import annotations

import logging
import secrets
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ganglion.runtime import arena
from ganglion.runtime.addressed_sender import AddressedSender
from ganglion.runtime.addressees import Addressees
from ganglion.runtime.batches import Batch
from ganglion.runtime.bound_port import BoundPort
from ganglion.runtime.endpoint_outlet import REPLY_LOST
from ganglion.runtime.endpoint_plane import InProcess, leg_path, max_frame_bytes, open_port
from ganglion.runtime.links import NO_SLOT, Link
from ganglion.runtime.plane import MessageId
from ganglion.runtime.reactor import Reactor
from ganglion.runtime.receiver import FLUSH_MESSAGES
from ganglion.runtime.sender import Sender
from ganglion.runtime.sockets import Context
from ganglion.wire import frames
from ganglion.wire.control import Ledger
from ganglion.wiring import ChannelWiring

log = logging.getLogger(__name__)

LEG_BYTES = 64 * 1024 * 1024
"""Most bytes that a sidecar takes over from its agent before peers acknowledge them; the agent keeps the rest."""


class _Side:
    """Adapts one side of a relay to `LinkUser`."""

    def __init__(
        self,
        up: Callable[[Link], None],
        frame: Callable[[Link, int, Any, bytes], None],
        down: Callable[[Link, bool], None],
    ) -> None:
        self.link_up = up
        self.link_frame = frame
        self._down = down

    def link_down(self, link: Link, *, crashed: bool) -> None:
        self._down(link, crashed)


class SendRelay:
    """Push or Req of an agent behind this sidecar.

    Args:
        reactor: of the sidecar's main thread.
        context: of the data plane.
        channel: wiring of the alias.
        location: who and where this sidecar is.
        run_dir: where the leg is made.
        on_dead: (channel, id, body, reason) of every dead letter.
    Raises:
        GanglionError: leg or port cannot be opened.
    """

    def __init__(
        self,
        reactor: Reactor,
        context: Context,
        channel: ChannelWiring,
        location: InProcess,
        run_dir: Path,
        *,
        on_dead: Callable[[ChannelWiring, MessageId, bytes, str], None] = lambda _channel, _id, _body, _why: None,
    ) -> None:
        self.channel = channel
        self._reactor = reactor
        self._sender = self._make_sender(on_dead)
        self._app: Link | None = None
        self._app_stream: int | None = None
        self._granted = 0
        self._links_changed = False
        self._acks: list[frames.Range] = []
        self._waiting = 0
        self._own_stream = secrets.randbits(64)
        self._own_next = 0
        self._deadlines: dict[tuple[int, int], tuple[float, int]] = {}
        """Of requests that are unsettled: (stream, first) → (Unix seconds, how many)."""
        self._closed = False
        self._leg = BoundPort(
            reactor,
            context,
            _Side(self._app_up, self._app_frame, self._app_down),
            location.identity,
            endpoint=leg_path(run_dir, channel.alias),
            max_frame_bytes=max_frame_bytes(channel),
            anybody=True,
            zero_copy=True,
            pumped=True,
        )
        try:
            self.port = open_port(reactor, context, channel, _Side(self._peer_up, self._peer_frame, self._peer_down), location, pumped=True)
        except BaseException:
            self._leg.close()
            raise
        reactor.on_flush(self._flush)
        reactor.on_tick(self._tick)

    def _make_sender(self, on_dead: Callable[[ChannelWiring, MessageId, bytes, str], None]) -> Sender | AddressedSender:
        def dead(id_: MessageId, body: bytes, why: str) -> None:
            on_dead(self.channel, id_, body, why)

        if not self.channel.addressed:
            return Sender(on_settled=self._settled, on_acked=self._on_acked, on_dead=dead, on_failed=self._on_failed)
        return AddressedSender(
            lambda link: link.address if isinstance(link, Link) else "",
            4 * self.channel.high_water_mark + frames.MAX_BATCH,
            on_absent=self._on_absent,
            on_settled=self._settled,
            on_acked=self._on_acked,
            on_dead=dead,
        )

    # -- state

    def set_addressees(self, addressees: Addressees) -> None:
        """Addressed channels: whom there is to send to; what waits for others is given up."""
        if isinstance(self._sender, AddressedSender):
            self._sender.set_addressees(addressees)
            self._reactor.flush_soon()

    @property
    def wired(self) -> int:
        """Receivers that granted credit."""
        return self._sender.links

    @property
    def attached(self) -> bool:
        """Whether an agent is on the leg."""
        return self._app is not None

    @property
    def at_rest(self) -> bool:
        """Nothing taken over is unsettled."""
        return self._sender.at_rest

    def ledger(self) -> Ledger:
        """What this sidecar took over since it started. Any thread."""
        return self._sender.ledger()

    def inject(self, body: bytes) -> None:
        """Send a message of the sidecar's own (a dead letter), unless it is larger than the channel allows."""
        limit = self.channel.max_message_bytes
        if len(body) > limit:
            log.error("channel %s: a dead letter of %d bytes is lost; maxMessageBytes is %d", self.channel.alias, len(body), limit)
            return
        self._sender.offer(frames.encode_data(self._own_stream, self._own_next, [body]))
        self._own_next += 1
        self._reactor.flush_soon()

    def close(self) -> None:
        """Close leg and port; idempotent. What is unsettled the agent replays to the next sidecar."""
        if self._closed:
            return
        self._flush()
        self._closed = True
        self._reactor.off_flush(self._flush)
        self._reactor.off_tick(self._tick)
        self._leg.close()
        self.port.close()

    # -- the agent's side

    def _app_up(self, link: Link) -> None:
        self._app = link
        self._app_stream = None
        self._grant()
        if isinstance(self._sender, AddressedSender):
            self._sender.tell_absent()

    def _on_absent(self, address: str, absent: bool) -> None:
        if self._app is not None:
            self._app.send(frames.encode_control(frames.WELCOME, {"absent" if absent else "back": address}))

    def _grant(self) -> None:
        # What a former life of the agent left here counts against the memory that this life may fill.
        if self._app is None:
            return
        mark = self.channel.high_water_mark
        if isinstance(self._sender, AddressedSender):
            # For each receiver; what is too much for one of them is given up.
            self._granted = mark
            self._say_grant()
            return
        foreign = self._sender.in_flight - (0 if self._app_stream is None else self._sender.in_flight_of(self._app_stream))
        # An agent that crashes again and again waits once its former lives have left three times its share.
        self._granted = max(self.channel.batch, mark - foreign) if foreign < 3 * mark else 0
        self._say_grant()

    def _say_grant(self) -> None:
        if self._app is None:
            return
        fields = {"messages": self._granted, "bytes": LEG_BYTES, "wired": self._sender.links}
        self._app.send(frames.encode_control(frames.WELCOME, fields))

    def _app_frame(self, link: Link, kind: int, frame: Any, _slot: bytes) -> None:
        if kind != frames.DATA or link is not self._app:
            return
        head = frames.data_head(frame.buffer)
        arena.note(len(frame), head.n)
        if not self.channel.addressed and self._sender.in_flight >= 4 * self.channel.high_water_mark + frames.MAX_BATCH:
            raise frames.FrameError(f"{self._sender.in_flight} messages are unsettled; {self._granted} were granted")
        # Bodies stay unopened; a request that cannot be read is refused before it is taken over.
        deadline = frames.decode_data(frame.buffer).ext.get("deadline") if head.flags & frames.FLAG_REQUEST else None
        self._app_stream = head.stream
        if not self._sender.offer(frame, head):
            self._sender.report_again(head)
        elif isinstance(deadline, int):
            self._deadlines[head.stream, head.first] = deadline / 1000, head.n
        self._sender.pump()

    def _app_down(self, link: Link, _crashed: bool) -> None:
        if link is self._app:
            self._app = None

    # -- the peers' side

    def _peer_up(self, link: Link) -> None:
        self._sender.add_link(link, link.send)

    def _peer_frame(self, link: Link, kind: int, frame: Any, _slot: bytes) -> None:
        sender = self._sender
        if kind == frames.ACK:
            sender.ack(link, frames.decode_ack(frame))
        elif kind == frames.REPLY:
            reply = frames.decode_reply(frame)
            arena.note(len(reply.body))
            if sender.reply(link, reply.stream, reply.seq) and self._app is not None:
                self._app.send(frame)
        elif kind == frames.WELCOME:
            fields = frames.decode_control(frame)[1]
            if "messages" in fields:
                sender.grant(link, frames.count_field(fields, "messages", 0), frames.count_field(fields, "bytes", 0))
                self._links_changed = True
        elif kind == frames.REVOKE:
            # Everything before this echo is taken back.
            link.send(frames.encode_control(frames.REVOKE))
            self._reactor.flush_soon()
            sender.revoke(link, charge=bool(frames.decode_control(frame)[1].get("charge")))
            self._links_changed = True
        elif kind == frames.DRAIN:
            sender.drain(link)
        if sender.pending:
            sender.pump()
        if self._waiting >= FLUSH_MESSAGES:
            self._send_acks()

    def _peer_down(self, link: Link, crashed: bool) -> None:
        self._sender.lost(link, charge=crashed and link.charge)
        self._links_changed = True
        self._sender.pump()
        self._reactor.flush_soon()

    # -- settlement

    def _on_acked(self, stream: int, first: int, count: int, code: int) -> None:
        if stream == self._own_stream:
            return
        acks = self._acks
        self._waiting += count
        if acks:
            last = acks[-1]
            if last[0] == stream and last[3] == code and last[1] + last[2] == first:
                acks[-1] = (stream, last[1], last[2] + count, code)
                return
        acks.append((stream, first, count, code))

    def _on_failed(self, stream: int, seq: int) -> None:
        if self._app is not None and stream != self._own_stream:
            self._app.send(frames.encode_reply(stream, seq, b"", code=REPLY_LOST))

    def _send_acks(self) -> None:
        acks, self._acks, self._waiting = self._acks, [], 0
        # Kept for nobody: a life of the agent that is over cannot use them, and one that reconnects replays.
        if self._app is not None and self.channel.role == "Push":
            self._app.send(frames.encode_ack(acks))

    def _flush(self) -> None:
        if self._sender.pending:
            self._sender.pump()
        if self._acks:
            self._send_acks()
        if self._links_changed:
            self._links_changed = False
            self._grant()

    def _tick(self, _now: float) -> None:
        if self._app is not None and self._granted < self.channel.high_water_mark:
            self._grant()
        now = time.time()
        over = [(key, count) for key, (deadline, count) in self._deadlines.items() if deadline < now]
        for (stream, first), count in over:
            # The requester has its timeout already; what still waits here must not be handled.
            self._deadlines.pop((stream, first), None)
            for seq in range(first, first + count):
                self._sender.cancel(stream, seq)

    def _settled(self, batch: Batch) -> None:
        self._deadlines.pop((batch.stream, batch.first), None)


class ReceiveRelay:
    """Pull or Rep of an agent behind this sidecar; arguments as for `SendRelay`.

    Raises:
        GanglionError: leg or port cannot be opened.
    """

    def __init__(self, reactor: Reactor, context: Context, channel: ChannelWiring, location: InProcess, run_dir: Path) -> None:
        self.channel = channel
        self._reactor = reactor
        self._app: Link | None = None
        self._grant: bytes | None = None
        """The WELCOME by which the agent granted credit; forwarded as it is."""
        self._slots: dict[bytes, Link] = {}
        self._slot_of: dict[Link, bytes] = {}
        self._revoked: dict[Link, int] = {}
        """Revocations that a sender has not echoed yet."""
        self._next_slot = 0
        self._draining = False
        self._app_draining = False
        """The agent of now wants nothing new; the next one will."""
        self._closed = False
        self.forwarded = 0
        """Frames handed to the agent."""
        self._leg = BoundPort(
            reactor,
            context,
            _Side(self._app_up, self._app_frame, self._app_down),
            location.identity,
            endpoint=leg_path(run_dir, channel.alias),
            max_frame_bytes=max_frame_bytes(channel),
            slotted=True,
            anybody=True,
            pumped=True,
        )
        try:
            self.port = open_port(
                reactor, context, channel, _Side(self._peer_up, self._peer_frame, self._peer_down), location, pumped=True, zero_copy=True
            )
        except BaseException:
            self._leg.close()
            raise

    # -- state

    @property
    def wired(self) -> int:
        """Senders that an attached agent can hear."""
        return len(self._slots) if self._grant is not None else 0

    @property
    def attached(self) -> bool:
        """Whether an agent is on the leg."""
        return self._app is not None

    def stop_intake(self) -> None:
        """Ask all senders for nothing new; what the agent holds it still settles or hands back."""
        self._draining = True
        self._drain_peers()

    def resume_intake(self) -> None:
        """Undo `stop_intake`; an agent that wants nothing new still gets nothing."""
        self._draining = False
        for peer in self._slot_of:
            self._greet(peer)
        self._reactor.flush_soon()

    def close(self) -> None:
        """Close leg and port; idempotent. What the agent holds is redelivered by its senders."""
        if self._closed:
            return
        self._closed = True
        self.port.close()
        self._leg.close()

    # -- the agent's side

    def _app_up(self, link: Link) -> None:
        self._app = link
        self._app_draining = False
        for slot, peer in self._slots.items():
            self._announce(slot, peer)

    def _announce(self, slot: bytes, peer: Link) -> None:
        if self._app is not None and peer.peer is not None:
            self._app.send_slot(slot, frames.encode_control(frames.WELCOME, {"replica": peer.peer.replica, "address": peer.address}))

    def _app_frame(self, link: Link, kind: int, frame: Any, slot: bytes) -> None:
        if link is not self._app:
            return
        if slot != NO_SLOT:
            peer = self._slots.get(slot)
            if peer is not None and kind in (frames.ACK, frames.REPLY):
                peer.send(frame)
                self._reactor.flush_soon()
        elif kind == frames.WELCOME:
            fields = frames.decode_control(frame)[1]
            if "messages" in fields:
                self._grant = frame
                # An agent that still wants nothing says so again behind it.
                self._app_draining = False
                for peer in self._slot_of:
                    self._greet(peer)
                self._reactor.flush_soon()
        elif kind == frames.DRAIN:
            self._app_draining = True
            self._drain_peers()

    def _greet(self, peer: Link) -> None:
        if self._grant is not None:
            peer.send(self._grant)
        if self._draining or self._app_draining:
            peer.send(frames.encode_control(frames.DRAIN))

    def _drain_peers(self) -> None:
        for peer in self._slot_of:
            peer.send(frames.encode_control(frames.DRAIN))
        self._reactor.flush_soon()

    def _app_down(self, link: Link, crashed: bool) -> None:
        if link is not self._app:
            return
        self._app = None
        self._grant = None
        # The lease is over: at once, not when somebody notices.
        revocation = frames.encode_control(frames.REVOKE, {"charge": crashed})
        for peer in self._slot_of:
            self._revoked[peer] = self._revoked.get(peer, 0) + 1
            peer.send(revocation)
        self._reactor.flush_soon()

    # -- the peers' side

    def _peer_up(self, link: Link) -> None:
        self._next_slot += 1
        slot = self._next_slot.to_bytes(4, "little")
        self._slots[slot] = link
        self._slot_of[link] = slot
        self._announce(slot, link)
        self._greet(link)

    def _peer_frame(self, link: Link, kind: int, frame: Any, _slot: bytes) -> None:
        if kind == frames.REVOKE:
            if (left := self._revoked.pop(link, 0) - 1) > 0:
                self._revoked[link] = left
        # What was sent before the revocation came there is dropped, also when the next agent has come: it would get it twice.
        elif kind == frames.DATA and link not in self._revoked and self._app is not None and self._grant is not None:
            arena.note(len(frame), frames.data_head(frame.buffer).n)
            self.forwarded += 1
            self._app.send_slot(self._slot_of[link], frame)
            self._reactor.flush_soon()

    def _peer_down(self, link: Link, _crashed: bool) -> None:
        slot = self._slot_of.pop(link)
        del self._slots[slot]
        self._revoked.pop(link, None)
        if self._app is not None:
            self._app.send_slot(slot, frames.encode_control(frames.BYE))
