"""Coroutine handlers: the first step inline, the rest as a task, and asyncio's own tools work in both."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from contextvars import ContextVar
from typing import Any

import pytest

from ganglion.runtime.coroutines import FirstStep
from tests.support.aio import eventually

Outcome = list[tuple[Any, BaseException | None]]


def _run(coroutine: Coroutine[Any, Any, Any]) -> tuple[bool, Any, Outcome]:
    """(finished in the first step, its result, what `done` was told)."""

    async def main() -> tuple[bool, Any, Outcome]:
        told: Outcome = []
        started: list[tuple[bool, Any]] = []
        steps = FirstStep(asyncio.get_running_loop())
        # A loop callback, as in the reactor: no task is current there.
        asyncio.get_running_loop().call_soon(lambda: started.append(steps.run(coroutine, lambda value, error: told.append((value, error)))))
        await eventually(lambda: started and (started[0][0] or told))
        assert len(steps) == 0
        return (*started[0], told)

    return asyncio.run(main())


def test_a_coroutine_that_does_not_wait_needs_no_task() -> None:
    async def handler() -> str:
        return "now"

    assert _run(handler()) == (True, "now", [])


def test_one_that_waits_goes_on_as_a_task() -> None:
    async def handler() -> str:
        first = asyncio.current_task()
        await asyncio.sleep(0)
        assert first is not None
        assert first.done() is False
        await asyncio.sleep(0.001)
        return "later"

    assert _run(handler()) == (False, None, [("later", None)])


def test_a_timeout_entered_before_the_first_wait_fires() -> None:
    async def handler() -> None:
        async with asyncio.timeout(0.01):
            await asyncio.Event().wait()

    finished, _, told = _run(handler())
    assert not finished
    assert isinstance(told[0][1], TimeoutError)


def test_a_task_group_entered_before_the_first_wait_works() -> None:
    async def handler() -> int:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(asyncio.sleep(0.001, number)) for number in range(3)]
        return sum(task.result() for task in tasks)

    assert _run(handler())[2] == [(3, None)]


def test_a_failing_member_of_a_task_group_cancels_the_rest() -> None:
    async def fail() -> None:
        await asyncio.sleep(0)
        raise ValueError("no")

    async def handler() -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(fail())
            await asyncio.Event().wait()

    error = _run(handler())[2][0][1]
    assert isinstance(error, ExceptionGroup)


def test_an_exception_after_a_wait_is_told() -> None:
    async def handler() -> None:
        await asyncio.sleep(0)
        raise ValueError("late")

    assert str(_run(handler())[2][0][1]) == "late"


def test_an_exception_in_the_first_step_is_raised() -> None:
    async def handler() -> None:
        raise ValueError("early")

    async def main() -> None:
        steps = FirstStep(asyncio.get_running_loop())
        raised = asyncio.get_running_loop().create_future()

        def start() -> None:
            with pytest.raises(ValueError, match="early") as caught:
                steps.run(handler(), lambda _value, _error: None)
            raised.set_result(caught.value)
            assert asyncio.current_task() is None

        asyncio.get_running_loop().call_soon(start)
        await raised

    asyncio.run(main())


def test_cancelling_reaches_the_coroutine() -> None:
    async def main() -> None:
        steps = FirstStep(asyncio.get_running_loop())
        told: Outcome = []
        cleaned: list[bool] = []

        async def handler() -> None:
            try:
                await asyncio.Event().wait()
            finally:
                cleaned.append(True)

        asyncio.get_running_loop().call_soon(lambda: steps.run(handler(), lambda value, error: told.append((value, error))))
        await eventually(lambda: len(steps) == 1)
        await asyncio.sleep(0)
        steps.cancel()
        await eventually(lambda: told)
        assert cleaned == [True]
        assert isinstance(told[0][1], asyncio.CancelledError)

    asyncio.run(main())


def test_each_coroutine_has_its_own_context() -> None:
    variable: ContextVar[str] = ContextVar("variable", default="outside")

    async def main() -> None:
        steps = FirstStep(asyncio.get_running_loop())
        seen: list[str] = []

        async def handler(name: str) -> None:
            assert variable.get() == "outside"
            variable.set(name)
            await asyncio.sleep(0)
            seen.append(variable.get())

        def start() -> None:
            for name in ("a", "b"):
                steps.run(handler(name), lambda _value, _error: None)

        asyncio.get_running_loop().call_soon(start)
        await eventually(lambda: len(seen) == 2)
        assert seen == ["a", "b"]
        assert variable.get() == "outside"

    asyncio.run(main())


def test_inside_a_task_the_coroutine_becomes_a_task_at_once() -> None:
    async def main() -> None:
        steps = FirstStep(asyncio.get_running_loop())
        told: Outcome = []

        async def handler() -> str:
            return "done"

        assert steps.run(handler(), lambda value, error: told.append((value, error))) == (False, None)
        await eventually(lambda: told)
        assert told == [("done", None)]

    asyncio.run(main())
