"""Acknowledged PushPull over real sockets: either side binds, several on each side, everything settles."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from functools import partial
from typing import Any

import pytest

from ganglion.runtime.endpoint_outlet import EndpointOutlet
from ganglion.runtime.errors import ChannelClosed, MessageTooLarge, SendTimeout
from ganglion.runtime.plane import MessageId, Reply, Verdict
from tests.support.aio import eventually
from tests.support.dataplane import bench
from tests.support.wirings import channel


@pytest.mark.parametrize("push_binds", [True, False])
def test_every_message_of_several_senders_reaches_one_of_several_receivers(push_binds: bool) -> None:
    async def main() -> None:
        with bench() as world:
            senders = [world.member(f"src-{i}", channel("out", "work", "Push", bind=push_binds)) for i in range(2)]
            receivers = [world.member(f"dst-{i}", channel("in", "work", "Pull", bind=not push_binds)) for i in range(3)]
            outlets = [member.plane.outlet("out") for member in senders]
            for member in receivers:
                world.inlet(member, "in")
            world.wire()
            await eventually(lambda: all(outlet.wired == 3 for outlet in outlets))
            for number in range(500):
                for i, outlet in enumerate(outlets):
                    outlet.send(f"{i}-{number}".encode())
            await eventually(lambda: all(outlet.at_rest for outlet in outlets))
            got = Counter(value for member in receivers for value in member.got)
            assert got == Counter(f"{i}-{number}" for i in range(2) for number in range(500))
            assert all(member.got for member in receivers)
            for outlet in outlets:
                assert outlet.ledger() == type(outlet.ledger())(accepted=500, acked=500)

    asyncio.run(main())


def test_a_sender_blocks_at_its_high_water_mark_and_goes_on() -> None:
    async def main() -> None:
        with bench() as world:
            source = world.member("src-0", channel("out", "work", "Push", bind=False, high_water_mark=16))
            sink = world.member("dst-0", channel("in", "work", "Pull", bind=True, high_water_mark=16))
            outlet = source.plane.outlet("out")
            inlet = world.inlet(sink, "in")
            for number in range(16):
                outlet.send(b"%d" % number)
            with pytest.raises(SendTimeout, match="16 messages are unacknowledged"):
                outlet.send(b"too many", timeout=0.01)
            world.wire()
            # Sink and source share this thread here, so room comes from the loop; blocking is shown with processes.
            await eventually(lambda: outlet.at_rest)
            outlet.send(b"16")
            await eventually(lambda: outlet.at_rest)
            assert sink.got == [str(number) for number in range(17)]
            assert inlet.idle

    asyncio.run(main())


def test_drop_newest_counts_what_it_drops() -> None:
    async def main() -> None:
        with bench() as world:
            source = world.member("src-0", channel("out", "work", "Push", bind=False, high_water_mark=8, overflow="DropNewest"))
            sink = world.member("dst-0", channel("in", "work", "Pull", bind=True, high_water_mark=8))
            outlet = source.plane.outlet("out")
            ids = [outlet.send(b"%d" % number) for number in range(12)]
            assert [id_.seq for id_ in ids] == list(range(12))
            world.inlet(sink, "in")
            world.wire()
            await eventually(lambda: outlet.at_rest)
            outlet.send(b"last")
            await eventually(lambda: outlet.at_rest)
            assert sink.got == [*map(str, range(8)), "last"]
            ledger = outlet.ledger()
            assert (ledger.accepted, ledger.acked, ledger.dropped) == (13, 9, 4)

    asyncio.run(main())


def test_too_large_and_after_the_end_is_refused() -> None:
    async def main() -> None:
        with bench() as world:
            outlet = world.member("src-0", channel("out", "work", "Push", bind=False, max_message_bytes=10)).plane.outlet("out")
            with pytest.raises(MessageTooLarge, match="body of 11 bytes; maxMessageBytes is 10"):
                outlet.send(b"x" * 11)
            outlet.end()
            assert outlet.ended
            with pytest.raises(ChannelClosed):
                outlet.send(b"x")
            assert outlet.ledger().accepted == 0

    asyncio.run(main())


def test_a_handler_that_raises_is_tried_three_times_and_the_message_goes_to_the_dead_letters() -> None:
    async def main() -> None:
        with bench() as world:
            source = world.member(
                "src-0", channel("out", "work", "Push", bind=False, dead_letter="dead"), channel("dead", "morgue", "Push", bind=False)
            )
            sink = world.member("dst-0", channel("in", "work", "Pull", bind=True), channel("corpses", "morgue", "Pull", bind=True))
            tries: Counter[str] = Counter()
            raised: list[tuple[MessageId, str]] = []

            def handler(value: str) -> None:
                tries[value] += 1
                if value == "bad":
                    raise ValueError("no")

            def on_error(id_: MessageId, error: BaseException) -> Verdict:
                raised.append((id_, str(error)))
                return Verdict.REJECT

            inlet = world.inlet(sink, "in", handler, on_error=on_error)
            buried: list[str] = []
            world.inlet(sink, "corpses", buried.append)
            outlet = source.plane.outlet("out")
            world.wire()
            ids = [outlet.send(body) for body in (b"good", b"bad", b"fine")]
            await eventually(lambda: outlet.at_rest and buried)
            assert tries == {"good": 1, "bad": 3, "fine": 1}
            assert raised == [(ids[1], "no")] * 3
            assert inlet.failed == 3
            assert buried == ["bad"]
            assert outlet.ledger().dead_lettered == 1

    asyncio.run(main())


@pytest.mark.parametrize("waits", [True, False])
def test_coroutine_handlers_run_side_by_side_and_keep_their_message(waits: bool) -> None:
    async def main() -> None:
        with bench() as world:
            source = world.member("src-0", channel("out", "work", "Push", bind=False))
            sink = world.member("dst-0", channel("in", "work", "Pull", bind=True))
            gate = asyncio.Event()
            running = 0
            most = 0
            seen: dict[str, MessageId | None] = {}

            async def handler(value: str) -> None:
                nonlocal running, most
                running += 1
                most = max(most, running)
                async with asyncio.timeout(30):
                    if waits:
                        await gate.wait()
                seen[value] = inlet.current
                running -= 1

            inlet = world.inlet(sink, "in", handler)
            outlet = source.plane.outlet("out")
            world.wire()
            ids = {str(number): outlet.send(b"%d" % number) for number in range(10)}
            if waits:
                await eventually(lambda: running == 10)
                assert not outlet.at_rest
                assert not inlet.idle
                gate.set()
            await eventually(lambda: outlet.at_rest)
            assert seen == ids
            assert most == (10 if waits else 1)
            assert inlet.idle
            assert inlet.current is None

    asyncio.run(main())


def test_a_dead_letter_that_is_too_large_for_its_channel_keeps_no_other_back(caplog: pytest.LogCaptureFixture) -> None:
    """The frame would cut the connection, again and again."""

    async def main() -> None:
        with bench() as world:
            source = world.member(
                "src-0",
                channel("out", "work", "Push", bind=False, dead_letter="dead"),
                channel("dead", "morgue", "Push", bind=False, max_message_bytes=1024),
            )
            sink = world.member("dst-0", channel("in", "work", "Pull", bind=True))
            morgue = world.member("morgue-0", channel("letters", "morgue", "Pull", bind=True, max_message_bytes=1024))
            world.inlet(sink, "in", lambda _: 1 / 0)
            world.inlet(morgue, "letters")
            outlet = source.plane.outlet("out")
            world.wire()
            outlet.send(b"x" * 1_000_000)
            outlet.send(b"small")
            await eventually(lambda: outlet.ledger().dead_lettered == 2)
            await eventually(lambda: morgue.got == ["small"], timeout=5.0)
            await eventually(lambda: source.plane.outlet("dead").at_rest, timeout=5.0)

    asyncio.run(main())
    assert "a dead letter of 1000000 bytes is lost; maxMessageBytes is 1024" in caplog.text


def test_a_cancelled_or_failing_coroutine_is_judged() -> None:
    async def main() -> None:
        with bench() as world:
            source = world.member("src-0", channel("out", "work", "Push", bind=False))
            sink = world.member("dst-0", channel("in", "work", "Pull", bind=True))
            errors: list[str] = []

            async def handler(value: str) -> None:
                if value == "early":
                    raise ValueError(value)
                await asyncio.sleep(0)
                async with asyncio.timeout(0):
                    await asyncio.Event().wait()

            def on_error(_id: MessageId, error: BaseException) -> Verdict:
                errors.append(type(error).__name__)
                return Verdict.DONE

            world.inlet(sink, "in", handler, on_error=on_error)
            outlet = source.plane.outlet("out")
            world.wire()
            outlet.send(b"early")
            outlet.send(b"late")
            await eventually(lambda: outlet.at_rest)
            assert sorted(errors) == ["TimeoutError", "ValueError"]
            assert outlet.ledger().acked == 2

    asyncio.run(main())


def test_a_future_finishes_its_message_in_any_order() -> None:
    async def main() -> None:
        with bench() as world:
            source = world.member("src-0", channel("out", "work", "Push", bind=False))
            sink = world.member("dst-0", channel("in", "work", "Pull", bind=True))
            futures: list[asyncio.Future[Any]] = []

            def handler(_value: str) -> asyncio.Future[Any]:
                futures.append(asyncio.get_running_loop().create_future())
                return futures[-1]

            world.inlet(sink, "in", handler)
            outlet = source.plane.outlet("out")
            world.wire()
            for number in range(4):
                outlet.send(b"%d" % number)
            await eventually(lambda: len(futures) == 4)
            for expected, index in ((1, 2), (2, 0), (3, 3), (4, 1)):
                futures[index].set_result(None)
                await eventually(partial(_acked, outlet, expected))

    asyncio.run(main())


def test_stopping_intake_hands_back_what_was_not_started() -> None:
    async def main() -> None:
        with bench() as world:
            source = world.member("src-0", channel("out", "work", "Push", bind=False))
            leaving = world.member("dst-0", channel("in", "work", "Pull", bind=True))
            outlet = source.plane.outlet("out")

            def handler(value: str) -> None:
                leaving.got.append(value)
                if len(leaving.got) == 3:
                    inlet.stop_intake()

            inlet = world.inlet(leaving, "in", handler)
            world.wire()
            for number in range(20):
                outlet.send(b"%d" % number)
            await eventually(lambda: len(leaving.got) == 3 and inlet.idle and outlet.ledger().in_flight == 17)
            other = world.member("dst-1", channel("in", "work", "Pull", bind=True))
            world.inlet(other, "in")
            world.wire()
            await eventually(lambda: outlet.at_rest)
            assert leaving.got == ["0", "1", "2"]
            assert other.got == [str(number) for number in range(3, 20)]
            assert outlet.ledger().dead_lettered == 0

    asyncio.run(main())


def _acked(outlet: EndpointOutlet, expected: int) -> bool:
    return outlet.ledger().acked == expected


def test_a_slow_handlers_results_leave_before_its_input_is_through() -> None:
    async def main() -> None:
        with bench() as world:
            source = world.member("src-0", channel("out", "work", "Push", bind=False))
            stage = world.member("mid-0", channel("in", "work", "Pull", bind=True), channel("on", "results", "Push", bind=False))
            sink = world.member("dst-0", channel("in", "results", "Pull", bind=True))
            on = stage.plane.outlet("on")
            outlet = source.plane.outlet("out")
            settled_early: list[int] = []

            def handler(value: str) -> None:
                on.send(value.encode())
                # Busy for longer than results may be kept back; the sink shares this thread, so only what left can be seen.
                end = time.monotonic() + 0.02
                while time.monotonic() < end:
                    pass
                settled_early.append(on._sender.accepted)

            world.inlet(stage, "in", handler)
            world.inlet(sink, "in")
            world.wire()
            await eventually(lambda: outlet.wired and on.wired)
            for number in range(20):
                outlet.send(b"%d" % number)
            await eventually(lambda: outlet.at_rest)
            assert max(settled_early) >= 2
            assert sorted(map(int, sink.got)) == list(range(20))

    asyncio.run(main())


def test_as_many_requests_run_beside_each_other_as_a_requester_may_have_under_way() -> None:
    async def main() -> None:
        with bench() as world:
            loop = asyncio.get_running_loop()
            running: list[asyncio.Future[str]] = []
            replies: list[Reply] = []

            async def handler(_: str) -> str:
                running.append(loop.create_future())
                return await running[-1]

            source = world.member("src-0", channel("out", "ask", "Req", bind=False))
            sink = world.member("dst-0", channel("in", "ask", "Rep", bind=True))
            world.inlet(sink, "in", handler, encode=str.encode)
            outlet = source.plane.outlet("out")
            world.wire()
            for _ in range(400):
                outlet.request(b"?", timeout=60.0, on_reply=replies.append)
            await eventually(lambda: len(running) == 400, timeout=10.0)
            for future in running:
                future.set_result("!")
            await eventually(lambda: len(replies) == 400)

    asyncio.run(main())
