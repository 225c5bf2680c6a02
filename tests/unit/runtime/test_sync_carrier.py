"""SyncPub where publications travel, with real sockets: replies keep their place, and reach one subscriber alone."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ganglion.runtime.carrier_legs import MARKER, marked, marker
from ganglion.runtime.carrier_outlets import PubOutlet
from ganglion.runtime.sync_carrier import HOLD_TURNS, SyncPubOutlet, SyncSubInlet
from ganglion.wire.frames import FrameError
from ganglion.wire.published import REPLY, Asker, decode_reply, decode_request, encode_reply, encode_request
from tests.support.carriers import MODES, Member, Mode, World
from tests.support.loops import running_loop

MARKS = {"a": b"a" * 16, "b": b"\xff" * 16}


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with running_loop() as driver:
        world = World(driver, tmp_path)
        yield world
        for member in world.members:
            member.close()


def _publisher(world: World, mode: Mode, name: str = "p") -> SyncPubOutlet:
    outlet = world.add(name, "Pub", mode, bind=True, inward="pub.in").outlet
    assert isinstance(outlet, SyncPubOutlet)
    return outlet


def _subscriber(world: World, name: str, mode: Mode, **other: Any) -> Member:
    member: Member

    def replied(number: int, body: bytes | memoryview) -> None:
        member.got.append((number, bytes(body)))

    member = world.add(name, "Sub", mode, bind=False, mark=MARKS[name], on_reply=replied, **other)
    return member


@pytest.mark.parametrize("mode", MODES)
def test_a_reply_has_its_place_and_reaches_one_alone(world: World, mode: Mode) -> None:
    publisher = _publisher(world, mode)
    every = _subscriber(world, "a", mode)
    # The first byte of replies' topics is a topic of publications here.
    some = _subscriber(world, "b", mode, topics=(b"R", b"\xff\xff"))
    world.wire()
    asks = {name: Asker(mark, 0, number) for number, (name, mark) in enumerate(MARKS.items())}
    world.driver.until(lambda: all(publisher.hears(asker) for asker in asks.values()), what="both to be heard")
    assert publisher.wired == 2
    for number in range(300):
        publisher.send(b"%d" % number, topic=(b"R", b"", b"\xff\xff", REPLY + MARKS["a"])[number % 4])
        publisher.answer(asks["ab"[number % 2]], b"after %d" % number)
    world.driver.until(lambda: len(every.got) == 450, what="everything")
    expected: list[Any] = []
    for number in range(300):
        expected.append(((b"R", b"", b"\xff\xff", REPLY + MARKS["a"])[number % 4], b"%d" % number))
        expected += [(0, b"after %d" % number)] if number % 2 == 0 else []
    assert every.got == expected
    expected = []
    for number in range(300):
        expected += [((b"R", b"", b"\xff\xff", REPLY + MARKS["a"])[number % 4], b"%d" % number)] if number % 4 != 1 else []
        expected += [(1, b"after %d" % number)] if number % 2 else []
    world.driver.until(lambda: len(some.got) == len(expected), what="the rest")
    assert some.got == expected
    # Replies are no messages of the channel's count.
    assert publisher.ledger().accepted == publisher.ledger().acked == 300
    assert (every.inlet.delivered, some.inlet.delivered) == (300, 225)


@pytest.mark.parametrize("mode", ["null", "sidecars"])
def test_what_is_subscribed_later_is_there_before_the_reply(world: World, mode: Mode) -> None:
    publisher = _publisher(world, mode)
    member = _subscriber(world, "a", mode, topics=(b"x",))
    inlet = member.inlet
    assert isinstance(inlet, SyncSubInlet)
    world.wire()
    world.driver.until(lambda: publisher.hears(Asker(MARKS["a"], 0, 0)))
    for generation in range(1, 20):
        topic = b"t%d." % generation
        inlet.subscribe(topic)
        inlet.subscribe(topic)
        assert inlet.generation == generation
        asker = Asker(MARKS["a"], generation, generation)
        assert not publisher.hears(asker)
        world.driver.until(lambda: publisher.hears(asker))  # noqa: B023 - this round's
        assert publisher.wired == 1
        publisher.answer(asker, b"")
        publisher.send(b"new", topic=topic)
        world.driver.until(lambda: member.got[-1:] == [(topic, b"new")])  # noqa: B023 - this round's
        assert member.got[-2] == (generation, b"")
    inlet.stop_intake()
    inlet.stop_intake()
    inlet.resume_intake()
    inlet.resume_intake()
    assert inlet.generation == 20
    asker = Asker(MARKS["a"], 20, 20)
    assert not publisher.hears(asker), "it knows the subscriptions of before"
    world.driver.until(lambda: publisher.hears(asker), what="those of now")
    publisher.answer(asker, b"again")
    publisher.send(b"after", topic=b"x")
    world.driver.until(lambda: member.got[-2:] == [(20, b"again"), (b"x", b"after")])
    inlet.stop_intake()
    world.driver.until(lambda: publisher.wired == 0, what="it to leave")
    assert not publisher.hears(Asker(MARKS["a"], 0, 0))


def test_who_is_stopped_while_it_holds_takes_again_when_it_is_resumed(world: World) -> None:
    publisher = _publisher(world, "null")
    member = _subscriber(world, "a", "null")
    inlet = member.inlet
    assert isinstance(inlet, SyncSubInlet)
    world.wire()
    world.driver.until(lambda: publisher.hears(Asker(MARKS["a"], 0, 0)))
    publisher.send(b"one")
    world.driver.until(lambda: member.got == [(b"", b"one")])
    inlet.hold()
    inlet.drain(1)
    assert len(inlet.sockets) == 1, "it holds"
    inlet.stop_intake()
    for _ in range(2 * HOLD_TURNS):
        world.driver.loop.run_until_complete(asyncio.sleep(0))
    inlet.resume_intake()
    world.driver.until(lambda: publisher.hears(Asker(MARKS["a"], 1, 0)))
    publisher.send(b"two")
    world.driver.until(lambda: member.got == [(b"", b"one"), (b"", b"two")])


def test_who_waits_for_a_reply_goes_on_before_what_follows(world: World) -> None:
    publisher = _publisher(world, "null")
    order: list[Any] = []
    waiting: list[asyncio.Future[None]] = []

    def replied(_number: int, _body: bytes | memoryview) -> None:
        waiting.pop().set_result(None)
        assert isinstance(member.inlet, SyncSubInlet)
        member.inlet.hold()

    async def asks(how: str) -> None:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        waiting.append(future)
        match how:
            case "await":
                await future
            case "wait_for":
                await asyncio.wait_for(future, 10)
            case "wait_for of a coroutine":
                await asyncio.wait_for(asyncio.wait_for(future, 10), 10)
            case _:
                await asyncio.gather(asyncio.create_task(asyncio.wait_for(future, 10)))
        order.append(how)

    member = world.add(
        "a", "Sub", "null", bind=False, mark=MARKS["a"], on_reply=replied, handler=lambda _topic, value: order.append(int(value))
    )
    world.wire()
    asker = Asker(MARKS["a"], 0, 0)
    world.driver.until(lambda: publisher.hears(asker))
    expected: list[Any] = []
    for how in ("await", "wait_for", "wait_for of a coroutine", "gather"):
        task = world.driver.loop.create_task(asks(how))
        world.driver.until(lambda: waiting)
        for number in range(200):
            if number == 100:
                publisher.answer(asker, b"")
            publisher.send(b"%d" % number)
        world.driver.until(lambda: task.done() and order[-1:] == [199])  # noqa: B023 - this round's
        expected += [*range(100), how, *range(100, 200)]
    assert order == expected


def test_what_is_no_reply_is_dropped_and_said_once(world: World, caplog: pytest.LogCaptureFixture) -> None:
    publisher = _publisher(world, "null")
    member = _subscriber(world, "a", "null")
    world.wire()
    world.driver.until(lambda: publisher.hears(Asker(MARKS["a"], 0, 0)))
    PubOutlet.send(publisher, b"short", topic=REPLY + MARKS["a"])
    PubOutlet.send(publisher, encode_reply(1, b"x"), topic=REPLY + MARKS["a"] + b"more")
    publisher.send(b"last")
    world.driver.until(lambda: member.got == [(b"", b"last")])
    assert (member.inlet.malformed, member.inlet.delivered, member.errors) == (2, 1, [])
    assert [record.message for record in caplog.records] == [
        "alias 'sub': a message was dropped: reply: found 5 bytes; a published reply has at least 8 (further ones are only counted)"
    ]


def test_layouts() -> None:
    asker = Asker(bytes(range(16)), 7, 2**64 - 1)
    assert decode_request(encode_request(asker, b"body")) == (asker, b"body")
    assert decode_request(memoryview(encode_request(asker, b"")))[0] == asker
    assert decode_reply(encode_reply(9, memoryview(b"body"))) == (9, b"body")
    for decode, size in ((decode_request, 28), (decode_reply, 8)):
        for length in range(size):
            with pytest.raises(FrameError, match=f"found {length} bytes"):
                decode(bytes(length))
    assert marked(marker("worker-0")) == (b"worker-0", 0)
    assert marked(marker("worker-0", MARKS["b"], 5)) == (MARKS["b"], 5)
    assert marked(MARKER + b"worker-0\xffodd") == (b"worker-0", 0)
