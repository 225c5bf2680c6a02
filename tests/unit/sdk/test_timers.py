"""Timers in virtual time: on their grid, without bursts and without overlap."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Awaitable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ganglion.sdk.timers import Timers, next_start
from tests.support.clock import FakeClock


class Bench:
    """Timers on a virtual clock, and what happened."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.errors: list[tuple[str, BaseException]] = []
        self.starts: list[float] = []
        self.tasks: list[FakeTask] = []
        self.timers = Timers(self.clock, lambda alias, error: self.errors.append((alias, error)), self.spawn)

    def spawn(self, awaitable: Awaitable[Any]) -> asyncio.Future[Any]:
        task = FakeTask(awaitable)
        self.tasks.append(task)
        return task  # type: ignore[return-value]

    def tick(self) -> None:
        self.starts.append(self.clock.now - 100.0)


class FakeTask:
    """As much of a task as timers use; the test says when it ends."""

    def __init__(self, awaitable: Awaitable[Any]) -> None:
        self.awaitable = awaitable
        self.callbacks: list[Any] = []
        self.error: BaseException | None = None
        self.was_cancelled = False

    def add_done_callback(self, callback: Any) -> None:
        self.callbacks.append(callback)

    def cancelled(self) -> bool:
        return self.was_cancelled

    def cancel(self) -> None:
        self.was_cancelled = True
        self.end()

    def exception(self) -> BaseException | None:
        return self.error

    def end(self, error: BaseException | None = None) -> None:
        self.error = error
        self.awaitable.close()  # type: ignore[attr-defined]
        for callback in self.callbacks:
            callback(self)


def test_first_start_is_at_once_then_on_the_grid() -> None:
    bench = Bench()
    bench.timers.start()
    bench.timers.each(2.0, bench.tick)
    bench.clock.advance(7.0)
    assert bench.starts == [0.0, 2.0, 4.0, 6.0]


def test_timers_made_before_the_start_run_after_it() -> None:
    bench = Bench()
    bench.timers.each(1.0, bench.tick)
    bench.timers.after(0.0, bench.tick)
    bench.clock.advance(5.0)
    assert bench.starts == []
    bench.timers.start()
    bench.clock.advance(0.5)
    assert bench.starts == [5.0, 5.0]


def test_missed_periods_are_skipped_not_caught_up() -> None:
    bench = Bench()

    def busy() -> None:
        bench.tick()
        if len(bench.starts) == 1:
            bench.clock.now += 3.5

    bench.timers.start()
    bench.timers.each(1.0, busy)
    bench.clock.advance(6.0)
    assert bench.starts == [0.0, 4.0, 5.0, 6.0]


def test_a_coroutine_is_not_started_again_while_it_runs() -> None:
    bench = Bench()

    async def slow() -> None: ...

    def call() -> Any:
        bench.tick()
        return slow()

    bench.timers.start()
    bench.timers.each(1.0, call, alias="slow")
    bench.clock.advance(3.2)
    assert bench.starts == [0.0]
    assert bench.timers.busy
    bench.tasks[0].end()
    bench.clock.advance(1.0)
    assert bench.starts == [0.0, 4.0]
    bench.tasks[1].end(ValueError("no"))
    assert [alias for alias, _ in bench.errors] == ["slow"]
    bench.timers.close()
    assert not bench.timers.busy


def test_an_exception_is_told_and_the_timer_goes_on() -> None:
    bench = Bench()

    def bad() -> None:
        bench.tick()
        raise SystemExit(3) if len(bench.starts) == 1 else ValueError("no")

    bench.timers.start()
    bench.timers.each(1.0, bad, alias="bad")
    bench.clock.advance(1.5)
    assert [type(error) for _, error in bench.errors] == [SystemExit, ValueError]
    assert bench.timers.aliases == ("bad",)


def test_after_runs_once_and_frees_its_alias() -> None:
    bench = Bench()
    bench.timers.start()

    def again() -> None:
        bench.tick()
        if len(bench.starts) < 3:
            bench.timers.after(1.0, again, alias="once")

    bench.timers.after(0.5, again, alias="once")
    bench.clock.advance(10.0)
    assert bench.starts == [0.5, 1.5, 2.5]
    assert bench.timers.aliases == ()


def test_stop_and_close() -> None:
    bench = Bench()
    bench.timers.start()
    alias = bench.timers.each(1.0, bench.tick)
    bench.clock.advance(1.5)
    bench.timers.stop(alias)
    bench.clock.advance(5.0)
    assert bench.starts == [0.0, 1.0]
    with pytest.raises(KeyError, match="is not running"):
        bench.timers.stop(alias)
    bench.timers.each(1.0, bench.tick)
    bench.timers.close()
    bench.timers.each(1.0, bench.tick)
    bench.clock.advance(5.0)
    assert len(bench.starts) == 2
    assert len(bench.timers) == 0


def test_stopping_from_inside_the_callback_ends_it() -> None:
    bench = Bench()

    def tick() -> None:
        bench.tick()
        bench.timers.stop("self")

    bench.timers.start()
    bench.timers.each(1.0, tick, alias="self")
    bench.clock.advance(5.0)
    assert bench.starts == [0.0]


@pytest.mark.parametrize("period", [-1.0, float("inf"), float("nan")])
def test_absurd_times_are_refused(period: float) -> None:
    bench = Bench()
    with pytest.raises(ValueError, match="period: found"):
        bench.timers.each(period, bench.tick)
    with pytest.raises(ValueError, match="delay: found"):
        bench.timers.after(period, bench.tick)


def test_an_alias_is_taken_once() -> None:
    bench = Bench()
    bench.timers.each(1.0, bench.tick, alias="a")
    with pytest.raises(ValueError, match="'a' is running"):
        bench.timers.after(1.0, bench.tick, alias="a")


@given(st.floats(0.001, 1000), st.floats(0, 1e6), st.floats(0, 1e4))
def test_the_next_start_is_neither_past_nor_more_than_a_period_away(period: float, due: float, late: float) -> None:
    now = due + late
    start = next_start(due, period, now)
    slack = 1e-9 * max(1.0, now)
    assert now - slack <= start <= now + period + slack


def test_period_zero_runs_once_a_turn() -> None:
    bench = Bench()
    bench.timers.start()
    bench.timers.each(0.0, bench.tick)
    bench.clock.advance(0.0, turns=5)
    assert bench.starts == [0.0] * 5


@pytest.mark.parametrize(("alias", "name"), [(None, "broken"), ("mine", "mine")])
def test_an_error_names_the_method_of_a_timer_without_an_alias(alias: str | None, name: str) -> None:
    def broken(_argument: str) -> None:
        raise ValueError("made to fail")

    bench = Bench()
    bench.timers.after(0.0, functools.partial(functools.partial(broken), "x"), alias=alias)
    bench.timers.start()
    bench.clock.advance(0.0)
    assert [shown for shown, _ in bench.errors] == [name]
