"""Plain programs that send on acknowledged channels: a PUSH or a REQ on the ipc leg, and the protocol beyond it.

A pushed message is accepted when the sidecar has it; from then on it is acknowledged, redelivered and counted like any other. When
`highWaterMark` messages are unacknowledged the sidecar stops reading, and the program's send blocks.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path

import zmq

from ganglion.runtime.barrier import BarrierGate
from ganglion.runtime.breakwater import Breakwater
from ganglion.runtime.endpoint_outlet import EndpointOutlet
from ganglion.runtime.endpoint_plane import InProcess, leg_path, max_program_frame_bytes, open_port
from ganglion.runtime.errors import GanglionError
from ganglion.runtime.links import Port
from ganglion.runtime.plane import MessageId, Reply
from ganglion.runtime.programs import ProgramMonitor
from ganglion.runtime.reactor import Reactor, readable
from ganglion.runtime.sockets import Context, Socket, bind_ipc, make_ipc_socket
from ganglion.wire.control import Ledger
from ganglion.wiring import ChannelWiring

log = logging.getLogger(__name__)

REQUEST_SECONDS = 30.0
"""A plain program names no timeout with its request; after so long it gets an error for a reply."""
_FRAMES_PER_TURN = 8
"""A bare message is small work beside a batch: so many for each frame of the reactor's budget."""
_LEG_FRAMES = 64
"""Messages that wait in the leg's own queue beyond those that are accepted."""

OnDead = Callable[[ChannelWiring, MessageId, bytes, str], None]


class _PlainSender:
    """What both roles share: the leg, the outlet beyond it, and reading no more than can be accepted."""

    def __init__(
        self, reactor: Reactor, context: Context, channel: ChannelWiring, location: InProcess, run_dir: Path, *, kind: int, on_dead: OnDead
    ) -> None:
        self.channel = channel
        self.malformed = 0
        """Messages that could not be taken: too many frames, or too large."""
        self._reactor = reactor
        self._limit = channel.high_water_mark
        self._enough = min(channel.batch, max(1, channel.high_water_mark // 2))
        """Room for which reading begins again."""
        self._paused = False
        self._unread = False
        """Something waited in the leg when it was last looked at."""
        self._drops = channel.overflow == "DropNewest"
        self._closed = False
        self._outlet = EndpointOutlet(
            reactor, channel, gate=BarrierGate(channel.barrier), on_dead=lambda id_, body, why: on_dead(channel, id_, body, why)
        )
        self._leg: Socket = make_ipc_socket(
            context, kind, max_message_bytes=max_program_frame_bytes(channel), high_water_mark=min(_LEG_FRAMES, channel.high_water_mark)
        )
        self._path = leg_path(run_dir, channel.alias)
        self._inner: Path | None = None
        self._breakwater: Breakwater | None = None
        self._programs: ProgramMonitor | None = None
        try:
            self._programs = ProgramMonitor(self._leg, channel)
            if kind == zmq.PULL:
                self._inner = run_dir / f".{channel.alias}.in"
                bind_ipc(self._leg, self._inner)
                self._breakwater = Breakwater(self._path, self._inner)
            else:
                # A REQ waits for its reply: nothing of it is under way when it ends.
                bind_ipc(self._leg, self._path)
            self.port: Port = open_port(reactor, context, channel, self._outlet, location, pumped=True)
        except OSError as error:
            self._shut()
            raise GanglionError(f"channel {channel.alias!r}: cannot listen on {self._path}: {error.strerror}") from error
        except BaseException:
            self._shut()
            raise
        self._outlet.attach(self.port)
        self._outlet.on_settled = self._settled
        reactor.add(self, pumped=False)

    @property
    def wired(self) -> int:
        """Receivers that granted credit."""
        return self._outlet.wired

    @property
    def attached(self) -> bool:
        """Whether a program is on the leg."""
        return self._programs is not None and self._programs.count > 0

    @property
    def at_rest(self) -> bool:
        """Nothing waits in the leg, and nothing taken over is unsettled."""
        return self._outlet.at_rest and (self._closed or not readable(self._leg))

    @property
    def quiet(self) -> bool:
        """As `at_rest`, as far as the last look into the leg told. Any thread: the leg itself belongs to the main one."""
        return self._outlet.at_rest and not self._unread

    def ledger(self) -> Ledger:
        """What was accepted from the program. Any thread."""
        return self._outlet.ledger()

    def inject(self, body: bytes) -> None:
        """Send a message of the sidecar's own (a dead letter)."""
        self._outlet.inject(body)

    def stop_intake(self) -> None:
        """Nothing to do: what the program has sent is taken over until it has gone."""

    def close(self) -> None:
        """Close leg and port; idempotent. What is unsettled is lost with this sidecar: a plain program keeps no copy."""
        if self._closed:
            return
        self._closed = True
        self._reactor.remove(self)
        self._shut()

    def _shut(self) -> None:
        if self._breakwater is not None:
            self._breakwater.close()
        self._leg.disable_monitor()
        if self._programs is not None:
            self._programs.close()
        self._leg.close(0)
        self._outlet.close(0.0)
        for path in (self._path, self._inner):
            if path is not None:
                path.unlink(missing_ok=True)

    # -- Source

    @property
    def sockets(self) -> list[Socket]:
        """The leg, unless the channel is full: what is not read must not keep the reactor awake; and its monitor."""
        assert self._programs is not None
        return [self._programs.socket] if self._paused else [self._leg, self._programs.socket]

    def ready(self) -> bool:
        """Whether `drain` has something to do."""
        assert self._programs is not None
        return (not self._paused and readable(self._leg)) or readable(self._programs.socket)

    def drain(self, budget: int) -> bool:
        """Take what there is room for."""
        assert self._programs is not None
        self._programs.drain()
        room = min(budget * _FRAMES_PER_TURN, self._room)
        try:
            for _ in range(room):
                self._take(self._leg.recv_multipart(zmq.NOBLOCK))
        except zmq.Again:
            return False
        if self._room <= 0:
            self._pause(True)
            return False
        return True

    def tick(self, now: float) -> None:
        """Look whether something waits."""
        self._unread = readable(self._leg)

    def _settled(self) -> None:
        if self._paused and self._room >= self._enough:
            self._pause(False)

    def _pause(self, paused: bool) -> None:
        self._paused = paused
        self._reactor.changed(self)

    @property
    def _room(self) -> int:
        return self._limit if self._drops else self._limit - self._outlet.ledger().in_flight

    def _take(self, parts: list[bytes]) -> None:
        raise NotImplementedError

    def _refuse(self, why: str) -> None:
        self.malformed += 1
        if self.malformed == 1:
            log.warning("channel %r: a program's message was dropped: %s (further ones are only counted)", self.channel.alias, why)

    def _fault(self, parts: list[bytes]) -> str:
        """Why a message cannot be taken; empty when it can."""
        if len(parts) != 1:
            return f"found {len(parts)} frames, a message has one"
        if len(parts[0]) > self.channel.max_message_bytes:
            return f"found {len(parts[0])} bytes, maxMessageBytes is {self.channel.max_message_bytes}"
        return ""


class PlainPush(_PlainSender):
    """A program's PUSH on an at-least-once channel.

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
        self, reactor: Reactor, context: Context, channel: ChannelWiring, location: InProcess, run_dir: Path, *, on_dead: OnDead
    ) -> None:
        super().__init__(reactor, context, channel, location, run_dir, kind=zmq.PULL, on_dead=on_dead)

    def _take(self, parts: list[bytes]) -> None:
        fault = self._fault(parts)
        if fault:
            self._refuse(fault)
        else:
            self._outlet.send(parts[0])


class PlainReq(_PlainSender):
    """A program's REQ (or a DEALER that sends an empty frame first). Arguments as for `PlainPush`.

    A reply has one frame. An error has two: an empty one, and a JSON object with `error` (RequestTimeout, ReplierLost, RemoteError, BadRequest)
    and `message`. So a program gets an answer to every request, and may go on.
    """

    def __init__(self, reactor: Reactor, context: Context, channel: ChannelWiring, location: InProcess, run_dir: Path) -> None:
        self._requests = 0
        super().__init__(reactor, context, channel, location, run_dir, kind=zmq.ROUTER, on_dead=lambda *_: None)

    def _take(self, parts: list[bytes]) -> None:
        try:
            split = parts.index(b"", 1) + 1
        except ValueError:
            self._refuse("found no empty frame before the body; use a REQ socket")
            return
        envelope, body = parts[:split], parts[split:]
        fault = self._fault(body)
        if fault:
            self._refuse(fault)
            self._answer(envelope, [b"", _error("BadRequest", fault)])
            return
        self._outlet.request(body[0], timeout=REQUEST_SECONDS, on_reply=lambda reply: self._reply(envelope, reply))

    def _reply(self, envelope: list[bytes], reply: Reply) -> None:
        error = reply.error
        if error is not None:
            log.info("channel %r: request failed: %s", self.channel.alias, error)
        body = [bytes(reply.body or b"")] if error is None else [b"", _error(type(error).__name__, str(error))]
        self._answer(envelope, body)

    def _answer(self, envelope: list[bytes], body: list[bytes]) -> None:
        if self._leg.closed:
            return
        try:
            self._leg.send_multipart([*envelope, *body], zmq.NOBLOCK)
        except zmq.ZMQError as error:
            # EHOSTUNREACH: the program has gone. Again: it reads no replies.
            log.debug("channel %r: a reply was not taken: %s", self.channel.alias, error)
        self._reactor.flush_soon()


def _error(name: str, message: str) -> bytes:
    return json.dumps({"error": name, "message": message}).encode()
