"""An agent whose code is one function: runs it, and makes its end the agent's."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable
from typing import Any

from ganglion.sdk.agent import Agent
from ganglion.sdk.core import Core
from ganglion.sdk.errors import AgentStopping
from ganglion.sdk.faults import Faults
from ganglion.sdk.lifecycle import Lifecycle


class FunctionRun:
    """See the module. Main thread.

    Args:
        once: `run: Once`: the agent has completed when the function returns.
        changed: called when it has returned.
    """

    def __init__(self, core: Core, faults: Faults, lifecycle: Lifecycle, *, once: bool, changed: Callable[[], Any]) -> None:
        self._core = core
        self._faults = faults
        self._lifecycle = lifecycle
        self._once = once
        self._changed = changed
        self._task: asyncio.Future[None] | None = None

    def run(self, function: Callable[[Agent], Any]) -> None:
        """Run it to its end, or, when it is a coroutine function, as a task."""
        core = self._core
        if inspect.iscoroutinefunction(function):
            self._task = core.loop.create_task(self._await(function))
            return
        try:
            # The loop stands still meanwhile: whatever the function waits for turns it.
            function(core.agent)
        except BaseException as error:  # noqa: BLE001 - sys.exit ends in order too
            self._ended(error)
        else:
            self._ended(None)

    def cancel(self) -> None:
        """Cancel the task, if it is one."""
        if self._task is not None:
            self._task.cancel()

    async def _await(self, function: Callable[[Agent], Awaitable[Any]]) -> None:
        try:
            await function(self._core.agent)
        except asyncio.CancelledError:
            self._ended(AgentStopping("cancelled: the agent ends"))
        except BaseException as error:  # noqa: BLE001
            self._ended(error)
        else:
            self._ended(None)

    def _ended(self, error: BaseException | None) -> None:
        told = self._core.stopping
        self._core.function_returned()
        if isinstance(error, AgentStopping) and told:
            pass
        elif error is not None:
            self._faults.function(error)
        elif self._once and not told:
            self._lifecycle.complete(time.monotonic(), "the function returned")
        self._changed()
