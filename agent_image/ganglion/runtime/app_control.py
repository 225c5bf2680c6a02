"""The sidecar's end of `control.sock`: the agent process, and the drain hook, talk to it here. Runs in the sidecar's main loop."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import secrets
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import msgspec
import zmq

from ganglion.runtime.directory import directory_delta
from ganglion.runtime.sockets import Context, Socket, bind_ipc, make_ipc_socket
from ganglion.wire.control import (
    PROTOCOL_VERSION,
    AdHoc,
    AppBye,
    AppHello,
    AppReport,
    AppWelcome,
    AskAdHoc,
    BeatAck,
    ByeAck,
    ChannelState,
    Command,
    Directory,
    Drain,
    Drained,
    Ends,
    Message,
    Notice,
    Peer,
    Refuse,
    Report,
    Watch,
    decode,
    encode,
)

log = logging.getLogger(__name__)

PROBE_SECONDS = 0.1
_BUDGET = 100
_MAX_ASKERS = 256


@dataclass(frozen=True)
class AppListener:
    """What the sidecar hears of the agent process."""

    on_hello: Callable[[AppHello], None]
    """A process is there (again). `key` is the public key of an InProcess data plane, to be announced instead of the sidecar's."""
    on_report: Callable[[Report], None]
    on_bye: Callable[[AppBye], None]
    """It ends by itself; `on_lost` follows only for a process that did not say goodbye."""
    on_lost: Callable[[], None]
    """It died: what it held must be redelivered."""
    on_drain: Callable[[float], None]
    """The preStop hook asks to leave within so many seconds; answer with `AppControl.drained`."""
    on_notice: Callable[[Notice], None] = lambda _notice: None
    on_watch: Callable[[Watch], None] = lambda _watch: None


class AppControl:
    """One agent process at a time; the newest wins, for a restarted one may be back before the kernel told of the old one's end.

    Args:
        context: of the sidecar's ipc legs.
        path: `<run>/control.sock`; replaced when a killed predecessor left it.
        replica: told to the process.
        listener: called in the loop.
    Raises:
        zmq.ZMQError: the directory is missing or not writable.
        ValueError: the path is too long.
    """

    def __init__(self, context: Context, path: Path, *, replica: str, listener: AppListener) -> None:
        self._path = path
        self._replica = replica
        self._listener = listener
        self._epoch = secrets.token_hex(8)
        self._seq = 0
        self._app: bytes | None = None
        self._heard = 0.0
        self._peers: Mapping[str, Peer] = {}
        self._channels: Mapping[str, ChannelState] = {}
        self._have_directory = False
        self._command: Command | None = None
        self._log_level: str | None = None
        self._hooks: list[bytes] = []
        self._ad_hoc: AdHoc | None = None
        self._askers: deque[bytes] = deque(maxlen=_MAX_ASKERS)
        self._at_rest: bool | None = None
        self._loop = asyncio.get_running_loop()
        self._closed = False
        self._again: asyncio.Handle | None = None
        self._probe: asyncio.TimerHandle | None = None
        self._socket: Socket = make_ipc_socket(context, zmq.ROUTER)
        old = os.umask(0o007)
        try:
            bind_ipc(self._socket, path)
        except BaseException:
            self._socket.close()
            raise
        finally:
            os.umask(old)
        self._monitor: Socket = self._socket.get_monitor_socket(zmq.EVENT_DISCONNECTED)
        self._loop.add_reader(self._socket.fileno(), self._drain_socket)
        self._loop.add_reader(self._monitor.fileno(), self._drain_monitor)
        self._look_again()
        # The descriptor tells of changes after the last look only.
        self._drain_monitor()

    @property
    def connected(self) -> bool:
        """Whether an agent process is there."""
        return self._app is not None

    @property
    def silent_seconds(self) -> float:
        """For how long the agent process that is there has said nothing; 0 without one. Its control thread reports every second."""
        return self._loop.time() - self._heard if self._app is not None else 0.0

    def set_directory(self, peers: Mapping[str, Peer], channels: Mapping[str, ChannelState]) -> None:
        """Relay the directory as it is now: the process gets a snapshot first, then what changed."""
        before = (self._peers, self._channels)
        self._peers, self._channels = peers, channels
        first, self._have_directory = not self._have_directory, True
        if self._app is None:
            return
        if first:
            self._snapshot()
            return
        changed, gone, states = directory_delta(before[0], peers, before[1], channels)
        if changed or gone or states:
            self._seq += 1
            self._to_app(Directory(epoch=self._epoch, seq=self._seq, full=False, peers=changed, gone=gone, channels=states))

    def command(self, command: Command) -> None:
        """Relay a command; a process that comes later gets it, too."""
        self._command = command
        self._to_app(command)

    def ends(self, ends: Ends) -> None:
        """Relay what the name server tells of the ends of others."""
        self._to_app(ends)

    def stay(self, stay: bool) -> None:
        """Relay what the name server answers to a replica that leaves."""
        self._to_app(BeatAck(epoch=self._epoch, seq=self._seq, stay=stay))

    def log_level(self, level: str) -> None:
        """Relay the agent's level; a process that comes later gets it, too."""
        self._log_level = level
        self._to_app(BeatAck(epoch=self._epoch, seq=self._seq, log_level=level))

    def drained(self, at_rest: bool) -> None:
        """Answer every drain hook that waits, and those that come later."""
        self._at_rest = at_rest
        hooks, self._hooks = self._hooks, []
        for hook in hooks:
            self._send(hook, Drained(at_rest=at_rest))

    def set_ad_hoc(self, answer: AdHoc) -> None:
        """What programs are told that ask how to make agents of their own; those that have asked before are told now."""
        self._ad_hoc = answer
        while self._askers:
            self._send(self._askers.popleft(), answer)

    def close(self) -> None:
        """Idempotent; answers that are queued get half a second."""
        if self._closed:
            return
        self._closed = True
        for handle in (self._again, self._probe):
            if handle is not None:
                handle.cancel()
        self._loop.remove_reader(self._socket.fileno())
        self._loop.remove_reader(self._monitor.fileno())
        with contextlib.suppress(zmq.ZMQError):
            self._socket.disable_monitor()
        self._monitor.close(0)
        self._socket.close(500)
        self._path.unlink(missing_ok=True)

    # -- input ---------------------------------------------------------------------------------------------------------------------

    def _look_again(self) -> None:
        # A send can swallow the edge of the descriptor.
        if self._again is None and not self._closed:
            self._again = self._loop.call_soon(self._drain_socket)

    def _drain_socket(self) -> None:
        if self._again is not None:
            self._again.cancel()
            self._again = None
        for _ in range(_BUDGET):
            if self._closed:
                return
            try:
                frames = self._socket.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                if not int(self._socket.get(zmq.EVENTS)) & zmq.POLLIN:
                    return
                continue
            if len(frames) == 2:
                self._take(frames[0], frames[1])
        self._look_again()

    def _take(self, sender: bytes, frame: bytes) -> None:
        try:
            message = decode(frame)
        except msgspec.MsgspecError as error:
            log.warning("message on %s cannot be read: %s", self._path.name, error)
            return
        if sender == self._app:
            self._heard = self._loop.time()
        match message:
            case AppHello():
                self._hello(sender, message)
            case Drain():
                if self._at_rest is not None:
                    self._send(sender, Drained(at_rest=self._at_rest))
                    return
                self._hooks.append(sender)
                self._listener.on_drain(message.deadline_seconds)
            case AskAdHoc():
                if self._ad_hoc is None:
                    # Who asks before the join waits for it.
                    self._askers.append(sender)
                else:
                    self._send(sender, self._ad_hoc)
            case _ if sender != self._app:
                self._send(sender, Refuse(reason="NotAuthenticated", message="say AppHello first", retry=True))
            case AppReport():
                self._listener.on_report(message.report)
            case Notice():
                self._listener.on_notice(message)
            case Watch():
                self._listener.on_watch(message)
            case AppBye():
                self._listener.on_report(message.report)
                self._send(sender, ByeAck())
                self._app = None
                self._listener.on_bye(message)
            case _:
                log.warning("%s is no message for a sidecar", type(message).__name__)

    def _hello(self, sender: bytes, hello: AppHello) -> None:
        if hello.version != PROTOCOL_VERSION:
            text = f"the sidecar speaks version {PROTOCOL_VERSION}, the SDK {hello.version}; use images of one release"
            self._send(sender, Refuse(reason="UnknownVersion", message=text, retry=False))
            return
        if self._app is not None and self._app != sender:
            before, self._app = self._app, None
            self._send(before, Refuse(reason="Fenced", message="a newer agent process has come", retry=False))
            self._listener.on_lost()
        self._app = sender
        self._heard = self._loop.time()
        self._seq = 0
        self._send(sender, AppWelcome(version=PROTOCOL_VERSION, replica=self._replica, epoch=self._epoch))
        if self._log_level is not None:
            self._send(sender, BeatAck(epoch=self._epoch, seq=self._seq, log_level=self._log_level))
        if self._have_directory:
            self._snapshot()
        if self._command is not None:
            self._send(sender, self._command)
        self._listener.on_hello(hello)

    def _drain_monitor(self) -> None:
        while int(self._monitor.get(zmq.EVENTS)) & zmq.POLLIN:
            self._monitor.recv_multipart(zmq.NOBLOCK)
            self._watch_closely()

    # -- output --------------------------------------------------------------------------------------------------------------------

    def _snapshot(self) -> None:
        self._seq += 1
        self._to_app(
            Directory(epoch=self._epoch, seq=self._seq, full=True, peers=list(self._peers.values()), channels=dict(self._channels))
        )

    def _to_app(self, message: Message) -> None:
        if self._app is not None:
            self._send(self._app, message)

    def _send(self, target: bytes, message: Message) -> None:
        try:
            self._socket.send_multipart([target, encode(message)], zmq.NOBLOCK)
        except zmq.Again:
            # It reads nothing for a thousand messages: it gets a snapshot when it says hello again.
            log.warning("the agent process takes no control messages")
            self._send_failed(target)
        except zmq.ZMQError as error:
            if error.errno != zmq.EHOSTUNREACH:
                raise
            self._send_failed(target)
        self._look_again()

    def _send_failed(self, target: bytes) -> None:
        if target == self._app:
            self._app = None
            self._loop.call_soon(self._lost)

    def _lost(self) -> None:
        if not self._closed and self._app is None:
            self._listener.on_lost()

    def _watch_closely(self) -> None:
        """Some connection ended, and the event does not say whose: ask the agent's until it fails or proves alive.

        The routing id dies a moment after the event, hence more than once.
        """
        if self._app is not None and self._probe is None:
            self._probe_app(self._app, 10)

    def _probe_app(self, app: bytes, left: int) -> None:
        self._probe = None
        if self._closed or self._app != app:
            return
        try:
            self._socket.send_multipart([app, encode(BeatAck(epoch=self._epoch, seq=self._seq))], zmq.NOBLOCK)
        except zmq.ZMQError:
            self._send_failed(app)
            return
        if left:
            self._probe = self._loop.call_later(PROBE_SECONDS, self._probe_app, app, left - 1)
