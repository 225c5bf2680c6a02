"""What both kinds of a control thread's leg upwards have in common, as a pure state machine.

Time is an argument (monotonic seconds); frames to send collect in `outbox`; what the main loop must hear goes to the listener.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from ganglion.runtime.directory import DirectoryMirror
from ganglion.runtime.uplink import ControlListener
from ganglion.wire.control import BeatAck, Command, Ends, Message, Notice, Report, Watch, encode
from ganglion.wire.departures import MAX_WATCHED, Watching

BEAT_SECONDS = 1.0
LEASE_SECONDS = 10.0
ANSWER_SECONDS = 5.0
"""A join or a goodbye that is not answered for so long is said again on a new connection."""
MIN_BEAT_GAP_SECONDS = 0.05
"""Reports that change in kind are sent at once, but not in a stream of their own."""
RETRY_SECONDS = (0.2, 5.0)
"""First and longest wait after a refusal that may heal; doubled each time, with jitter."""
MAX_RELAYED = 64
"""Messages of the agent process that wait for the name server; it says them again with each beat. So many parts of `MAX_PART` names and lives
(15,360) may be watched behind a sidecar: of more, the ends of those that are said first are not told."""
MAX_OUTBOX = 1024
"""Frames queued while the peer takes none; beyond it the connection is given up and made anew."""


def kind_of(report: Report) -> tuple[object, ...]:
    """What of a report others act on; its change is told at once."""
    return (
        report.phase,
        report.message,
        report.process,
        report.goodbye,
        tuple((alias, part.port, part.wired, part.ended) for alias, part in report.channels.items()),
    )


@dataclass
class SessionBase:
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
    log_level: str | None = None
    """Told last."""
    watching: Watching = field(default_factory=Watching)
    watch_changes: deque[tuple[str, bool]] = field(default_factory=lambda: deque(maxlen=2 * MAX_WATCHED))
    """(name, whether) that other threads ask for."""
    relayed: deque[Watch] = field(default_factory=lambda: deque(maxlen=MAX_RELAYED))
    """What an agent process behind this sidecar says."""

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

    def _attend(self, now: float, enter: Callable[[float], None]) -> bool:
        """Let go what was held, and do what is due on the way in. Returns whether the leg stands.

        Args:
            enter: says the join or hello again.
        """
        if self.mirror.release(now):
            self._publish()
        if not self.up or self.fatal:
            return False
        if self.retry_at is not None and now >= self.retry_at:
            enter(now)
        if self.answer_due is not None and now >= self.answer_due:
            self.answer_due = None
            self.wants_new_socket = True
        return True

    def _report_due(self, report: Report, now: float) -> bool:
        if now >= self.beat_at:
            return True
        return kind_of(report) != self.last_kind and now - self.last_beat >= MIN_BEAT_GAP_SECONDS

    def _reported(self, report: Report, now: float) -> None:
        self.last_kind = kind_of(report)
        self.last_beat = now
        self.beat_at = now + self.beat_seconds

    def watch(self, name: str, on: bool) -> None:
        """Hear of the ends of who has this name, or no more. Any thread."""
        self.watch_changes.append((name, on))

    def relay_watch(self, watch: Watch) -> None:
        """Pass on what the agent process watches. Any thread."""
        self.relayed.append(watch)

    def _say_watches(self, *, beat: bool) -> None:
        """What has changed; with a beat, all: what a lost connection, or a name server that has gone, was to tell is found out so."""
        due = beat and len(self.watching) > 0
        while self.watch_changes:
            name, on = self.watch_changes.popleft()
            (self.watching.add if on else self.watching.remove)(name)
            due = True
        if due:
            for number, names in enumerate(self.watching.parts()):
                self._send(Watch(names=names, goes_on=number > 0))
        while self.relayed:
            self._send(self.relayed.popleft())

    def _take_ends(self, ends: Ends) -> None:
        if self.listener.on_ends is not None:
            self.listener.on_ends(ends)
            return
        for departure in self.watching.take(ends.news):
            self.listener.on_departure(departure)

    def _take_ack(self, ack: BeatAck) -> None:
        if ack.stay is not None:
            self.listener.on_stay(ack.stay)
        if ack.log_level is not None and ack.log_level != self.log_level:
            self.log_level = ack.log_level
            self.listener.on_log_level(ack.log_level)

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
