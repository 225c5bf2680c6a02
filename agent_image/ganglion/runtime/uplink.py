"""The two legs a control thread may have upwards, as pure state machines: to the name server, or to the sidecar.

Time is an argument (monotonic seconds); frames to send collect in `outbox`; what the main loop must hear goes to the listener.
"""

from __future__ import annotations

import functools
import logging
import random
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import msgspec

from ganglion.runtime.directory import DirectoryMirror
from ganglion.runtime.sockets import CurveKeys
from ganglion.wire.control import (
    PROTOCOL_VERSION,
    AppBye,
    AppHello,
    AppReport,
    AppWelcome,
    Beat,
    BeatAck,
    Bye,
    ByeAck,
    ChannelState,
    Command,
    Directory,
    Incarnation,
    Message,
    Notice,
    Part,
    Peer,
    Refuse,
    Report,
    Welcome,
    decode,
    encode,
)
from ganglion.wire.join import Join, JoinError, encode_join

log = logging.getLogger(__name__)

BEAT_SECONDS = 1.0
LEASE_SECONDS = 10.0
ANSWER_SECONDS = 5.0
"""A join or a goodbye that is not answered for so long is said again on a new connection."""
MIN_BEAT_GAP_SECONDS = 0.05
"""Reports that change in kind are sent at once, but not in a stream of their own."""
RETRY_SECONDS = (0.2, 5.0)
"""First and longest wait after a refusal that may heal; doubled each time, with jitter."""
MAX_OUTBOX = 1024
"""Frames queued while the peer takes none; beyond it the connection is given up and made anew."""


@dataclass(frozen=True)
class ControlListener:
    """What the main loop hears. Called in the main loop's thread."""

    on_joined: Callable[[str], None]
    """(epoch) after each accepted join."""
    on_directory: Callable[[Mapping[str, Peer], Mapping[str, ChannelState]], None]
    """(peers by replica, states by channel): always the whole current directory."""
    on_command: Callable[[Command], None]
    """Once per kind: Shutdown, then perhaps Leave. Behind a sidecar also Leave, then Shutdown: the pod's end was told before the domain's."""
    on_fatal: Callable[[Refuse], None]
    """Refused for good: the process should end with exit code 78."""
    on_lost: Callable[[], None] = lambda: None
    """The connection went; it is being made again. The directory stays."""


@dataclass(frozen=True)
class NameServerUplink:
    """How a member reaches its name server and who it is.

    Attributes:
        endpoint: `tcp://host:port`; the only name that is ever resolved, and only in the control thread's context.
        server_key: Z85; empty with `security: None`.
        keys: this process's CURVE keys; None with `security: None`.
        data_key: public key that peers shall expect; None: that of `keys`. Empty: to be told later (`set_data_key`).
        token_file: read again for each join: projected tokens are renewed.
        host: IP address that peers connect to.
        shutdown_seconds: bound of a shutdown that is learned from a refusal.
    """

    endpoint: str
    server_key: str
    keys: CurveKeys | None
    agent: str
    replica: str
    incarnation: Incarnation
    host: str
    token_file: Path
    parts: Mapping[str, Part]
    data_key: str | None = None
    shutdown_seconds: float = 60.0


@dataclass(frozen=True)
class SidecarUplink:
    """How an SDK process reaches its sidecar.

    Attributes:
        path: `<run>/control.sock`.
        replica: for the log.
        pid: process id, for people.
        data_key: public CURVE key of an InProcess data plane; empty otherwise.
    """

    path: Path
    replica: str
    pid: int
    data_key: str = ""


class Session(Protocol):
    """One leg upwards. `frames` of the outbox are sent in order as the socket takes them."""

    outbox: deque[bytes]
    wants_new_socket: bool
    up: bool
    """The connection stands."""
    left: bool
    """Goodbye was acknowledged."""

    def connected(self, now: float) -> None: ...

    def disconnected(self, now: float) -> None: ...

    def received(self, message: Message, now: float) -> None: ...

    def tick(self, now: float) -> None: ...

    def next_tick(self, now: float) -> float:
        """Seconds until `tick` is needed."""
        ...

    def say_bye(self, completed: bool, now: float) -> None: ...

    def notice(self, notice: Notice) -> None: ...

    def set_data_key(self, key: str) -> None: ...


@functools.cache
def software_version() -> str:
    """Version of the installed distribution; empty when it runs from a bare source tree."""
    from importlib import metadata

    try:
        return metadata.version("ganglion")
    except metadata.PackageNotFoundError:
        return ""


def kind_of(report: Report) -> tuple[object, ...]:
    """What of a report others act on; its change is told at once."""
    return (
        report.phase,
        report.message,
        tuple((alias, part.port, part.wired, part.ended) for alias, part in report.channels.items()),
    )


@dataclass
class _Common:
    """State that both legs share."""

    listener: ControlListener
    report: Callable[[], Report]
    outbox: deque[bytes] = field(default_factory=deque)
    wants_new_socket: bool = False
    left: bool = False
    mirror: DirectoryMirror = field(default_factory=DirectoryMirror)
    up: bool = False
    """The connection stands."""
    joined: bool = False
    ever_joined: bool = False
    answer_due: float | None = None
    """A join was said and must be answered until then."""
    retry_at: float | None = None
    refusals: int = 0
    beat_at: float = 0.0
    last_beat: float = 0.0
    last_kind: tuple[object, ...] = ()
    beat_seconds: float = BEAT_SECONDS
    lease_seconds: float = LEASE_SECONDS
    completed: bool | None = None
    """Goodbye is being said; the value of its `completed`."""
    commanded: str = ""
    notices: deque[Notice] = field(default_factory=lambda: deque(maxlen=64))
    fatal: bool = False

    def _send(self, message: Message) -> None:
        if len(self.outbox) >= MAX_OUTBOX:
            self.wants_new_socket = True
            return
        self.outbox.append(encode(message))

    def _drop_connection(self) -> None:
        self.outbox.clear()
        self.up = self.joined = False
        self.answer_due = self.retry_at = None

    def disconnected(self, now: float) -> None:
        lost = self.joined
        self._drop_connection()
        if lost:
            self.listener.on_lost()

    def _publish(self) -> None:
        self.listener.on_directory(self.mirror.peers, self.mirror.channels)

    def _command(self, command: Command) -> None:
        # A rejoined member is told again; the main loop hears each step once.
        if self.commanded in ("Leave", command.kind):
            return
        self.commanded = command.kind
        self.listener.on_command(command)

    def _welcomed(self, epoch: str, now: float) -> None:
        self.answer_due = self.retry_at = None
        self.refusals = 0
        self.joined = self.ever_joined = True
        self.mirror.enter(epoch, now, self.lease_seconds)
        self.listener.on_joined(epoch)

    def _retry(self, now: float) -> None:
        self.joined = False
        self.answer_due = None
        first, longest = RETRY_SECONDS
        wait = min(longest, first * 2.0 ** min(self.refusals, 10))
        self.refusals += 1
        self.retry_at = now + wait * random.uniform(0.5, 1.0)  # noqa: S311 - jitter, no secret

    def _report_due(self, report: Report, now: float) -> bool:
        if now >= self.beat_at:
            return True
        return kind_of(report) != self.last_kind and now - self.last_beat >= MIN_BEAT_GAP_SECONDS

    def _reported(self, report: Report, now: float) -> None:
        self.last_kind = kind_of(report)
        self.last_beat = now
        self.beat_at = now + self.beat_seconds

    def notice(self, notice: Notice) -> None:
        """Queue an event for people; the oldest of more than 64 are dropped while nobody takes them."""
        self.notices.append(notice)

    def _flush_notices(self) -> None:
        while self.notices:
            self._send(self.notices.popleft())

    def next_tick(self, now: float) -> float:
        due = [moment for moment in (self.answer_due, self.retry_at, self.mirror.held_until) if moment is not None]
        if self.joined:
            due.append(self.beat_at)
        return max(0.0, min(due) - now) if due else self.beat_seconds


class NameServerSession(_Common):
    """Member → name server: join, beats, directory, commands, goodbye."""

    def __init__(self, uplink: NameServerUplink, report: Callable[[], Report], listener: ControlListener) -> None:
        super().__init__(listener=listener, report=report)
        self.uplink = uplink
        own = uplink.keys.public if uplink.keys is not None else ""
        self.data_key = own if uplink.data_key is None else uplink.data_key
        self.issued = uplink.incarnation.issued
        self.told_key = ""
        self.told_parts = False
        self.last_ack = 0.0

    def connected(self, now: float) -> None:
        """The connection stands (its CURVE handshake included): join."""
        self.up = True
        self.joined = False
        self._join(now)

    def _join(self, now: float) -> None:
        self.retry_at = None
        try:
            token = self.uplink.token_file.read_bytes().strip()
        except OSError as error:
            # A projected token may appear a moment later; without one there is nothing to say.
            log.warning("token file %s: %s; trying again", self.uplink.token_file, error.strerror)
            self._retry(now)
            return
        who = self.uplink.incarnation
        join = Join(
            agent=self.uplink.agent,
            replica=self.uplink.replica,
            uid=who.uid,
            start=who.start,
            issued=self.issued,
            key=self.data_key,
            host=self.uplink.host,
            software=software_version(),
            token=token,
            rejoin=self.ever_joined,
        )
        try:
            frame = encode_join(join)
        except JoinError as error:
            self._fatal(Refuse(reason=error.reason, message=str(error), retry=False))
            return
        self.told_key = self.data_key
        self.told_parts = False
        self.outbox.append(frame)
        self.answer_due = now + ANSWER_SECONDS

    def _fatal(self, refuse: Refuse) -> None:
        self.fatal = True
        self.joined = False
        self.answer_due = self.retry_at = None
        self.listener.on_fatal(refuse)

    def received(self, message: Message, now: float) -> None:
        """One message of the name server."""
        match message:
            case Welcome():
                self.beat_seconds, self.lease_seconds = message.beat_seconds, message.lease_seconds
                self.last_ack = now
                self.issued = message.issued or self.issued
                self._welcomed(message.epoch, now)
                self._beat(self.report(), now)
                self._flush_notices()
                if self.completed is not None:
                    self.say_bye(self.completed, now)
            case Directory():
                if not self.joined:
                    return
                if self.mirror.apply(message):
                    self._publish()
                else:
                    # A gap: the next beat says sequence 0, and a snapshot follows.
                    self._beat(self.report(), now)
            case BeatAck():
                self.last_ack = now
            case Command():
                self._command(message)
            case Refuse():
                self._refused(message, now)
            case ByeAck():
                self.left = True
            case _:
                # A newer name server may say more than this version knows; it will not depend on it.
                pass

    def _refused(self, refuse: Refuse, now: float) -> None:
        if self.completed is not None and refuse.reason in ("NotAuthenticated", "ShuttingDown", "Fenced"):
            # Nobody holds a lease for us: that is what goodbye is for.
            self.left = True
        if refuse.reason == "ShuttingDown":
            deadline = self.uplink.shutdown_seconds / 2
            self._command(Command(kind="Shutdown" if self.ever_joined else "Leave", deadline_seconds=deadline, reason=refuse.message))
        elif not refuse.retry:
            self._fatal(refuse)
            return
        was_member = self.joined
        self._retry(now)
        if was_member:
            # The lease is over (name server restarted, or we were silent): no need to wait.
            self.refusals = 0
            self.retry_at = now

    def _beat(self, report: Report, now: float) -> None:
        key = self.data_key if self.data_key != self.told_key else ""
        parts = {} if self.told_parts else dict(self.uplink.parts)
        self._send(Beat(epoch=self.mirror.epoch, seq=self.mirror.seq, report=report, parts=parts, key=key))
        self.told_key, self.told_parts = self.data_key, True
        self._reported(report, now)

    def tick(self, now: float) -> None:
        """Beat, retry, let go."""
        if self.mirror.release(now):
            self._publish()
        if not self.up or self.fatal:
            return
        if self.retry_at is not None and now >= self.retry_at:
            self._join(now)
        if self.answer_due is not None and now >= self.answer_due:
            self.answer_due = None
            self.wants_new_socket = True
        if not self.joined:
            return
        if now - self.last_ack > self.lease_seconds:
            # Frozen or half-open: a name server that comes back has forgotten us anyhow.
            self.wants_new_socket = True
            return
        if self.completed is None:
            report = self.report()
            if self._report_due(report, now) or self.data_key != self.told_key:
                self._beat(report, now)
            self._flush_notices()

    def say_bye(self, completed: bool, now: float) -> None:
        """Goodbye with the last report; said again after a rejoin."""
        self.completed = completed
        if self.joined:
            self._send(Bye(report=self.report(), completed=completed))
            self.beat_at = now + self.lease_seconds

    def set_data_key(self, key: str) -> None:
        """The data plane has another key (an agent process behind the sidecar said hello)."""
        self.data_key = key


class SidecarSession(_Common):
    """SDK → sidecar: hello, reports, directory, commands, goodbye."""

    def __init__(self, uplink: SidecarUplink, report: Callable[[], Report], listener: ControlListener) -> None:
        super().__init__(listener=listener, report=report)
        self.uplink = uplink
        self.data_key = uplink.data_key

    def connected(self, now: float) -> None:
        """The socket stands: say hello."""
        self.up = True
        self.joined = False
        self._hello(now)

    def _hello(self, now: float) -> None:
        self.retry_at = None
        self._send(AppHello(version=PROTOCOL_VERSION, pid=self.uplink.pid, key=self.data_key))
        self.answer_due = now + ANSWER_SECONDS

    def received(self, message: Message, now: float) -> None:
        """One message of the sidecar."""
        match message:
            case AppWelcome():
                self._welcomed(message.epoch, now)
                self._report(self.report(), now)
                self._flush_notices()
                if self.completed is not None:
                    self.say_bye(self.completed, now)
            case Directory():
                if self.joined and self.mirror.apply(message):
                    self._publish()
                elif self.joined:
                    # ipc loses nothing: a gap means that the sidecar takes us for somebody else.
                    self._hello(now)
            case Command():
                self._command(message)
            case ByeAck():
                self.left = True
            case Refuse() if message.retry:
                self._retry(now)
            case Refuse():
                self.fatal = True
                self.joined = False
                self.answer_due = self.retry_at = None
                self.listener.on_fatal(message)
            case _:
                pass

    def _report(self, report: Report, now: float) -> None:
        self._send(AppReport(report=report))
        self._reported(report, now)

    def tick(self, now: float) -> None:
        """Report, retry, let go."""
        if self.mirror.release(now):
            self._publish()
        if not self.up or self.fatal:
            return
        if self.retry_at is not None and now >= self.retry_at:
            self._hello(now)
        if self.answer_due is not None and now >= self.answer_due:
            self.answer_due = None
            self.wants_new_socket = True
        if self.joined and self.completed is None:
            report = self.report()
            if self._report_due(report, now):
                self._report(report, now)
            self._flush_notices()

    def say_bye(self, completed: bool, now: float) -> None:
        """Goodbye with the last report; said again after a reconnect."""
        self.completed = completed
        if self.joined:
            self._send(AppBye(completed=completed, report=self.report()))
            self.beat_at = now + self.lease_seconds

    def _command(self, command: Command) -> None:
        # The pod's own end (Leave) may be told before that of the domain (Shutdown).
        if self.commanded != command.kind:
            self.commanded = command.kind
            self.listener.on_command(command)

    def set_data_key(self, key: str) -> None:
        """Tell the sidecar another key: hello again."""
        self.data_key = key
        if self.joined:
            self._send(AppHello(version=PROTOCOL_VERSION, pid=self.uplink.pid, key=key))


def decode_or_none(frame: bytes) -> Message | None:
    """A message of an authenticated peer; None for what this version cannot read."""
    try:
        return decode(frame)
    except msgspec.MsgspecError:
        return None
