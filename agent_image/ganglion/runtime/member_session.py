"""The leg from a member to its name server, as a pure state machine: join, beats, directory, commands, goodbye."""

from __future__ import annotations

import logging
from collections.abc import Callable

from ganglion.runtime.session import ANSWER_SECONDS, SessionBase
from ganglion.runtime.uplink import ControlListener, NameServerUplink, software_version
from ganglion.wire.control import Beat, BeatAck, Bye, ByeAck, Command, Directory, Ends, Message, Refuse, Report, Welcome
from ganglion.wire.join import Join, JoinError, encode_join

log = logging.getLogger(__name__)


class MemberSession(SessionBase):
    """See the module."""

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
        who, key = self.uplink.incarnation, self.data_key
        join = Join(
            agent=self.uplink.agent,
            replica=self.uplink.replica,
            uid=who.uid,
            start=who.start,
            issued=self.issued,
            key=key,
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
        # Not `data_key`: the main thread may have set it since, and it would never be told.
        self.told_key = key
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
                self.listener.on_ad_hoc(message.ad_hoc)
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
                self._take_ack(message)
            case Command():
                self._command(message)
            case Ends():
                self._take_ends(message)
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
        key = self.data_key
        parts = {} if self.told_parts else dict(self.uplink.parts)
        self._send(Beat(epoch=self.mirror.epoch, seq=self.mirror.seq, report=report, parts=parts, key=key if key != self.told_key else ""))
        self.told_key, self.told_parts = key, True
        self._reported(report, now)

    def tick(self, now: float) -> None:
        """Beat, retry, let go."""
        if not self._attend(now, self._join):
            return
        if not self.joined:
            return
        if now - self.last_ack > self.lease_seconds:
            # Frozen or half-open: a name server that comes back has forgotten us anyhow.
            self.wants_new_socket = True
            return
        if self.completed is None:
            report = self.report()
            due = now >= self.beat_at
            if self._report_due(report, now) or self.data_key != self.told_key:
                self._beat(report, now)
            self._say_watches(beat=due)
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
