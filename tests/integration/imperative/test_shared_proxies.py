"""One proxy in several threads: what one says for its next call is not for the others' calls."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from ganglion import Agent, CallTimeout
from tests.integration.imperative.conftest import Stage
from tests.support.wait import wait_for


class Teller(Agent):
    """Tells in which of its threads a call runs."""

    def on_init(self) -> None:
        self.main = threading.get_ident()
        self.told: list[bool] = []
        self.gate = threading.Event()

    def safe_here(self) -> bool:
        return threading.get_ident() == self.main

    def tell(self) -> None:
        self.told.append(self.safe_here())

    def hold(self) -> bool:
        self.gate.wait(20)
        return self.safe_here()

    def let_go(self) -> None:
        self.gate.set()


def _in_thread(call: Callable[[], Any]) -> Any:
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(call).result(30)


def test_a_word_is_for_the_next_call_of_the_thread_that_said_it(stage: Stage) -> None:
    agent = stage.agent("a", base=Teller)
    assert agent.unsafe is agent
    assert _in_thread(lambda: agent.safe_here() is True), "this thread's word reached another one's call"
    assert agent.safe_here() is False, "another thread's call has used up this one's word"
    assert agent.safe_here() is True

    def say() -> None:
        agent.oneway.within(0.0)

    _in_thread(say)
    assert agent.safe_here() is True


def test_a_method_keeps_what_was_said_for_it_whoever_calls_it(stage: Stage) -> None:
    agent = stage.agent("a", base=Teller)
    tell = agent.unsafe.tell
    assert agent.safe_here() is True, "the word was for the method that was taken"
    thread = threading.Thread(target=tell)
    thread.start()
    thread.join(30)
    tell()
    assert agent.get_attr("told") == [False, True], "for one call"
    # Said after it was taken, it is for the next call all the same.
    assert agent.unsafe is agent
    tell()
    assert agent.get_attr("told")[-1] is False
    assert agent.oneway.tell() is None
    wait_for(lambda: len(agent.get_attr("told")) == 4, what="the oneway call")


def test_many_threads_share_a_proxy(stage: Stage) -> None:
    agent = stage.agent("a", base=Teller)
    start = threading.Barrier(6)

    def work(number: int) -> set[Any]:
        start.wait(20)
        found = set()
        for _ in range(60):
            if number % 3 == 0:
                found.add(("safe", agent.safe_here()))
            elif number % 3 == 1:
                found.add(("unsafe", agent.unsafe.safe_here()))
            else:
                found.add(("future", agent.unsafe.future.safe_here().result(20)))
                agent.oneway.tell()
        return found

    with ThreadPoolExecutor(6) as pool:
        found = set().union(*pool.map(work, range(6)))
    assert found == {("safe", True), ("unsafe", False), ("future", False)}
    wait_for(lambda: len(agent.get_attr("told")) == 120, what="the oneway calls")
    assert not any(agent.get_attr("told"))


def test_a_bound_is_for_one_call_of_one_thread(stage: Stage) -> None:
    agent = stage.agent("a", base=Teller)
    hold = agent.unsafe.within(0.2).hold
    with ThreadPoolExecutor(1) as pool:
        # Without a bound, although one was said in the other thread.
        waiting = pool.submit(agent.unsafe.hold)
        with pytest.raises(CallTimeout):
            hold()
        agent.unsafe.let_go()
        assert waiting.result(20) is False
