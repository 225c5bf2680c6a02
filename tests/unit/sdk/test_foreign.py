"""Calls of other threads run in the loop, or are given up cleanly."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from ganglion.runtime.errors import ChannelClosed, SendTimeout
from ganglion.sdk.foreign import ForeignCalls


@pytest.fixture
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    made = asyncio.new_event_loop()
    yield made
    made.close()


def _while_running(loop: asyncio.AbstractEventLoop, call: Any) -> Any:
    with ThreadPoolExecutor(1) as pool:

        async def wait() -> Any:
            return await asyncio.wrap_future(pool.submit(call))

        return loop.run_until_complete(wait())


def test_it_runs_in_the_loops_thread_and_brings_the_result_back(loop: asyncio.AbstractEventLoop) -> None:
    calls = ForeignCalls(loop)
    assert _while_running(loop, lambda: calls.call(threading.get_ident, None)) == threading.get_ident()


def test_what_it_raises_is_raised_in_the_calling_thread(loop: asyncio.AbstractEventLoop) -> None:
    calls = ForeignCalls(loop)

    def fail() -> None:
        raise KeyError("x")

    with pytest.raises(KeyError, match="x"):
        _while_running(loop, lambda: calls.call(fail, 10.0))


def test_a_call_that_was_given_up_never_runs(loop: asyncio.AbstractEventLoop) -> None:
    calls = ForeignCalls(loop)
    ran: list[int] = []
    with ThreadPoolExecutor(1) as pool, pytest.raises(SendTimeout, match=r"busy for 0\.05 s"):
        pool.submit(calls.call, lambda: ran.append(1), 0.05).result(30)
    loop.run_until_complete(asyncio.sleep(0))
    assert not ran


def test_waiting_threads_are_let_go_at_the_end(loop: asyncio.AbstractEventLoop) -> None:
    calls = ForeignCalls(loop)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(calls.call, lambda: None, None)
        calls.close()
        with pytest.raises(ChannelClosed, match="has ended"):
            waiting.result(30)


def test_a_closed_loop_is_an_end_too() -> None:
    closed = asyncio.new_event_loop()
    closed.close()
    with pytest.raises(ChannelClosed):
        ForeignCalls(closed).call(lambda: None, 1.0)
