"""When a replica's life ends, and that those who watch are told why."""

from __future__ import annotations

import pytest

from ganglion.nameserver.registry import LEASE_SECONDS, SETTLE_SECONDS
from ganglion.wire.control import Beat, Bye, Ends, Report, Watch
from ganglion.wire.departures import Departure, Lives, Watching
from tests.support.desk import PARTS, Desk, declared


class Watched:
    """A domain in which `source-0` watches the workers."""

    def __init__(self) -> None:
        self.desk = Desk(declared())
        self.watching = Watching()
        self.watching.add("worker")
        self.desk.member("source-0")

    def worker(self, process: str | None, *, goodbye: bool = False, start: int = 1, uid: str = "uid", join: bool = True) -> None:
        """Join and beat."""
        desk = self.desk
        if join:
            assert desk.join("worker-0", session=f"worker-0/{start}", start=start, uid=uid, issued=10 + start) is None
        report = Report(phase="Ready", process=process, goodbye=goodbye)
        session = f"worker-0/{start}"
        beat = Beat(epoch=desk.registry.epoch, seq=0, report=report, parts=dict(PARTS["worker"]))
        desk.registry.beat(session.encode(), session, beat, desk.now)

    def bye(self, process: str | None, *, goodbye: bool = False) -> None:
        bye = Bye(report=Report(process=process, goodbye=goodbye))
        self.desk.registry.bye(b"worker-0/1", "worker-0/1", bye, self.desk.now)

    def heard(self, *, watch: bool = True) -> list[str]:
        """Reasons of the ends that it hears of now."""
        desk = self.desk
        if watch:
            desk.beat("source-0")
            for number, names in enumerate(self.watching.parts()):
                desk.registry.watch(b"source-0", "source-0", Watch(names=names, goes_on=number > 0), desk.now)
        news = [item for message in desk.said("source-0") if isinstance(message, Ends) for item in message.news]
        ends = self.watching.take(news)
        assert all((end.agent, end.replica) == ("worker", "worker-0") for end in ends)
        return [end.reason for end in ends]

    def lives(self) -> Lives:
        return self.watching.wanted()["worker"]


@pytest.mark.parametrize("process", [None, "p"])
def test_who_says_goodbye_and_who_is_not_heard(process: str | None) -> None:
    world = Watched()
    world.worker(process)
    assert world.heard() == []
    assert set(world.lives()) == {"worker-0"}
    world.bye(process)
    assert world.heard(watch=False) == ["Shutdown"]
    assert world.heard() == []
    world.worker(process, start=2)
    world.heard()
    for _ in range(int(LEASE_SECONDS)):
        world.desk.beat("source-0")
        world.desk.pass_time(1)
    assert world.heard(watch=False) == (["LeaseEnded"] if process is None else [] if world.lives() == {} else ["LeaseEnded"])
    assert world.lives() == {}


def test_a_lost_process_behind_its_sidecar() -> None:
    world = Watched()
    world.worker("")
    world.heard()
    assert world.lives() == {}
    world.worker("one", join=False)
    world.heard()
    world.worker("", join=False)
    assert world.heard(watch=False) == ["Killed"]
    world.worker("two", join=False)
    world.heard()
    world.worker("three", join=False)
    assert world.heard(watch=False) == ["Killed"]
    world.heard()
    world.worker("three", goodbye=True, join=False)
    assert world.heard(watch=False) == ["Shutdown"]
    world.bye("three", goodbye=True)
    assert world.heard() == []


def test_a_process_that_is_lost_as_its_sidecar_leaves() -> None:
    world = Watched()
    world.worker("one")
    world.heard()
    world.bye("")
    assert world.heard() == ["Killed"]


def test_a_new_sidecar_takes_no_process_with_it() -> None:
    world = Watched()
    world.worker("one")
    world.heard()
    before = world.lives()
    world.worker("", start=2)
    assert world.heard() == []
    world.worker("one", start=2, join=False)
    assert world.heard() == []
    assert world.lives() == before
    # One that does not come to it has ended: another came, or nobody within a lease.
    world.worker("", start=3)
    world.worker("two", start=3, join=False)
    assert world.heard() == ["Killed"]
    world.heard()
    world.worker("", start=4)
    for _ in range(int(LEASE_SECONDS)):
        assert world.heard() == []
        world.worker("", start=4, join=False)
        world.desk.pass_time(1)
    assert world.heard() == ["LeaseEnded"]


def test_a_goodbye_that_a_new_sidecar_hears() -> None:
    world = Watched()
    world.worker("one")
    world.heard()
    world.worker("", start=2)
    assert world.heard() == []
    world.worker("one", goodbye=True, start=2, join=False)
    assert world.heard(watch=False) == ["Shutdown"]
    world.desk.pass_time(int(LEASE_SECONDS) + 1)
    assert world.heard(watch=False) == []


def test_a_port_that_opens_late_has_lost_nobody() -> None:
    world = Watched()
    world.worker(None)
    world.heard()
    known = world.lives()
    again = Desk(declared())
    world.desk = again
    again.now += LEASE_SECONDS
    again.registry.opened(again.now)
    again.member("source-0")
    assert world.heard() == []
    assert world.lives() == known
    again.now += LEASE_SECONDS
    again.beat("source-0")
    assert world.heard() == ["LeaseEnded"]


def test_another_pod_replaces() -> None:
    world = Watched()
    world.worker("one")
    world.heard()
    world.worker("two", uid="other", start=5)
    assert world.heard(watch=False) == ["Replaced"]
    assert world.heard() == []
    assert set(world.lives()) == {"worker-0"}


def test_names() -> None:
    world = Watched()
    world.worker("one")
    for name in ("worker-0", "worker-1", "worker-7", "source", "typo"):
        world.watching.add(name)
    world.desk.now += SETTLE_SECONDS
    desk = world.desk
    desk.beat("source-0")
    desk.registry.watch(b"source-0", "source-0", Watch(names=world.watching.wanted()), desk.now)
    (ends,) = (message for message in desk.said("source-0") if isinstance(message, Ends))
    found = world.watching.take(ends.news)
    assert {end.agent for end in found} == {"worker-7", "typo"}, "not declared"
    assert world.watching.wanted()["worker-0"] == world.watching.wanted()["worker"]
    assert Departure("typo", "", "", "Unknown") in found


def test_a_stranger_watches_nobody() -> None:
    world = Watched()
    world.desk.registry.watch(b"stranger", "stranger", Watch(names={"worker": {}}), world.desk.now)
    assert not any(isinstance(message, Ends) for message in world.desk.said("stranger"))
