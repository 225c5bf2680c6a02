"""An asyncio loop that a synchronous test turns until a condition holds."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterator
from typing import TypeVar

T = TypeVar("T")


class TestLoop:
    """A loop and its driver."""

    __test__ = False

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.loop.set_debug(False)

    def until(self, condition: Callable[[], T], *, timeout: float = 20.0, what: str = "", interval: float = 0.005) -> T:
        """Turn the loop until `condition` is truthy; return its value.

        Raises:
            TimeoutError: it stayed falsy for `timeout` seconds; the text holds the last value.
        """
        deadline = time.monotonic() + timeout
        result: list[T] = []

        async def turn() -> None:
            done = self.loop.create_future()

            def look() -> None:
                value = condition()
                result[:] = [value]
                if value or time.monotonic() >= deadline:
                    done.set_result(None)
                else:
                    self.loop.call_later(interval, look)

            look()
            await done

        self.loop.run_until_complete(turn())
        if not result[0]:
            raise TimeoutError(f"{what or condition!r}: still {result[0]!r} after {timeout} s")
        return result[0]

    def close(self) -> None:
        """Cancel what runs and close the loop."""
        tasks = asyncio.all_tasks(self.loop)
        for task in tasks:
            task.cancel()
        if tasks:
            with contextlib.suppress(asyncio.CancelledError):
                self.loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
        self.loop.run_until_complete(self.loop.shutdown_asyncgens())
        self.loop.close()


@contextlib.contextmanager
def running_loop() -> Iterator[TestLoop]:
    """A loop for the block."""
    driver = TestLoop()
    try:
        yield driver
    finally:
        driver.close()
