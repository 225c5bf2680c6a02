"""The user's hooks that run beside the messages, each as a task; what they raise is judged, never lost."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable
from typing import Any

from ganglion.sdk.faults import Faults

IDLE_SECONDS = 1.0
"""osBrain's poll timeout: `idle` runs once for each such span without input."""


class Hooks:
    """See the module. Main thread.

    Args:
        loop: runs them.
        faults: judges what they raise.
        changed: called when one has ended.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, faults: Faults, changed: Callable[[], Any]) -> None:
        self._loop = loop
        self._faults = faults
        self._changed = changed
        self._tasks: set[asyncio.Future[Any]] = set()

    @property
    def busy(self) -> bool:
        """Whether one of them has not returned."""
        return bool(self._tasks)

    def spawn(self, name: str, hook: Callable[[], Any]) -> None:
        """Call a hook soon, and await it when it is a coroutine.

        Args:
            name: for the log.
        """

        async def call() -> None:
            try:
                result = hook()
                if inspect.isawaitable(result):
                    await result
            except (Exception, SystemExit) as error:  # noqa: BLE001 - user code
                self._faults.hook(name, error)

        task = self._loop.create_task(call())
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def watch_idle(self, idle: Callable[[], Any], quiet: Callable[[], bool], delivered: Callable[[], int]) -> None:
        """Call `idle` once for each second in which nothing came, for as long as the loop runs.

        Args:
            quiet: whether it may run now.
            delivered: messages handed to handlers so far.
        """

        def look(before: int) -> None:
            now = delivered()
            if now == before and quiet() and not self._tasks:
                self.spawn("idle", idle)
            self._loop.call_later(IDLE_SECONDS, look, now)

        self._loop.call_later(IDLE_SECONDS, look, -1)

    def cancel(self) -> None:
        """Cancel those that have not returned."""
        for task in self._tasks:
            task.cancel()

    def _ended(self, task: asyncio.Future[Any]) -> None:
        self._tasks.discard(task)
        self._changed()
