"""The member's side of the control protocol; time is an argument."""

from __future__ import annotations

from pathlib import Path

import pytest

from ganglion.runtime import member_session
from ganglion.runtime.app_session import AppSession
from ganglion.runtime.member_session import MemberSession
from ganglion.runtime.session import ANSWER_SECONDS
from ganglion.runtime.sockets import CurveKeys
from ganglion.runtime.uplink import NameServerUplink, SidecarUplink
from ganglion.wire.control import (
    AppHello,
    AppReport,
    AppWelcome,
    Beat,
    BeatAck,
    Bye,
    ByeAck,
    ChannelReport,
    Command,
    Directory,
    Incarnation,
    Message,
    Notice,
    Part,
    Refuse,
    Report,
    Welcome,
    decode,
)
from ganglion.wire.join import MAGIC, Join, decode_join
from tests.support.nameserver import Heard

WELCOME = Welcome(version=1, epoch="one", lease_seconds=10.0, beat_seconds=1.0)


class Desk:
    """A session, its report and what it said."""

    def __init__(self, path: Path) -> None:
        self.heard = Heard()
        self.report = Report(phase="Starting", channels={"in": ChannelReport()})
        self.token = path / "token"
        self.token.write_bytes(b"token\n")
        self.keys = CurveKeys.generate()
        uplink = NameServerUplink(
            endpoint="tcp://127.0.0.1:1",
            server_key="k" * 40,
            keys=self.keys,
            agent="worker",
            replica="worker-0",
            incarnation=Incarnation("uid", 1, 5),
            host="10.0.0.1",
            token_file=self.token,
            parts={"in": Part("lines", "Pull")},
            shutdown_seconds=60,
        )
        self.session = MemberSession(uplink, lambda: self.report, self.heard.listener)

    def said(self) -> list[Message | Join]:
        frames = list(self.session.outbox)
        self.session.outbox.clear()
        return [decode_join(frame) if frame[:2] == MAGIC else decode(frame) for frame in frames]

    def joined(self, now: float = 0.0) -> None:
        self.session.connected(now)
        self.session.received(WELCOME, now)
        self.said()


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


def test_a_log_level_is_heard_when_it_is_another(desk: Desk, tmp_path: Path) -> None:
    below = AppSession(SidecarUplink(tmp_path / "control.sock", "worker-0", 7), lambda: desk.report, desk.heard.listener)
    for session, welcome in ((desk.session, WELCOME), (below, AppWelcome(version=1, replica="worker-0", epoch="one"))):
        desk.heard.levels.clear()
        session.connected(0)
        session.received(welcome, 0)
        # None: of a name server that does not know, or a sidecar that answers something else.
        for level in (None, "", "Debug", "Debug", None, "", ""):
            session.received(BeatAck(epoch="one", seq=0, log_level=level), 1)
        assert desk.heard.levels == ["", "Debug", ""]


def test_join_then_beat_with_parts_once(desk: Desk) -> None:
    desk.session.connected(0)
    (join,) = desk.said()
    assert isinstance(join, Join)
    assert (join.token, join.key, join.rejoin) == (b"token", desk.keys.public, False)
    desk.session.received(WELCOME, 0.1)
    (beat,) = desk.said()
    assert isinstance(beat, Beat)
    assert beat.parts == {"in": Part("lines", "Pull")}
    desk.session.tick(1.2)
    (beat,) = desk.said()
    assert isinstance(beat, Beat)
    assert beat.parts == {}
    assert desk.heard.epochs == ["one"]


def test_change_in_kind_is_told_at_once(desk: Desk) -> None:
    desk.joined()
    desk.session.tick(0.5)
    assert desk.said() == []
    desk.report = Report(phase="Starting", channels={"in": ChannelReport(delivered=7)})
    desk.session.tick(0.6)
    assert desk.said() == [], "counts wait for the next beat"
    desk.report = Report(phase="Ready", channels={"in": ChannelReport(delivered=7)})
    desk.session.tick(0.61)
    (beat,) = desk.said()
    assert isinstance(beat, Beat)
    assert beat.report.phase == "Ready"


def test_forgotten_member_joins_again_at_once(desk: Desk) -> None:
    desk.joined()
    desk.session.received(Refuse(reason="NotAuthenticated", message="m", retry=True), 5.0)
    desk.session.tick(5.0)
    (join,) = desk.said()
    assert isinstance(join, Join)
    assert join.rejoin


def test_incarnation_survives_a_renewed_token(desk: Desk) -> None:
    desk.session.connected(0)
    (join,) = desk.said()
    assert isinstance(join, Join)
    assert join.issued == 5
    desk.session.received(Welcome(version=1, epoch="one", lease_seconds=10.0, beat_seconds=1.0, issued=3), 0)
    desk.said()
    desk.session.disconnected(1)
    desk.session.connected(2)
    (join,) = desk.said()
    assert isinstance(join, Join)
    assert join.issued == 3, "what peers were told is claimed again, whatever the new token says"


def test_refusals_back_off_and_read_the_token_again(desk: Desk) -> None:
    desk.session.connected(0)
    desk.said()
    now, waits = 0.0, []
    for attempt in range(8):
        desk.session.received(Refuse(reason="NotAuthenticated", message="m", retry=True), now)
        desk.token.write_bytes(f"token-{attempt}".encode())
        wait = desk.session.next_tick(now)
        waits.append(wait)
        desk.session.tick(now + wait * 0.9)
        assert desk.said() == []
        now += wait
        desk.session.tick(now)
        (join,) = desk.said()
        assert isinstance(join, Join)
        assert join.token == f"token-{attempt}".encode()
    assert 0.1 <= waits[0] <= 0.2
    assert 2.5 <= waits[-1] <= 5.0
    assert desk.heard.refusals == []


def test_refusal_for_good_is_fatal(desk: Desk) -> None:
    desk.session.connected(0)
    desk.said()
    desk.session.received(Refuse(reason="Fenced", message="m", retry=False), 0.1)
    assert [refuse.reason for refuse in desk.heard.refusals] == ["Fenced"]
    desk.session.tick(100)
    assert desk.said() == []


def test_missing_token_is_waited_for(desk: Desk) -> None:
    desk.token.unlink()
    desk.session.connected(0)
    assert desk.said() == []
    desk.token.write_bytes(b"late")
    desk.session.tick(1.0)
    (join,) = desk.said()
    assert isinstance(join, Join)


def test_unanswered_join_and_silent_server_make_a_new_connection(desk: Desk) -> None:
    desk.session.connected(0)
    desk.session.tick(ANSWER_SECONDS - 0.1)
    assert not desk.session.wants_new_socket
    desk.session.tick(ANSWER_SECONDS)
    assert desk.session.wants_new_socket
    desk.session.wants_new_socket = False
    desk.joined(100)
    for second in range(1, 9):
        desk.session.tick(100.0 + second)
    desk.session.received(BeatAck(epoch="one", seq=1), 109.0)
    desk.session.tick(115.0)
    assert not desk.session.wants_new_socket
    desk.session.tick(119.5)
    assert desk.session.wants_new_socket


def test_gap_asks_for_a_snapshot(desk: Desk) -> None:
    desk.joined()
    desk.session.received(Directory(epoch="one", seq=1, full=True), 0.1)
    assert desk.heard.directories == 1
    desk.session.received(Directory(epoch="one", seq=5, full=False), 0.2)
    assert desk.heard.directories == 1
    (beat,) = desk.said()
    assert isinstance(beat, Beat)
    assert beat.seq == 0


def test_commands_are_told_once_each(desk: Desk) -> None:
    desk.joined()
    for kind in ("Shutdown", "Shutdown", "Leave", "Shutdown", "Leave"):
        desk.session.received(Command(kind=kind, deadline_seconds=1), 1)
    assert [command.kind for command in desk.heard.commands] == ["Shutdown", "Leave"]


@pytest.mark.parametrize(("member", "kind"), [(False, "Leave"), (True, "Shutdown")])
def test_refused_because_of_the_end(desk: Desk, member: bool, kind: str) -> None:
    if member:
        desk.joined()
        desk.session.disconnected(1)
    desk.session.connected(2)
    desk.session.received(Refuse(reason="ShuttingDown", message="m", retry=True), 2)
    assert [(command.kind, command.deadline_seconds) for command in desk.heard.commands] == [(kind, 30)]
    assert desk.heard.refusals == []


def test_goodbye_is_acknowledged_or_unnecessary(desk: Desk) -> None:
    desk.joined()
    desk.session.say_bye(True, 1)
    (bye,) = desk.said()
    assert isinstance(bye, Bye)
    assert bye.completed
    desk.session.tick(3)
    assert desk.said() == [], "a leaving member does not beat"
    desk.session.disconnected(4)
    desk.session.connected(5)
    desk.session.received(WELCOME, 5)
    assert isinstance(desk.said()[-1], Bye), "said again to a name server that came back"
    assert not desk.session.left
    desk.session.received(ByeAck(), 6)
    assert desk.session.left


def test_a_data_key_that_comes_while_the_join_is_written_is_told(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """The main thread sets it whenever the agent process says hello; the first look for the version takes some time."""

    def hello() -> str:
        desk.session.set_data_key("d" * 40)
        return "1.0"

    monkeypatch.setattr(member_session, "software_version", hello)
    desk.session.connected(0)
    desk.session.received(WELCOME, 0.1)
    join, beat = desk.said()
    assert isinstance(join, Join)
    assert isinstance(beat, Beat)
    assert "d" * 40 in (join.key, beat.key)


def test_late_data_key_travels_in_a_beat(desk: Desk) -> None:
    desk.joined()
    desk.session.set_data_key("d" * 40)
    desk.session.tick(0.3)
    (beat,) = desk.said()
    assert isinstance(beat, Beat)
    assert beat.key == "d" * 40
    desk.session.tick(1.5)
    (beat,) = desk.said()
    assert isinstance(beat, Beat)
    assert beat.key == ""


def test_notices_wait_for_the_connection_and_are_bounded(desk: Desk) -> None:
    for index in range(100):
        desk.session.notice(Notice(reason="R", channel="c", message=str(index)))
    desk.session.connected(0)
    desk.said()
    desk.session.received(WELCOME, 0)
    notices = [message.message for message in desk.said() if isinstance(message, Notice)]
    assert notices == [str(index) for index in range(36, 100)]


def test_sidecar_leg_says_hello_and_reports() -> None:
    heard = Heard()
    report = Report(phase="Ready")
    session = AppSession(SidecarUplink(Path("/run/control.sock"), "worker-0", 7, "key"), lambda: report, heard.listener)
    session.connected(0)
    session.received(AppWelcome(version=1, replica="worker-0", epoch="s1"), 0)
    hello, first = (decode(frame) for frame in session.outbox)
    assert hello == AppHello(version=1, pid=7, key="key")
    assert first == AppReport(report=report)
    session.outbox.clear()
    session.received(Refuse(reason="NotAuthenticated", message="m", retry=True), 1)
    session.tick(2)
    assert [type(decode(frame)) for frame in session.outbox] == [AppHello]
    session.received(Refuse(reason="UnknownVersion", message="m", retry=False), 3)
    assert [refuse.reason for refuse in heard.refusals] == ["UnknownVersion"]
