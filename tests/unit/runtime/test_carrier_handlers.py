"""What becomes of messages at a best-effort receiver: exceptions, coroutines, polling, garbage, and ends."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import zmq

from ganglion.runtime.arena import LARGE_BYTES, LARGE_SENT_BYTES
from ganglion.runtime.carrier_legs import CarrierLeg
from ganglion.runtime.connections import endpoint
from ganglion.runtime.plane import MessageId
from tests.support.carriers import Mode, World, numbers
from tests.support.loops import running_loop
from tests.support.memory import noted, noted_as_sent


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with running_loop() as driver:
        world = World(driver, tmp_path)
        yield world
        for member in world.members:
            member.close()


def test_a_handlers_exception_is_reported_with_the_messages_id(world: World) -> None:
    def handler(value: bytes) -> None:
        if value == b"1":
            raise ValueError("no ones")
        receiver.got.append((receiver.inlet.current, value))

    sender = world.add("s", "Push", "null", bind=True)
    receiver = world.add("w", "Pull", "null", bind=False, handler=handler)
    world.wire()
    ids = [sender.outlet.send(body) for body in numbers(3)]
    world.driver.until(lambda: len(receiver.got) == 2)
    assert receiver.got == [(ids[0], b"0"), (ids[2], b"2")]
    assert [(i, str(error)) for i, error in receiver.errors] == [(ids[1], "no ones")]
    assert (receiver.inlet.delivered, receiver.inlet.failed) == (3, 1)
    assert receiver.inlet.current is None


def test_coroutine_handlers_run_beside_each_other_up_to_the_window(world: World) -> None:
    gates: list[asyncio.Future[None]] = []

    async def handler(value: bytes) -> None:
        if value == b"0":
            receiver.got.append(value)
            return
        gate = asyncio.get_running_loop().create_future()
        gates.append(gate)
        await gate
        receiver.got.append((receiver.inlet.current, value))
        if value == b"2":
            raise ValueError("two")

    sender = world.add("s", "Push", "null", bind=True, frames="Bare")
    receiver = world.add("w", "Pull", "null", bind=False, handler=handler, high_water_mark=16, frames="Bare")
    world.wire()
    for body in numbers(10):
        sender.outlet.send(body)
    world.driver.until(lambda: len(gates) == 4 and receiver.got == [b"0"], what="a window of handlers")
    assert receiver.inlet.current is None
    assert not receiver.inlet.idle

    def open_gates() -> bool:
        for gate in gates:
            if not gate.done():
                gate.set_result(None)
        return len(receiver.got) == 10

    world.driver.until(open_gates)
    assert [value for _, value in receiver.got[1:]] == numbers(9, 1)
    assert receiver.got[1][0] == MessageId(0, 1)
    assert [str(error) for _, error in receiver.errors] == ["two"]
    world.driver.until(lambda: receiver.inlet.idle)


def test_polled_messages_wait_for_their_future(world: World) -> None:
    futures: list[asyncio.Future[Any]] = []

    def handler(value: bytes) -> asyncio.Future[Any]:
        futures.append(world.driver.loop.create_future())
        return futures[-1]

    sender = world.add("s", "Push", "null", bind=True, frames="Bare")
    receiver = world.add("w", "Pull", "null", bind=False, handler=handler, high_water_mark=16, frames="Bare", polled=True)
    world.wire()
    for body in numbers(10):
        sender.outlet.send(body)
    world.driver.until(lambda: len(futures) == 4)
    futures[0].set_result(None)
    world.driver.until(lambda: len(futures) == 5)
    futures[1].set_exception(RuntimeError("handed back"))
    world.driver.until(lambda: len(futures) == 6)
    assert [str(error) for _, error in receiver.errors] == ["handed back"]
    for future in futures[2:]:
        future.cancel()


def test_garbage_is_dropped_and_counted(world: World) -> None:
    receiver = world.add("w", "Pull", "null", bind=True)
    with receiver.context.socket(zmq.PUSH) as stranger:
        stranger.connect(endpoint("127.0.0.1", receiver.inlet.tcp_port))
        stranger.send(b"garbage")
        stranger.send(b"D\x01")
        stranger.send_multipart([b"a", b"b"])
        world.driver.until(lambda: receiver.inlet.malformed >= 3)
    assert receiver.got == []


def test_close_waits_for_what_is_held(world: World) -> None:
    sender = world.add("s", "Push", "null", bind=False)
    receiver = world.add("w", "Pull", "null", bind=True)
    for body in numbers(100):
        sender.outlet.send(body)
    sender.apply(receiver)
    sender.outlet.close(5.0)
    world.driver.until(lambda: len(receiver.got) == 100)
    assert receiver.got == numbers(100)
    assert sender.outlet.ledger().dropped == 0
    other = world.add("s2", "Push", "null", bind=True)
    other.outlet.send(b"nobody is there")
    other.outlet.close(0.05)
    assert other.outlet.ledger().dropped == 1


@pytest.mark.parametrize("mode", ["null", "sidecars"])
def test_what_a_sender_left_behind_is_read_before_it_is_let_go(world: World, mode: Mode) -> None:
    """The directory says that the sender has gone, and its connection is over, while its messages wait in the receiver's queue."""
    sender = world.add("s", "Push", mode, bind=True, linger_seconds=5.0)
    receiver = world.add("w", "Pull", mode, bind=False)
    world.wire()
    receiver.inlet.stop_intake()
    # On a slow machine each is a frame of its own: few enough that all fit into the receiver's queue, which else never sees the end.
    for body in numbers(12):
        sender.outlet.send(body)
    sender.outlet.flush()
    world.members.remove(sender)
    sender.plane.close()
    if sender.sidecar is not None:
        sender.sidecar.leave()
        world.driver.until(lambda: sender.sidecar is not None and sender.sidecar.left, what="everything sent")
    sender.close()
    leg = receiver.sidecar._leg if receiver.sidecar is not None else receiver.inlet._leg
    assert isinstance(leg, CarrierLeg)

    def over() -> bool:
        leg.monitor.drain()
        return not leg.monitor.up

    world.driver.until(over, what="the end of the connection")
    world.directory()
    receiver.inlet.resume_intake()
    world.driver.until(lambda: len(receiver.got) == 12, what="what was left behind")
    world.driver.until(lambda: not leg._have, what="the disconnect")


@pytest.mark.parametrize("mode", ["null", "curve"])
def test_a_receiver_that_is_busy_for_long_loses_nothing(world: World, mode: Mode) -> None:
    """Its queue is full for longer than any heartbeat's timeout, and the sender has gone meanwhile."""
    sender = world.add("s", "Push", mode, bind=True, linger_seconds=10.0, high_water_mark=16)
    receiver = world.add("w", "Pull", mode, bind=False, high_water_mark=16)
    world.wire()
    receiver.inlet.stop_intake()
    for body in numbers(2000):
        sender.outlet.send(body)
    sender.outlet.flush()
    world.members.remove(sender)
    sender.close()
    busy_until = time.monotonic() + 5.5
    # The condition is the passing of time itself: nothing else tells that no heartbeat has ended the connection.
    world.driver.until(lambda: time.monotonic() > busy_until)
    receiver.inlet.resume_intake()
    world.driver.until(lambda: len(receiver.got) == 2000, what="every message")


@pytest.mark.parametrize("frames", ["Ganglion", "Bare"])
def test_sizes_of_large_messages_are_noted(world: World, frames: str, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes, sent = noted(monkeypatch), noted_as_sent(monkeypatch)
    sender = world.add("s", "Push", "null", bind=True, frames=frames)
    receiver = world.add("w", "Pull", "null", bind=False, frames=frames)
    world.wire()
    sender.outlet.send(b"small")
    world.driver.until(lambda: len(receiver.got) == 1)
    assert not any(size >= LARGE_BYTES for size, _ in sizes)
    sender.outlet.send(b"x" * LARGE_BYTES)
    world.driver.until(lambda: len(receiver.got) == 2)
    assert [messages for size, messages in sizes if size >= LARGE_BYTES] == [1]
    sender.outlet.send(b"x" * LARGE_SENT_BYTES * 2)
    world.driver.until(lambda: len(receiver.got) == 3)
    assert [size for size, _ in sent if size >= LARGE_SENT_BYTES] == [LARGE_SENT_BYTES * 2]
