"""The work queue in virtual time."""

from __future__ import annotations

import asyncio

from hypothesis import given
from hypothesis import strategies as st

from ganglion_operator.engine.queue import CURE_SECONDS, FIRST_RETRY_SECONDS, LAST_RETRY_SECONDS, Lanes, Queue
from tests.support.virtualtime import run_virtual


def lanes() -> Lanes[str]:
    return Lanes(draw=lambda: 0.0)


def test_a_key_waits_once() -> None:
    q = lanes()
    for _ in range(3):
        q.add("a", 0)
    assert [q.pop(0), q.pop(0)] == ["a", None]


def test_live_events_go_before_the_initial_list() -> None:
    q = lanes()
    q.add("listed", 0, initial=True)
    q.add("both", 0, initial=True)
    q.add("live", 0)
    q.add("both", 0)
    assert [q.pop(0) for _ in range(4)] == ["live", "both", "listed", None]


def test_a_key_is_never_processed_twice_at_a_time() -> None:
    q = lanes()
    q.add("a", 0)
    assert q.pop(0) == "a"
    q.add("a", 0)
    assert q.pop(0) is None
    q.done("a", 1)
    assert q.pop(1) == "a"
    q.done("a", 2)
    assert q.pop(2) is None


def test_failures_back_off_and_success_resets() -> None:
    q, now, delays = lanes(), 0.0, []
    q.add("a", now)
    for _ in range(30):
        assert q.pop(now) == "a"
        delays.append(q.failed("a", now))
        assert q.pop(now) is None
        now += delays[-1]
    assert delays[:4] == [FIRST_RETRY_SECONDS * 2**n for n in range(4)]
    assert delays[-1] == LAST_RETRY_SECONDS
    assert q.pop(now) == "a"
    q.done("a", now)
    q.add("a", now)
    assert q.pop(now) == "a"
    assert q.failed("a", now) == FIRST_RETRY_SECONDS


def test_a_change_shortens_a_long_back_off_but_not_to_nothing() -> None:
    q, now = lanes(), 0.0
    q.add("a", now)
    for _ in range(25):
        q.pop(now)
        now += q.failed("a", now)
    q.pop(now)
    q.failed("a", now)
    q.add("a", now)
    assert q.pop(now) is None
    assert q.pop(now + CURE_SECONDS) == "a"
    q.add("a", now + CURE_SECONDS)
    assert q.failed("a", now + CURE_SECONDS) == CURE_SECONDS


def test_the_servers_wish_to_wait_is_kept() -> None:
    q = lanes()
    q.add("a", 0)
    q.pop(0)
    assert q.failed("a", 0, at_least=7.0) == 7.0
    assert q.next_due() == 7.0


def test_what_happens_in_a_row_is_looked_at_once() -> None:
    q = lanes()
    for now in (0.0, 0.03, 0.06):
        q.add_soon("a", now, 0.1)
    assert q.pop(0.09) is None
    assert q.pop(0.1) == "a"
    q.add_soon("a", 0.11, 0.1)
    assert q.pop(0.3) is None, "a worker has it"
    q.done("a", 0.15)
    assert (q.pop(0.2), q.pop(0.22)) == (None, "a")


def test_an_earlier_wish_replaces_a_later_one() -> None:
    q = lanes()
    q.add_at("a", 50)
    q.add_at("a", 10)
    q.add_at("a", 90)
    assert (q.pop(9), q.pop(10), q.pop(100)) == (None, "a", None)


@given(st.lists(st.tuples(st.sampled_from(["add", "initial", "soon", "pop", "done", "fail", "wait"]), st.integers(0, 3)), max_size=80))
def test_no_key_is_lost_or_doubled(steps: list[tuple[str, int]]) -> None:
    """After any history, everything added since it was last popped comes out, and nobody has a key that another one has."""
    q, now, held, owed = lanes(), 0.0, set[int](), set[int]()
    keys: Lanes[int] = Lanes(draw=lambda: 0.0)
    for step, key in steps:
        match step:
            case "add" | "initial":
                keys.add(key, now, initial=step == "initial")
                owed.add(key)
            case "soon":
                keys.add_soon(key, now, 0.5)
                owed.add(key)
            case "pop":
                got = keys.pop(now)
                if got is not None:
                    assert got not in held
                    held.add(got)
                    owed.discard(got)
            case "done" if key in held:
                held.discard(key)
                keys.done(key, now)
            case "fail" if key in held:
                held.discard(key)
                keys.failed(key, now)
                owed.add(key)
            case "wait":
                now += 1.0
    for key in list(held):
        keys.done(key, now)
    now += 2 * LAST_RETRY_SECONDS
    out = []
    while (popped := keys.pop(now)) is not None:
        out.append(popped)
        keys.done(popped, now)
    assert set(out) >= owed
    assert len(out) == len(set(out))
    assert q.pop(0) is None


def test_workers_wake_for_delays_and_leave_when_closed() -> None:
    async def story() -> list[tuple[str, float]]:
        loop = asyncio.get_running_loop()
        queue: Queue[str] = Queue(loop.time, lanes())
        seen: list[tuple[str, float]] = []

        async def worker() -> None:
            while (key := await queue.get()) is not None:
                seen.append((key, loop.time()))
                if key == "again" and len([k for k, _ in seen if k == "again"]) < 3:
                    queue.done(key, 100.0)
                elif key == "fails" and len([k for k, _ in seen if k == "fails"]) < 3:
                    queue.failed(key)
                else:
                    queue.done(key)

        workers = [asyncio.create_task(worker()) for _ in range(3)]
        queue.add("again")
        queue.add("fails")
        await asyncio.sleep(1000)
        queue.close()
        await asyncio.gather(*workers)
        return seen

    seen = run_virtual(story())
    assert [round(t) for k, t in seen if k == "again"] == [0, 100, 200]
    assert [round(t, 3) for k, t in seen if k == "fails"] == [0, 0.005, 0.015]


def test_wishes_that_events_overtook_do_not_pile_up() -> None:
    q, now = lanes(), 0.0
    for other in range(10):
        q.add_at(f"other {other}", 1e6)
    q.add("busy", now)
    for _ in range(5000):
        assert q.pop(now) == "busy"
        q.done("busy", now, requeue_after=300.0)
        q.add("busy", now)
        now += 0.01
    assert len(q._delayed) < 1000
    assert q.delayed == 10
    assert q.pop(now) == "busy"
    q.done("busy", now, requeue_after=300.0)
    assert (q.next_due(), q.pop(now + 299), q.pop(now + 300)) == (now + 300, None, "busy")
