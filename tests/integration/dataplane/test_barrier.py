"""The start barrier of an acknowledged channel: nothing leaves before enough receivers are there, or its time is up."""

from __future__ import annotations

import asyncio

from ganglion.wiring import BarrierWiring
from tests.support.aio import eventually
from tests.support.dataplane import bench
from tests.support.wirings import channel


def test_messages_wait_for_the_second_receiver() -> None:
    async def main() -> None:
        with bench() as world:
            source = world.member(
                "src-0",
                channel("out", "work", "Push", bind=False, barrier=BarrierWiring(peers=2, timeout_seconds=600)),
                channel("free", "free", "Push", bind=False),
            )
            first = world.member("dst-0", channel("in", "work", "Pull", bind=True), channel("free", "free", "Pull", bind=True))
            world.inlet(first, "in")
            world.inlet(first, "free")
            held, free = source.plane.outlet("out"), source.plane.outlet("free")
            world.wire()
            for number in range(5):
                held.send(b"held %d" % number)
            await eventually(lambda: held.wired == 1)
            # As long as another channel between the same two takes for this, a message of the first would have come, too.
            for number in range(100):
                free.send(b"free %d" % number)
                await eventually(lambda: free.at_rest)
            assert first.got == [f"free {number}" for number in range(100)]
            assert (held.ledger().accepted, held.ledger().acked) == (5, 0)
            second = world.member("dst-1", channel("in", "work", "Pull", bind=True))
            world.inlet(second, "in")
            world.wire()
            await eventually(lambda: held.at_rest)
            assert sorted(first.got[100:] + second.got) == [f"held {number}" for number in range(5)]

    asyncio.run(main())


def test_it_opens_when_its_time_is_up() -> None:
    async def main() -> None:
        with bench() as world:
            source = world.member("src-0", channel("out", "work", "Push", bind=False, barrier=BarrierWiring(peers=2, timeout_seconds=0.2)))
            sink = world.member("dst-0", channel("in", "work", "Pull", bind=True))
            world.inlet(sink, "in")
            outlet = source.plane.outlet("out")
            world.wire()
            outlet.send(b"late")
            await eventually(lambda: outlet.at_rest)
            assert sink.got == ["late"]

    asyncio.run(main())
