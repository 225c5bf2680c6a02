"""Handlers that are coroutines: the first step runs at once, and only one that really waits becomes a task.

A task per message costs more than most handlers. While the first step runs, a stand-in is the current task, so that
`asyncio.timeout()` and everything else that asks for it works; when the coroutine goes on as a task, the stand-in speaks for that task.
"""

from __future__ import annotations

import asyncio
import types
from collections.abc import Callable, Coroutine, Generator
from contextvars import Context, copy_context
from typing import Any

Done = Callable[[Any, BaseException | None], None]
"""(result, error), called once."""


class _StandIn:
    """What `asyncio.current_task()` returns during a first step."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self.task: asyncio.Task[Any] | None = None
        self.cancel_requests = 0

    def cancel(self, msg: Any = None) -> bool:
        if self.task is not None:
            return self.task.cancel(msg)
        self.cancel_requests += 1
        return True

    def cancelling(self) -> int:
        return self.cancel_requests if self.task is None else self.task.cancelling()

    def uncancel(self) -> int:
        if self.task is not None:
            return self.task.uncancel()
        self.cancel_requests = max(0, self.cancel_requests - 1)
        return self.cancel_requests

    def done(self) -> bool:
        return self.task is not None and self.task.done()

    def cancelled(self) -> bool:
        return self.task is not None and self.task.cancelled()

    def get_loop(self) -> asyncio.AbstractEventLoop:
        return self._loop

    def get_name(self) -> str:
        return "handler" if self.task is None else self.task.get_name()

    def set_name(self, name: object) -> None:
        if self.task is not None:
            self.task.set_name(str(name))

    def add_done_callback(self, callback: Callable[..., object], *, context: Context | None = None) -> None:
        if self.task is not None:
            self.task.add_done_callback(callback, context=context)
        else:
            self._callbacks.append((callback, context))

    def remove_done_callback(self, callback: Callable[..., object]) -> int:
        if self.task is not None:
            return self.task.remove_done_callback(callback)
        before = len(self._callbacks)
        self._callbacks[:] = [entry for entry in self._callbacks if entry[0] != callback]
        return before - len(self._callbacks)

    @property
    def _callbacks(self) -> list[tuple[Callable[..., object], Context | None]]:
        return self.__dict__.setdefault("callbacks", [])  # type: ignore[no-any-return]

    def become(self, task: asyncio.Task[Any]) -> None:
        for callback, context in self._callbacks:
            task.add_done_callback(callback, context=context)
        self.task = task
        for _ in range(self.cancel_requests):
            task.cancel()


class FirstStep:
    """Runs coroutines of one inlet.

    Args:
        loop: the running loop.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._stand_in = _StandIn(loop)
        self._tasks: set[asyncio.Task[Any]] = set()

    def __len__(self) -> int:
        return len(self._tasks)

    def run(self, coroutine: Coroutine[Any, Any, Any], done: Done) -> tuple[bool, Any]:
        """Run the first step in a copy of the current context.

        Returns:
            (True, result) when the coroutine is finished, without calling `done`; (False, None) when it goes on as a task.
        Raises:
            Exception: what the coroutine raised in its first step.
        """
        context = copy_context()
        stand_in, loop = self._stand_in, self._loop
        if asyncio.current_task(loop) is not None:
            # Called from a blocking call inside a task: two current tasks cannot be.
            self._watch(loop.create_task(coroutine, context=context), done)
            return False, None
        asyncio.tasks._enter_task(loop, stand_in)  # type: ignore[arg-type]  # noqa: SLF001 - documented for task implementations
        try:
            waits_for = context.run(coroutine.send, None)
        except StopIteration as stop:
            self._renew()
            return True, stop.value
        except BaseException:
            self._renew()
            raise
        finally:
            asyncio.tasks._leave_task(loop, stand_in)  # type: ignore[arg-type]  # noqa: SLF001
        self._stand_in = _StandIn(loop)
        task = loop.create_task(_go_on(coroutine, waits_for), context=context)
        stand_in.become(task)
        self._watch(task, done)
        return False, None

    def _renew(self) -> None:
        # Somebody may hold the stand-in of a finished step (asyncio.timeout does not); a fresh one costs little only when it was touched.
        if self._stand_in.__dict__.get("callbacks") or self._stand_in.cancel_requests:
            self._stand_in = _StandIn(self._loop)

    def _watch(self, task: asyncio.Task[Any], done: Done) -> None:
        self._tasks.add(task)

        def finished(task: asyncio.Task[Any]) -> None:
            self._tasks.discard(task)
            if task.cancelled():
                done(None, asyncio.CancelledError())
            elif (error := task.exception()) is not None:
                done(None, error)
            else:
                done(task.result(), None)

        task.add_done_callback(finished)

    def cancel(self) -> None:
        """Cancel what still runs."""
        for task in list(self._tasks):
            task.cancel()


async def _go_on(coroutine: Coroutine[Any, Any, Any], waits_for: Any) -> Any:
    return await _rest(coroutine, waits_for)


@types.coroutine
def _rest(coroutine: Coroutine[Any, Any, Any], waits_for: Any) -> Generator[Any, Any, Any]:
    """`yield from coroutine`, beginning after the value that it yielded first."""
    error: BaseException | None
    while True:
        try:
            sent, error = (yield waits_for), None
        except GeneratorExit:
            coroutine.close()
            raise
        except BaseException as raised:  # noqa: BLE001 - cancellation included: the coroutine decides
            sent, error = None, raised
        try:
            waits_for = coroutine.send(sent) if error is None else coroutine.throw(error)
        except StopIteration as stop:
            return stop.value


STEPPER: types.CodeType = _rest.__code__
"""What drives a handler's coroutine by hand: its local `coroutine` is what is really awaited."""
