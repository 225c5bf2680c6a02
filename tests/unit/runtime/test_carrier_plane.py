"""Best-effort PushPull between SDK peers, with real sockets: in process, and through two sidecars' proxies."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import zmq

from ganglion.runtime.connections import endpoint
from ganglion.runtime.errors import ChannelClosed, MessageTooLarge, SendTimeout
from tests.support.carriers import MODES, Member, Mode, World, numbers
from tests.support.loops import running_loop


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with running_loop() as driver:
        world = World(driver, tmp_path)
        yield world
        for member in world.members:
            member.close()


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("binder", ["Push", "Pull"])
def test_everything_sent_arrives_once_and_in_order(world: World, mode: Mode, binder: str) -> None:
    senders = [world.add(f"s-{i}", "Push", mode, bind=binder == "Push") for i in range(2)]
    receivers = [world.add(f"w-{i}", "Pull", mode, bind=binder == "Pull") for i in range(2)]
    world.wire()
    assert [sender.outlet.wired for sender in senders] == [2, 2]
    for number in range(3000):
        for index, sender in enumerate(senders):
            sender.outlet.send(b"%d:%d" % (index, number))
    for sender in senders:
        sender.outlet.flush()
    world.driver.until(lambda: sum(len(receiver.got) for receiver in receivers) >= 6000, what="all messages")
    every = [message for receiver in receivers for message in receiver.got]
    assert sorted(every) == sorted(b"%d:%d" % (i, n) for i in range(2) for n in range(3000))
    for receiver in receivers:
        for index in range(2):
            mine = [int(message.split(b":")[1]) for message in receiver.got if message.startswith(b"%d:" % index)]
            assert mine == sorted(mine)
    for sender in senders:
        ledger = sender.outlet.ledger()
        assert (ledger.accepted, ledger.acked, ledger.in_flight, ledger.dropped) == (3000, 3000, 0, 0)
        assert sender.outlet.at_rest
    assert sum(receiver.inlet.delivered for receiver in receivers) == 6000


def test_ready_messages_share_a_frame(world: World) -> None:
    sender, receiver = world.add("s", "Push", "null", bind=True), world.add("w", "Pull", "null", bind=False)
    frames = []
    batch = receiver.inlet._batch
    receiver.inlet._batch = lambda frame, *topic: (frames.append(frame), batch(frame, *topic))  # type: ignore[method-assign,assignment,func-returns-value]
    world.wire()
    sender.reactor.dispatching = True  # as inside a handler: nothing leaves before the input has drained
    for body in numbers(200):
        sender.outlet.send(body)
    sender.reactor.dispatching = False
    sender.outlet.flush()
    world.driver.until(lambda: len(receiver.got) == 200)
    assert len(frames) == 4
    assert receiver.got == numbers(200)


def test_a_lone_message_leaves_without_flush(world: World) -> None:
    sender, receiver = world.add("s", "Push", "null", bind=True), world.add("w", "Pull", "null", bind=False)
    world.wire()
    sender.outlet.send(b"x")
    world.driver.until(lambda: receiver.got == [b"x"])


@pytest.mark.parametrize("mode", ["null", "sidecars"])
def test_bare_frames_carry_bodies_as_they_are(world: World, mode: Mode) -> None:
    sender = world.add("s", "Push", mode, bind=True, frames="Bare")
    receiver = world.add("w", "Pull", mode, bind=False, frames="Bare")
    world.wire()
    for body in numbers(500):
        sender.outlet.send(body)
    world.driver.until(lambda: len(receiver.got) == 500)
    assert receiver.got == numbers(500)
    assert receiver.inlet.delivered == 500


def test_a_full_channel_blocks_until_the_timeout_and_accepts_nothing(world: World) -> None:
    sender = world.add("s", "Push", "null", bind=True, high_water_mark=8)
    for body in numbers(8):
        sender.outlet.send(body)
    with pytest.raises(SendTimeout, match="8 messages wait"):
        sender.outlet.send(b"9", timeout=0.05)
    assert sender.outlet.ledger().accepted == 8
    receiver = world.add("w", "Pull", "null", bind=False, high_water_mark=8)
    world.wire()
    world.driver.until(lambda: receiver.got == numbers(8))
    sender.outlet.send(b"8")
    world.driver.until(lambda: receiver.got == numbers(9))


def test_a_blocked_send_goes_on_when_the_receiver_takes_messages(world: World) -> None:
    """Sender and receiver in two contexts: the send blocks in the main thread, so the receiver is a plain thread-less socket read before it."""
    sender = world.add("s", "Push", "null", bind=True, high_water_mark=16, frames="Bare")
    with sender.context.socket(zmq.PULL) as pull:
        pull.linger = 0
        pull.rcvhwm = 1
        pull.connect(endpoint("127.0.0.1", sender.outlet.tcp_port))
        # Otherwise the send may time out for want of a receiver, and what it held would leave with the loop only.
        assert sender.outlet.sockets[0].poll(20_000, zmq.POLLOUT)
        started = time.monotonic()
        blocked = 0
        for number in range(200_000):
            try:
                sender.outlet.send(b"%7d" % number + bytes(4096), timeout=0.01)
            except SendTimeout:
                blocked += 1
                break
        assert blocked == 1
        assert pull.poll(5000)
        while pull.poll(100):
            pull.recv()
        sender.outlet.send(b"again", timeout=10)
        assert time.monotonic() - started < 60


def test_drop_newest_counts(world: World) -> None:
    sender = world.add("s", "Push", "null", bind=True, high_water_mark=8, overflow="DropNewest")
    ids = [sender.outlet.send(body) for body in numbers(20)]
    assert [i.seq for i in ids] == list(range(20))
    ledger = sender.outlet.ledger()
    assert (ledger.accepted, ledger.in_flight, ledger.dropped) == (20, 8, 12)
    receiver = world.add("w", "Pull", "null", bind=False, high_water_mark=8)
    world.wire()
    world.driver.until(lambda: len(receiver.got) == 8)
    sender.outlet.send(b"20")
    world.driver.until(lambda: receiver.got == [*numbers(8), b"20"])
    ledger = sender.outlet.ledger()
    assert ledger.accepted == ledger.acked + ledger.dropped == 21


def test_what_cannot_be_sent_is_refused(world: World) -> None:
    sender = world.add("s", "Push", "null", bind=True, max_message_bytes=10)
    with pytest.raises(MessageTooLarge, match="found 11 bytes, maxMessageBytes is 10"):
        sender.outlet.send(bytes(11))
    with pytest.raises(MessageTooLarge):
        sender.outlet.send(memoryview(bytes(16)).cast("Q"))
    sender.outlet.end()
    assert sender.outlet.ended
    with pytest.raises(ChannelClosed):
        sender.outlet.send(b"x")
    with pytest.raises(TypeError):
        sender.outlet.request(b"", timeout=1, on_reply=lambda _: None)
    assert sender.outlet.ledger().accepted == 0


def test_a_reused_buffer_does_not_change_what_was_sent(world: World) -> None:
    sender, receiver = world.add("s", "Push", "null", bind=True), world.add("w", "Pull", "null", bind=False)
    buffer = bytearray(b"first")
    sender.outlet.send(memoryview(buffer))
    buffer[:] = b"later"
    world.wire()
    world.driver.until(lambda: receiver.got == [b"first"])


@pytest.mark.parametrize("mode", MODES)
def test_receivers_come_and_go(world: World, mode: Mode) -> None:
    sender = world.add("s", "Push", mode, bind=True)
    first = world.add("w-0", "Pull", mode, bind=False)
    world.wire()
    sender.outlet.send(b"one")
    world.driver.until(lambda: first.got == [b"one"])
    second = world.add("w-1", "Pull", mode, bind=False)
    world.wire()
    world.remove(first)
    world.driver.until(lambda: second.wired == 1)
    sent = 0

    def arrives() -> bool:
        nonlocal sent
        sender.outlet.send(b"two")
        sent += 1
        return b"two" in second.got

    world.driver.until(arrives)
    assert sender.outlet.ledger().acked == sent + 1


@pytest.mark.parametrize("mode", ["curve", "sidecars-curve"])
def test_a_binder_back_with_another_key_gets_messages_again(world: World, mode: Mode) -> None:
    sender = world.add("s", "Push", mode, bind=False)
    old = world.add("w", "Pull", mode, bind=True)
    world.wire()
    sender.outlet.send(b"one")
    world.driver.until(lambda: old.got == [b"one"])
    world.remove(old)
    (new := Member("w", old.wiring_channel, world.driver, mode, world.tmp_path / "again")).opened()
    world.members.append(new)
    world.wire()
    sender.outlet.send(b"two")
    world.driver.until(lambda: new.got == [b"two"])


@pytest.mark.parametrize("mode", ["curve", "sidecars-curve"])
@pytest.mark.parametrize("poison", [{"key": "#" * 40}, {"endpoint": "tcp://127.0.0.1:-5"}], ids=["key", "port"])
def test_a_peer_that_cannot_be_connected_to_keeps_nobody_from_the_others(world: World, mode: Mode, poison: dict[str, Any]) -> None:
    """A member says itself what its key and its port are."""
    sender = world.add("s", "Push", mode, bind=False)
    receiver = world.add("w", "Pull", mode, bind=True)
    receiver.apply(sender)
    bad = replace(receiver.peer(), replica="bad", **poison)
    want = {"bad": bad, "w": receiver.peer()}
    sender.plane.apply({"push": want})
    if sender.sidecar is not None:
        sender.sidecar.apply(want)
    sender.outlet.send(b"one")
    world.driver.until(lambda: receiver.got == [b"one"])
