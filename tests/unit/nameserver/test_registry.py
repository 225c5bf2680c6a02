"""Registry: joining, fencing, ends, shutdown, counts; time is an argument."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
import pytest

from ganglion.nameserver.registry import LEASE_SECONDS, SETTLE_SECONDS, Registry
from ganglion.wire.admin import DeclaredAgent, DeclaredChannel, Domain
from ganglion.wire.control import (
    Beat,
    BeatAck,
    Bye,
    ChannelReport,
    Command,
    Directory,
    Ledger,
    Message,
    Part,
    Refuse,
    Report,
    Welcome,
    decode,
)
from ganglion.wire.join import Join

PARTS = {"source": {"out": Part("lines", "Push")}, "worker": {"in": Part("lines", "Pull")}}


def declared(sources: int = 2, workers: int = 2, *, completed: int = 0, pattern: str = "PushPull", delivery: str = "AtLeastOnce") -> Domain:
    send, receive = ("Pub", "Sub") if pattern == "PubSub" else ("Push", "Pull")
    return Domain(
        agents={
            "source": DeclaredAgent(name="source", replicas=sources, run="Once", roles={"lines": [send]}, completed=completed),
            "worker": DeclaredAgent(name="worker", replicas=workers, roles={"lines": [receive]}),
        },
        channels={"lines": DeclaredChannel(name="lines", pattern=pattern, delivery=delivery)},  # type: ignore[arg-type]
    )


class Desk:
    """A registry with a clock and members that are spoken for."""

    def __init__(self, domain: Domain | None = None) -> None:
        self.now = 100.0
        self.registry = Registry(self.now)
        if domain is not None:
            self.registry.set_domain(domain, self.now)

    def said(self, session: str) -> list[Message]:
        """What was sent to a session since it was last asked; flushes first."""
        self.registry.flush()
        mine = [decode(frame) for target, frame in self.registry.outbox if target == session.encode()]
        self.registry.outbox = [entry for entry in self.registry.outbox if entry[0] != session.encode()]
        return mine

    def join(
        self,
        replica: str,
        *,
        session: str | None = None,
        uid: str = "uid",
        start: int = 1,
        issued: int = 10,
        key: str | None = None,
        user: str | None = None,
        rejoin: bool = False,
    ) -> Refuse | None:
        session = session or replica
        frame = Join(
            replica.split("-", maxsplit=1)[0], replica, uid, start, issued, (key or replica).ljust(40, "0"), "10.0.0.1", "", b"", rejoin
        )
        return self.registry.join(session.encode(), user or session, frame, issued, self.now)

    def beat(self, replica: str, parts: Mapping[str, Part] | None = None, *, session: str | None = None, **report: object) -> None:
        session = session or replica
        alias = next(iter(PARTS[replica.split("-", maxsplit=1)[0]]))
        whole = Report(phase="Ready", channels={alias: ChannelReport(**report)})  # type: ignore[arg-type]
        self.registry.beat(
            session.encode(),
            session,
            Beat(epoch=self.registry.epoch, seq=0, report=whole, parts=dict(parts or PARTS[replica.split("-", maxsplit=1)[0]])),
            self.now,
        )

    def member(self, replica: str, **report: object) -> None:
        assert self.join(replica) is None
        self.beat(replica, **report)  # type: ignore[arg-type]

    def bye(self, replica: str, *, completed: bool = False, **report: object) -> None:
        alias = next(iter(PARTS[replica.split("-", maxsplit=1)[0]]))
        last = Report(channels={alias: ChannelReport(**report)})  # type: ignore[arg-type]
        self.registry.bye(replica.encode(), replica, Bye(report=last, completed=completed), self.now)

    def pass_time(self, seconds: float) -> None:
        for _ in range(int(seconds * 4)):
            self.now += 0.25
            self.registry.tick(self.now)

    def ended(self) -> bool:
        self.registry.flush()
        return self.registry.channels()[0].ended


def test_welcome_then_directory_after_the_first_beat() -> None:
    desk = Desk(declared())
    assert desk.join("worker-0") is None
    (welcome,) = desk.said("worker-0")
    assert isinstance(welcome, Welcome)
    assert (welcome.lease_seconds, welcome.beat_seconds) == (10.0, 1.0)
    desk.beat("worker-0")
    ack, directory = desk.said("worker-0")
    assert isinstance(ack, BeatAck)
    assert isinstance(directory, Directory)
    assert directory.full
    assert directory.peers == []
    assert directory.channels["lines"].declared_senders == 2


def test_a_claim_above_the_token_fences_nobody() -> None:
    desk = Desk(declared())
    assert desk.join("worker-0", uid="new", issued=20) is None
    # The token of the pod that was replaced is valid for a while; its frame may claim anything.
    frame = Join("worker", "worker-0", "old", 1, 10**12, "k" * 40, "10.0.0.1", "", b"", False)
    refuse = desk.registry.join(b"thief", "thief", frame, 10, desk.now)
    assert refuse is not None
    assert (refuse.reason, refuse.retry) == ("Fenced", False)
    assert not any(isinstance(message, Refuse) for message in desk.said("worker-0"))


def test_the_end_that_receivers_saw_says_nothing_of_senders_declared_since() -> None:
    domain = declared(sources=1)
    desk = Desk(domain)
    desk.member("worker-0")
    desk.member("source-0", ended=True)
    desk.bye("source-0", completed=True, ended=True)
    assert desk.ended()
    desk.beat("worker-0", ended=True)
    assert desk.ended()
    desk.registry.set_domain(msgspec.structs.replace(domain, agents={"worker": domain.agents["worker"]}), desk.now)
    assert desk.ended()
    desk.registry.set_domain(domain, desk.now)
    assert not desk.ended()
    desk.member("source-0", ended=True)
    desk.bye("source-0", completed=True, ended=True)
    assert desk.ended()


def test_unknown_domain_and_agent_may_heal() -> None:
    desk = Desk()
    refuse = desk.join("worker-0")
    assert refuse is not None
    assert (refuse.reason, refuse.retry) == ("NotDeclared", True)
    desk.registry.set_domain(declared(), desk.now)
    assert desk.join("worker-0") is None
    refuse = desk.join("stranger-0")
    assert refuse is not None
    assert (refuse.reason, refuse.retry) == ("NotDeclared", True)


def test_beat_of_a_stranger_is_answered_and_ignored() -> None:
    desk = Desk(declared())
    desk.beat("worker-0")
    (answer,) = desk.said("worker-0")
    assert isinstance(answer, Refuse)
    assert answer.retry
    assert not desk.registry.members()


def test_beat_with_another_user_id_is_not_the_members() -> None:
    desk = Desk(declared())
    desk.join("worker-0", user="alice")
    desk.said("worker-0")
    desk.beat("worker-0")
    (answer,) = desk.said("worker-0")
    assert isinstance(answer, Refuse)


@pytest.mark.parametrize(
    ("first", "second", "reason"),
    [
        ({"uid": "a", "start": 1}, {"uid": "a", "start": 2}, None),
        ({"uid": "a", "start": 2}, {"uid": "a", "start": 1}, "Fenced"),
        ({"uid": "a", "issued": 5}, {"uid": "b", "issued": 6}, None),
        ({"uid": "a", "issued": 6}, {"uid": "b", "issued": 5}, "Fenced"),
    ],
)
def test_incarnations(first: dict[str, object], second: dict[str, object], reason: str | None) -> None:
    desk = Desk(declared())
    assert desk.join("worker-0", session="one", **first) is None  # type: ignore[arg-type]
    desk.said("one")
    refuse = desk.join("worker-0", session="two", key="other", **second)  # type: ignore[arg-type]
    assert (refuse.reason if refuse else None) == reason
    if reason is None:
        (fenced,) = desk.said("one")
        assert isinstance(fenced, Refuse)
        assert (fenced.reason, fenced.retry) == ("Fenced", False)


def test_fence_outlives_the_lease() -> None:
    desk = Desk(declared())
    desk.join("worker-0", start=5)
    desk.pass_time(LEASE_SECONDS + 1)
    assert not desk.registry.members()
    refuse = desk.join("worker-0", session="old", start=4)
    assert refuse is not None
    assert not refuse.retry


def test_same_life_with_a_renewed_token_keeps_its_incarnation() -> None:
    desk = Desk(declared())
    desk.member("source-0")
    desk.member("worker-0")
    desk.said("worker-0")
    assert desk.join("source-0", session="again", issued=99, user="source-0", rejoin=True) is None
    desk.beat("source-0", session="again")
    for message in desk.said("worker-0"):
        assert isinstance(message, Directory)
        assert all(peer.incarnation.issued == 10 for peer in message.peers)


def test_two_processes_of_one_life_take_turns() -> None:
    desk = Desk(declared())
    desk.join("worker-0", session="one")
    refuse = desk.join("worker-0", session="two", key="other")
    assert refuse is not None
    assert (refuse.reason, refuse.retry) == ("Fenced", True)
    desk.pass_time(LEASE_SECONDS + 1)
    assert desk.join("worker-0", session="two", key="other") is None


def test_data_key_of_another_is_refused() -> None:
    desk = Desk(declared())
    desk.join("worker-0", key="same")
    refuse = desk.join("worker-1", key="same")
    assert refuse is not None
    assert refuse.reason == "NotAuthenticated"


def test_member_without_a_data_key_is_not_shown() -> None:
    desk = Desk(declared())
    desk.member("worker-0")
    frame = Join("source", "source-0", "u", 1, 1, "", "10.0.0.1", "", b"")
    desk.registry.join(b"source-0", "source-0", frame, 0, desk.now)
    desk.beat("source-0")
    assert all(not message.peers for message in desk.said("worker-0") if isinstance(message, Directory))
    beat = Beat(epoch=desk.registry.epoch, seq=1, report=Report(), key="K" * 40)
    desk.registry.beat(b"source-0", "source-0", beat, desk.now)
    (delta,) = desk.said("worker-0")
    assert isinstance(delta, Directory)
    assert [peer.key for peer in delta.peers] == ["K" * 40]


def test_standing_still_ends_nobodys_lease() -> None:
    desk = Desk(declared())
    desk.member("worker-0")
    desk.now += 60
    assert desk.registry.tick(desk.now) == []
    desk.pass_time(LEASE_SECONDS + 1)
    assert not desk.registry.members()


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


def test_counts_are_not_lost_or_doubled() -> None:
    desk = Desk(declared())
    desk.member("source-0", sent=Ledger(accepted=10, acked=7, in_flight=3))
    desk.member("worker-0", delivered=7)
    desk.pass_time(LEASE_SECONDS + 1)
    assert not desk.registry.members()
    (count,) = desk.registry.channels()
    assert (count.accepted, count.acked, count.in_flight, count.delivered) == (10, 10, 0, 7)
    desk.member("source-0", sent=Ledger(accepted=12, acked=12))
    (count,) = desk.registry.channels()
    assert (count.accepted, count.acked, count.senders) == (12, 12, 1), "the same life came back with all of its counts"
    assert desk.join("source-0", session="new", start=2, key="new") is None
    desk.beat("source-0", session="new", sent=Ledger(accepted=5, acked=5))
    (count,) = desk.registry.channels()
    assert count.accepted == 17


def test_unaccounted_of_best_effort() -> None:
    desk = Desk(declared(delivery="BestEffort"))
    desk.member("source-0", sent=Ledger(accepted=100, acked=90, dropped=10))
    desk.member("worker-0", delivered=40)
    desk.member("worker-1", delivered=30)
    (count,) = desk.registry.channels()
    assert count.unaccounted == 20


def test_unaccounted_of_publications_is_per_receiver(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PARTS, "source", {"out": Part("lines", "Pub")})
    monkeypatch.setitem(PARTS, "worker", {"in": Part("lines", "Sub")})
    desk = Desk(declared(pattern="PubSub", delivery="BestEffort"))
    desk.member("source-0", sent=Ledger(accepted=100, acked=100))
    desk.member("worker-0", delivered=100)
    desk.member("worker-1", delivered=60)
    assert desk.registry.channels()[0].unaccounted == 40
    desk.pass_time(LEASE_SECONDS + 1)
    assert desk.registry.channels()[0].unaccounted == 40, "a receiver that left took its loss along"


def test_agents_are_wired_when_all_their_channels_are() -> None:
    desk = Desk(declared())
    desk.member("worker-0", wired=1)
    desk.member("worker-1")
    counts = {agent.name: (agent.joined, agent.wired) for agent in desk.registry.agents()}
    assert counts == {"source": (0, 0), "worker": (2, 1)}


def test_peers_hear_that_a_replica_is_wired_and_not_to_how_many() -> None:
    desk = Desk(declared(workers=3))
    desk.member("source-0", wired=0)
    desk.member("worker-0", wired=0)
    desk.said("worker-0")
    desk.beat("source-0", wired=1)
    (told,) = [message for message in desk.said("worker-0") if isinstance(message, Directory)]
    assert [peer.channels["lines"].wired for peer in told.peers] == [True]
    desk.beat("source-0", wired=2)
    assert not [message for message in desk.said("worker-0") if isinstance(message, Directory)]
    desk.beat("source-0", wired=0)
    (told,) = [message for message in desk.said("worker-0") if isinstance(message, Directory)]
    assert [peer.channels["lines"].wired for peer in told.peers] == [False]


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
