"""The registry at the end of streams and domains: who has ended, who leaves when, who stays."""

from __future__ import annotations

import pytest

from ganglion.nameserver.registry import SETTLE_SECONDS
from ganglion.wire.admin import Domain
from ganglion.wire.control import (
    Beat,
    BeatAck,
    ChannelReport,
    Command,
    Report,
)
from tests.support.desk import PARTS, Desk, declared


def test_end_needs_every_declared_replica() -> None:
    desk = Desk(declared(sources=2))
    desk.member("source-0", ended=True)
    assert not desk.ended()
    desk.member("source-1")
    assert not desk.ended()
    desk.beat("source-1", ended=True)
    assert desk.ended()
    desk.beat("source-1", ended=False)
    assert not desk.ended()


def test_end_counts_replicas_that_completed() -> None:
    desk = Desk(declared(sources=2))
    desk.member("source-0", ended=True)
    desk.bye("source-0", completed=True, ended=True)
    assert not desk.ended()
    desk.member("source-1", ended=True)
    assert desk.ended()
    desk.bye("source-1", completed=True, ended=True)
    assert desk.ended()


def test_end_does_not_count_a_sender_that_died_after_it() -> None:
    desk = Desk(declared(sources=1))
    desk.member("source-0", ended=True)
    desk.member("worker-0")
    assert desk.ended()
    desk.bye("source-0", completed=False, ended=True)
    assert not desk.ended()


def test_pods_of_one_job_index_are_one_sender() -> None:
    desk = Desk(declared(sources=2))
    desk.member("source-0-aaaaa", ended=True)
    desk.bye("source-0-aaaaa", completed=True, ended=True)
    desk.member("source-0-bbbbb", ended=True)
    assert not desk.ended(), "two pods of index 0 stood for index 1"
    desk.member("source-1-ccccc", ended=True)
    assert desk.ended()


def test_end_from_the_sources_count() -> None:
    desk = Desk(declared(sources=2, completed=1))
    assert not desk.ended()
    desk.registry.set_domain(declared(sources=2, completed=2), desk.now)
    assert desk.ended()


def test_no_declared_sender_is_no_end() -> None:
    desk = Desk(declared(sources=0))
    desk.member("worker-0")
    assert not desk.ended()


def test_receiver_teaches_a_restarted_name_server() -> None:
    desk = Desk(declared(sources=2))
    desk.member("worker-0", ended=True)
    assert desk.ended()
    desk.member("source-0")
    assert not desk.ended(), "a live sender that has not ended outweighs it"
    desk.beat("source-0", ended=True)
    assert desk.ended()


def test_scaled_down_slots_do_not_count() -> None:
    desk = Desk(declared(sources=2))
    desk.member("source-5", ended=True)
    desk.member("source-0", ended=True)
    assert not desk.ended()


def commands(desk: Desk, session: str) -> list[str]:
    return [message.kind for message in desk.said(session) if isinstance(message, Command)]


def test_shutdown_in_order() -> None:
    desk = Desk(declared())
    desk.member("source-0")
    desk.member("worker-0")
    desk.pass_time(SETTLE_SECONDS + 1)
    desk.registry.shut_down(desk.now, 20)
    started = desk.now
    assert commands(desk, "source-0") == ["Shutdown"]
    assert commands(desk, "worker-0") == ["Shutdown"]
    assert desk.registry.phase(desk.now) == "ShuttingDown"
    refuse = desk.join("worker-1")
    assert refuse is not None
    assert (refuse.reason, refuse.retry) == ("ShuttingDown", True)
    assert desk.join("source-1", rejoin=True) is None
    assert commands(desk, "source-1") == ["Shutdown"]
    desk.bye("source-1")
    desk.bye("source-0")
    while desk.now < started + 10:
        assert desk.registry.phase(desk.now) == "ShuttingDown"
        desk.beat("worker-0")
        desk.pass_time(0.25)
    assert desk.registry.phase(desk.now) == "Leaving"
    assert commands(desk, "worker-0") == ["Leave"]
    desk.bye("worker-0")
    assert desk.registry.phase(desk.now) == "Empty"


def test_shutdown_ends_without_those_who_never_leave() -> None:
    desk = Desk(declared())
    desk.member("worker-0")
    desk.registry.shut_down(desk.now, 20)
    for _ in range(60):
        desk.beat("worker-0")
        desk.pass_time(0.25)
    assert desk.now == 115.0
    assert desk.registry.phase(desk.now) == "Empty"


def test_a_silent_member_is_let_go_sooner_when_time_is_short() -> None:
    desk = Desk(declared())
    desk.member("source-0")
    desk.member("worker-0")
    desk.registry.shut_down(desk.now, 20)
    for _ in range(16):
        desk.beat("worker-0")
        desk.pass_time(0.25)
    assert len(desk.registry) == 2
    for _ in range(8):
        desk.beat("worker-0")
        desk.pass_time(0.25)
    assert [member.replica for member in desk.registry.members()] == ["worker-0"]


def test_young_name_server_waits_for_members_to_come_back() -> None:
    desk = Desk(declared())
    desk.registry.shut_down(desk.now, 60)
    assert desk.registry.phase(desk.now) == "ShuttingDown"
    desk.pass_time(SETTLE_SECONDS + 1)
    assert desk.registry.phase(desk.now) == "Empty"


def test_deletion_in_the_domain_begins_the_end() -> None:
    desk = Desk(declared())
    desk.member("worker-0")
    desk.said("worker-0")
    gone = Domain(agents=declared().agents, channels=declared().channels, deleting=True, shutdown_timeout_seconds=30)
    desk.registry.set_domain(gone, desk.now)
    desk.registry.set_domain(gone, desk.now + 1)
    assert commands(desk, "worker-0") == ["Shutdown"]


def _stays(desk: Desk, replica: str) -> bool | None:
    alias = next(iter(PARTS[replica.split("-", maxsplit=1)[0]]))
    desk.said(replica)
    report = Report(phase="Draining", channels={alias: ChannelReport()})
    desk.registry.beat(replica.encode(), replica, Beat(epoch=desk.registry.epoch, seq=0, report=report), desk.now)
    (stay,) = [message.stay for message in desk.said(replica) if isinstance(message, BeatAck)]
    return stay


def test_of_receivers_that_leave_the_last_is_asked_to_stay() -> None:
    desk = Desk(declared())
    for replica in ("source-0", "worker-0", "worker-1"):
        desk.member(replica)
    (ack, *_) = [message for message in desk.said("worker-0") if isinstance(message, BeatAck)]
    assert ack.stay is None
    assert _stays(desk, "worker-0") is False
    assert _stays(desk, "worker-1") is True
    # A sender that leaves may wait for what it has sent; nobody waits for it.
    assert _stays(desk, "source-0") is False
    assert _stays(desk, "worker-1") is True
    # Somebody takes over.
    desk.member("worker-2")
    assert _stays(desk, "worker-1") is False


@pytest.mark.parametrize("why", ["no sender", "ended", "shutdown"])
def test_a_receiver_without_live_senders_need_not_stay(why: str) -> None:
    desk = Desk(declared())
    desk.member("worker-0")
    if why != "no sender":
        desk.member("source-0", ended=why == "ended")
    if why == "shutdown":
        desk.registry.shut_down(desk.now, 60.0)
    assert _stays(desk, "worker-0") is False
