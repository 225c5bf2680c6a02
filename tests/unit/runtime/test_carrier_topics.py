"""PubSub between SDK peers, with real sockets: topics, subscriptions, and the barrier before the first publication."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from ganglion.wiring import BarrierWiring
from tests.support.carriers import MODES, Mode, World, numbers
from tests.support.loops import running_loop


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with running_loop() as driver:
        world = World(driver, tmp_path)
        yield world
        for member in world.members:
            member.close()


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("binder", ["Pub", "Sub"])
def test_topics_match_by_prefix_and_hold_any_byte(world: World, mode: Mode, binder: str) -> None:
    publisher = world.add("p", "Pub", mode, bind=binder == "Pub")
    some = world.add("a", "Sub", mode, bind=binder == "Sub", topics=(b"\x00\x80", b"news."))
    every = world.add("b", "Sub", mode, bind=binder == "Sub")
    world.wire()
    world.driver.until(lambda: publisher.outlet.wired == 2, what="two subscribers")
    sent = [(b"news.sport", b"1"), (b"new", b"2"), (b"\x00\x80\xff", b"3"), (b"", b"4"), (b"\xff\xfe", b"5"), (b"news.", b"6")]
    for topic, body in sent:
        publisher.outlet.send(body, topic=topic)
    world.driver.until(lambda: len(every.got) == 6)
    assert every.got == sent
    world.driver.until(lambda: len(some.got) == 3)
    assert some.got == [sent[0], sent[2], sent[5]]
    some.inlet.subscribe(b"late")
    some.inlet.unsubscribe(b"news.")

    def resubscribed() -> bool:
        publisher.outlet.send(b"x", topic=b"later")
        publisher.outlet.send(b"x", topic=b"news.")
        return (b"later", b"x") in some.got

    world.driver.until(resubscribed)
    seen = len(some.got)
    world.driver.until(lambda: resubscribed() and len(some.got) > seen + 3)
    assert (b"news.", b"x") not in some.got[seen + 1 :]


@pytest.mark.parametrize("mode", ["null", "sidecars"])
def test_equal_subscriptions_count_apart_and_leave(world: World, mode: Mode) -> None:
    publisher = world.add("p", "Pub", mode, bind=True)
    for index in range(3):
        world.add(f"s-{index}", "Sub", mode, bind=False)
    world.wire()
    world.driver.until(lambda: publisher.outlet.wired == 3, what="three subscribers")
    world.remove(world.members[-1])
    world.driver.until(lambda: publisher.outlet.wired == 2, what="two subscribers")
    world.members[-1].inlet.stop_intake()
    world.driver.until(lambda: publisher.outlet.wired == 1, what="one subscriber")


@pytest.mark.parametrize("frames", ["Ganglion", "Bare"])
@pytest.mark.parametrize("mode", ["null", "sidecars-curve"])
def test_the_barrier_loses_no_first_publication(world: World, mode: Mode, frames: str) -> None:
    publisher = world.add("p", "Pub", mode, bind=True, frames=frames, barrier=BarrierWiring(peers=3, timeout_seconds=60))
    for body in numbers(10):
        publisher.outlet.send(body, topic=b"t")
    world.driver.until(lambda: publisher.outlet.ledger().in_flight == 10)
    subscribers = [world.add(f"s-{i}", "Sub", mode, bind=False, frames=frames) for i in range(2)]
    world.wire()
    world.driver.until(lambda: publisher.outlet.wired == 2)
    assert publisher.outlet.ledger().in_flight == 10
    assert not publisher.outlet.at_rest
    subscribers.append(world.add("s-2", "Sub", mode, bind=False, frames=frames))
    world.wire()
    for subscriber in subscribers:
        world.driver.until(lambda: len(subscriber.got) == 10, what="ten publications")  # noqa: B023 - this round's
        assert subscriber.got == [(b"t", body) for body in numbers(10)]
    assert publisher.outlet.at_rest


def test_the_barrier_holds_pushes_up_to_the_high_water_mark_and_opens_by_timeout(world: World) -> None:
    sender = world.add("s", "Push", "null", bind=True, high_water_mark=20, barrier=BarrierWiring(peers=2, timeout_seconds=0.5))
    receiver = world.add("w", "Pull", "null", bind=False, high_water_mark=20)
    world.wire()
    for body in numbers(20):
        sender.outlet.send(body)
    assert sender.outlet.ledger().in_flight == 20
    sender.outlet.send(b"20")  # blocks until the barrier's timeout
    assert sender.outlet.gate.timed_out
    world.driver.until(lambda: receiver.got == numbers(21))
