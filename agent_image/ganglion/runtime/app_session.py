"""The leg from an SDK process to its sidecar, as a pure state machine: hello, reports, directory, commands, goodbye."""

from __future__ import annotations

from collections.abc import Callable

from ganglion.runtime.session import ANSWER_SECONDS, SessionBase
from ganglion.runtime.uplink import ControlListener, SidecarUplink
from ganglion.wire.control import (
    PROTOCOL_VERSION,
    AppBye,
    AppHello,
    AppReport,
    AppWelcome,
    BeatAck,
    ByeAck,
    Command,
    Directory,
    Ends,
    Message,
    Refuse,
    Report,
)


class AppSession(SessionBase):
    """See the module."""

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
            case Ends():
                self._take_ends(message)
            case BeatAck():
                self._take_ack(message)
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
        if not self._attend(now, self._hello):
            return
        if self.joined and self.completed is None:
            report = self.report()
            due = now >= self.beat_at
            if self._report_due(report, now):
                self._report(report, now)
            self._say_watches(beat=due)
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
