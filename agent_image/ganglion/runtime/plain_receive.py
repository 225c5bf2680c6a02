"""Plain programs that receive on acknowledged channels: a REP on the ipc leg, whose reply is the acknowledgement or the answer.

The sidecar plays the REQ, but never gets stuck like one: each request carries a tag in its envelope, which a REP echoes, so that a late
reply of a program that was given up cannot be taken for another's.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from pathlib import Path

import msgspec
import zmq

from ganglion.runtime.endpoint_inlet import EndpointInlet
from ganglion.runtime.endpoint_plane import InProcess, leg_path, max_program_frame_bytes, open_port
from ganglion.runtime.errors import GanglionError
from ganglion.runtime.links import Port
from ganglion.runtime.plane import InletSpec, MessageId, Verdict
from ganglion.runtime.programs import ProgramMonitor
from ganglion.runtime.reactor import Reactor
from ganglion.runtime.sockets import Context, Socket, bind_ipc, make_ipc_socket
from ganglion.wiring import ChannelWiring

log = logging.getLogger(__name__)

PREFETCH = 64
"""Most messages that wait here for the program, for each sender: it handles one at a time, others may be idle."""


class ProgramLost(GanglionError, ConnectionError):
    """The program that held the message has gone without a reply."""


class NotStarted(GanglionError):
    """The message reached no program."""


_Waiting = tuple[bytes, "asyncio.Future[bytes]"]


class PlainReceiver:
    """A program's REP on a Pull or Rep role.

    A program is one connection. It may open several REP sockets: then several messages are out, and the end of one connection hands back all
    of them, since nothing tells which it held.

    Args:
        reactor: of the sidecar's main thread.
        context: of the data plane.
        channel: wiring of the alias.
        location: who and where this sidecar is.
        run_dir: where the leg is made.
    Raises:
        GanglionError: leg or port cannot be opened.
    """

    def __init__(self, reactor: Reactor, context: Context, channel: ChannelWiring, location: InProcess, run_dir: Path) -> None:
        self.channel = channel
        self.delivered = 0
        """Messages that a program replied to."""
        self.malformed = 0
        """Replies that belong to no message."""
        self._reactor = reactor
        self._replies = channel.role == "Rep"
        self._queue: deque[_Waiting] = deque()
        self._out: dict[bytes, _Waiting] = {}
        self._next_tag = 0
        self._closed = False
        # The grant follows from the high-water mark; nothing else of it concerns a receiver.
        narrow = msgspec.structs.replace(channel, high_water_mark=min(channel.high_water_mark, PREFETCH), ack="Handler")
        self._inlet = EndpointInlet(
            reactor,
            narrow,
            InletSpec(channel.alias, decode=bytes, handler=self._accept, encode=_as_is if self._replies else None, on_error=_judge),
        )
        self._leg: Socket = make_ipc_socket(
            context, zmq.DEALER, max_message_bytes=max_program_frame_bytes(channel), high_water_mark=PREFETCH
        )
        self._path = leg_path(run_dir, channel.alias)
        self._programs: ProgramMonitor | None = None
        try:
            self._programs = ProgramMonitor(self._leg, channel if self._replies else None)
            bind_ipc(self._leg, self._path)
            self.port: Port = open_port(reactor, context, channel, self._inlet, location, pumped=True)
        except BaseException:
            self._shut()
            raise
        self._inlet.attach(self.port)
        reactor.add(self, pumped=False)

    @property
    def wired(self) -> int:
        """Senders that an attached program can hear."""
        return self._inlet.wired if self.attached else 0

    @property
    def attached(self) -> bool:
        """Whether a program is on the leg."""
        return self._programs is not None and self._programs.count > 0

    @property
    def at_rest(self) -> bool:
        """The program holds nothing."""
        return self._inlet.idle

    @property
    def failed(self) -> int:
        """Messages that were handed back because their program had gone."""
        return self._inlet.failed

    def stop_intake(self) -> None:
        """Take no more; what the program has not got is handed back."""
        self._inlet.stop_intake()
        self._fail(self._take_queue(), NotStarted)

    def resume_intake(self) -> None:
        """Undo `stop_intake`."""
        self._inlet.resume_intake()

    def close(self) -> None:
        """Close leg and port; idempotent. What the program holds is redelivered."""
        if self._closed:
            return
        self._closed = True
        self._reactor.remove(self)
        self._fail([*self._take_queue(), *self._take_out()], NotStarted)
        self._shut()
        self._path.unlink(missing_ok=True)

    def _shut(self) -> None:
        self._inlet.close()
        self._leg.disable_monitor()
        if self._programs is not None:
            self._programs.close()
        self._leg.close(0)

    # -- Source

    @property
    def sockets(self) -> list[Socket]:
        """The leg and its monitor."""
        assert self._programs is not None
        return [self._leg, self._programs.socket]

    def drain(self, budget: int) -> bool:
        """Take replies, and notice programs that come and go."""
        more = True
        try:
            for _ in range(budget):
                self._replied(self._leg.recv_multipart(zmq.NOBLOCK))
        except zmq.Again:
            more = False
        # After the replies: a program may answer and go.
        assert self._programs is not None
        before = self._programs.count
        came, went = self._programs.drain()
        if went:
            self._lost(all_gone=not self._programs.count)
        if came and (before - went <= 0 or not before):
            self._inlet.start()
        self._pump()
        return more

    def tick(self, now: float) -> None:
        """Try again what the leg did not take."""
        if self._queue:
            self._pump()

    # -- inside

    def _accept(self, body: bytes) -> asyncio.Future[bytes]:
        future: asyncio.Future[bytes] = self._reactor.loop.create_future()
        if not self.attached:
            # It was under way when the last program went; its sender has taken it back.
            future.set_exception(NotStarted("no program is connected"))
            return future
        self._queue.append((body, future))
        self._pump()
        return future

    def _pump(self) -> None:
        assert self._programs is not None
        while self._queue and len(self._out) < self._programs.count:
            tag = self._next_tag.to_bytes(8, "little")
            try:
                self._leg.send_multipart([tag, b"", self._queue[0][0]], zmq.NOBLOCK)
            except zmq.Again:
                # Its pipe is not there yet, or full of what a frozen program has not read: the next tick tries again.
                break
            self._next_tag += 1
            self._out[tag] = self._queue.popleft()
        # Sending may have swallowed the edge that tells of a reply.
        self._reactor.flush_soon()

    def _replied(self, parts: list[bytes]) -> None:
        waiting = self._out.pop(parts[0], None) if len(parts) >= 3 and parts[1] == b"" else None
        if waiting is None:
            # A late reply of a program that was given up, or no REP at all.
            self.malformed += 1
            return
        self.delivered += 1
        future = waiting[1]
        if not future.done():
            future.set_result(b"".join(parts[2:]))

    def _lost(self, *, all_gone: bool) -> None:
        log.warning("channel %r: a program has gone; it held %d messages", self.channel.alias, len(self._out))
        held = self._take_out()
        if self._replies:
            # The revocation first: it fails requests as ReplierLost, and what we answer afterwards is heard by nobody.
            self._inlet.suspend()
            self._fail([*held, *self._take_queue()], ProgramLost)
            if not all_gone:
                self._inlet.start()
            return
        self._fail(held, ProgramLost)
        if all_gone:
            self._fail(self._take_queue(), NotStarted)
            self._inlet.suspend()

    def _fail(self, waiting: list[_Waiting], error: Callable[[str], Exception]) -> None:
        for _, future in waiting:
            if not future.done():
                future.set_exception(error(f"channel {self.channel.alias!r}: the program has gone"))

    def _take_queue(self) -> list[_Waiting]:
        waiting = list(self._queue)
        self._queue.clear()
        return waiting

    def _take_out(self) -> list[_Waiting]:
        waiting = list(self._out.values())
        self._out.clear()
        return waiting


def _as_is(body: bytes) -> bytes:
    return body


def _judge(_message: MessageId, error: BaseException) -> Verdict:
    """A program that dies with a message in hand is charged to that message; what it never got is not."""
    return Verdict.REJECT if isinstance(error, ProgramLost) else Verdict.RELEASE
