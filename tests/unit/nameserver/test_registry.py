"""Registry: joining, fencing, counts; time is an argument. Ends are in test_registry_ends."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from ganglion.nameserver.registry import LEASE_SECONDS
from ganglion.wire.admin import Domain
from ganglion.wire.control import (
    Addresses,
    Beat,
    BeatAck,
    ChannelReport,
    Directory,
    Ledger,
    Part,
    Refuse,
    Report,
    Welcome,
)
from ganglion.wire.join import Join
from tests.support.desk import PARTS, Desk, declared


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


def test_each_answer_to_a_beat_tells_the_log_level() -> None:
    def leveled(level: str) -> Domain:
        return msgspec.structs.replace(before, agents={**before.agents, "worker": msgspec.structs.replace(worker, log_level=level)})

    before = declared()
    worker = before.agents["worker"]
    desk = Desk(before)
    told: list[str | None] = []

    def beat(replica: str = "worker-0") -> None:
        desk.beat(replica)
        told.extend(message.log_level for message in desk.said(replica) if isinstance(message, BeatAck))

    desk.member("worker-0")
    desk.member("source-0")
    desk.said("worker-0")
    desk.said("source-0")
    for domain in (before, leveled("Debug"), Domain(), leveled("Error"), before):
        # Who is declared no more ends with the level that it had.
        desk.registry.set_domain(domain, desk.now)
        beat()
    beat("source-0")
    assert told == ["", "Debug", "Debug", "Error", "", ""]


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


def test_counts_follow_the_process_that_counts() -> None:
    desk = Desk(declared())
    desk.member("source-0")
    desk.member("worker-0")

    def sent(number: int, counter: str, session: str = "") -> None:
        report = {"out": ChannelReport(sent=Ledger(accepted=number, acked=number), counter=counter)}
        desk.report("source-0", report, session=session)

    def accepted() -> int:
        return desk.registry.channels()[0].accepted

    sent(10, "one")
    assert desk.join("source-0", session="new", start=2, key="new") is None
    desk.report("source-0", {"out": ChannelReport()}, session="new")
    assert accepted() == 10, "its sidecar is new and has not heard from the agent yet"
    sent(14, "one", "new")
    assert accepted() == 14, "the agent that counted goes on beside its new sidecar"
    desk.report("source-0", {"out": ChannelReport()}, session="new")
    assert accepted() == 14, "the agent has died"
    sent(3, "two", "new")
    assert accepted() == 17, "its successor begins at 0"
    desk.pass_time(LEASE_SECONDS + 1)
    assert (desk.registry.members(), accepted()) == ([], 17)


def test_who_counted_last_is_kept_apart_for_longest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ganglion.nameserver.traffic.MAX_PARKED", 3)
    desk = Desk(declared())
    desk.member("source-0")

    def sent(number: int, counter: str) -> None:
        desk.report("source-0", {"out": ChannelReport(sent=Ledger(accepted=number, acked=number), counter=counter)})

    sent(1, "steady")
    for number in range(5):
        sent(1, f"passing {number}")
        sent(2 + number, "steady")
    assert desk.registry.channels()[0].accepted == 11
    sent(1, "last")
    sent(7, "steady")
    assert desk.registry.channels()[0].accepted == 13, "what was kept of it has not been summed up meanwhile"


def test_a_channel_that_is_made_again_begins_at_nothing() -> None:
    domain = declared()
    desk = Desk(domain)
    desk.member("source-0", sent=Ledger(accepted=10, acked=10))
    desk.pass_time(LEASE_SECONDS + 1)
    desk.registry.set_domain(msgspec.structs.replace(domain, channels={}), desk.now)
    desk.registry.set_domain(domain, desk.now)
    assert desk.registry.channels()[0].accepted == 0


def test_a_pair_is_counted_both_ways(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PARTS, "source", {"out": Part("lines", "Push"), "out.in": Part("lines/back", "Pull")})
    monkeypatch.setitem(PARTS, "worker", {"in.in": Part("lines", "Pull"), "in": Part("lines/back", "Push")})
    domain = declared(sources=1, workers=1, pattern="Pair")
    roles = {"source": {"lines": ["Push"], "lines/back": ["Pull"]}, "worker": {"lines": ["Pull"], "lines/back": ["Push"]}}
    agents = {name: msgspec.structs.replace(one, roles=roles[name]) for name, one in domain.agents.items()}
    domain = msgspec.structs.replace(domain, agents=agents)
    desk = Desk(domain)
    for replica in ("source-0", "worker-0"):
        assert desk.join(replica) is None
    desk.report("source-0", {"out": ChannelReport(sent=Ledger(accepted=5, acked=3, in_flight=2)), "out.in": ChannelReport(delivered=7)})
    desk.report("worker-0", {"in": ChannelReport(sent=Ledger(accepted=9, acked=8, in_flight=1)), "in.in": ChannelReport(delivered=4)})
    (count,) = desk.registry.channels()
    assert (count.name, count.senders, count.receivers) == ("lines", 2, 2)
    assert (count.accepted, count.acked, count.in_flight, count.delivered, count.unaccounted) == (14, 11, 3, 11, 0)
    desk.report("source-0", {"out": ChannelReport(ended=True), "out.in": ChannelReport()})
    assert not desk.ended(), "the other side may still send"
    desk.report("worker-0", {"in": ChannelReport(ended=True), "in.in": ChannelReport()})
    assert desk.ended()
    desk.pass_time(LEASE_SECONDS + 1)
    desk.registry.set_domain(msgspec.structs.replace(domain, channels={}), desk.now)
    desk.registry.set_domain(domain, desk.now)
    assert not desk.registry.members()


def test_routers_learn_which_dealers_may_be_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PARTS, "source", {"out": Part("lines", "Push"), "out.in": Part("lines/back", "Pull")})
    monkeypatch.setitem(PARTS, "worker", {"in.in": Part("lines", "Pull"), "in": Part("lines/back", "Push")})

    def domain(workers: int, **more: Any) -> Domain:
        found = declared(sources=1, workers=workers, pattern="DealerRouter")
        roles = {"source": {"lines": ["Push"], "lines/back": ["Pull"]}, "worker": {"lines": ["Pull"], "lines/back": ["Push"]}}
        agents = {name: msgspec.structs.replace(one, roles=roles[name]) for name, one in found.agents.items()}
        agents["worker"] = msgspec.structs.replace(agents["worker"], run="Once", **more)
        return msgspec.structs.replace(found, agents=agents)

    desk = Desk(domain(3))

    def told() -> Any:
        directories = [message for message in desk.said("source-0") if isinstance(message, Directory)]
        return [state.receivers for directory in directories for name, state in directory.channels.items() if name == "lines"]

    assert desk.join("source-0") is None
    desk.report("source-0", {"out": ChannelReport(), "out.in": ChannelReport()})
    assert told() == [{"worker": Addresses(3)}]
    desk.join("worker-1-x7k2p")
    desk.report("worker-1-x7k2p", {"in": ChannelReport(), "in.in": ChannelReport()})
    assert told() == []
    desk.bye("worker-1-x7k2p", completed=True)
    assert told() == [{"worker": Addresses(3, (1,))}], "its work is done: it does not come back"
    desk.join("worker-1-9zqlm", uid="other")
    assert told() == [{"worker": Addresses(3)}], "the Job was made anew"
    desk.registry.set_domain(domain(2), desk.now)
    assert told() == [{"worker": Addresses(2)}]
    desk.registry.set_domain(domain(2, completed=2), desk.now)
    assert told() == [{"worker": Addresses(0)}], "an earlier name server heard the goodbyes"
    desk.registry.set_domain(domain(2), desk.now)
    assert told() == [{"worker": Addresses(2)}]
    desk.registry.shut_down(desk.now, 20.0)
    assert told() == [{}], "who leaves now does not come back"


def test_what_is_lost_of_a_sync_pub_is_counted_for_each_subscriber(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PARTS, "source", {"out": Part("lines", "Pub"), "out.in": Part("lines/back", "Rep")})
    monkeypatch.setitem(PARTS, "worker", {"in.in": Part("lines", "Sub"), "in": Part("lines/back", "Req")})
    domain = declared(sources=1, workers=2, pattern="SyncPub", delivery="BestEffort")
    roles = {"source": {"lines": ["Pub"], "lines/back": ["Rep"]}, "worker": {"lines": ["Sub"], "lines/back": ["Req"]}}
    agents = {name: msgspec.structs.replace(one, roles=roles[name]) for name, one in domain.agents.items()}
    desk = Desk(msgspec.structs.replace(domain, agents=agents))
    for replica in ("source-0", "worker-0", "worker-1"):
        assert desk.join(replica) is None
    desk.report("source-0", {"out": ChannelReport(sent=Ledger(accepted=9, acked=9)), "out.in": ChannelReport(delivered=2)})
    for index, delivered in enumerate((9, 6)):
        asked = ChannelReport(sent=Ledger(accepted=1, acked=1))
        desk.report(f"worker-{index}", {"in.in": ChannelReport(delivered=delivered), "in": asked})
    (count,) = desk.registry.channels()
    assert (count.name, count.senders, count.receivers) == ("lines", 3, 3)
    assert (count.accepted, count.acked, count.delivered, count.unaccounted) == (11, 11, 17, 3)


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
