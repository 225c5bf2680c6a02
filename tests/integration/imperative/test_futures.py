"""Calls that are under way: many at once, waited for or awaited, and what becomes of them when the agent is slow, dies or comes back."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import time
from typing import Any

import pytest

from ganglion import Agent, CallTimeout, CommunicationError, Future, Proxy, run_agent, run_nameserver
from ganglion.imperative import calls
from tests.integration.imperative.conftest import Stage
from tests.support.wait import wait_for


class Server(Agent):
    def on_init(self) -> None:
        self.order: list[int] = []
        self.gate = threading.Event()

    def echo(self, value: Any) -> Any:
        return value

    def note(self, value: int) -> int:
        self.order.append(value)
        return value * value

    def fail(self) -> None:
        raise KeyError("no such thing")

    def block(self) -> str:
        self.gate.wait(20)
        return "opened"

    def open(self) -> None:
        self.gate.set()

    async def later(self, value: Any) -> Any:
        await asyncio.sleep(0)
        return value

    def pid(self) -> int:
        return os.getpid()

    def ask(self, other: Proxy, count: int) -> int:
        return sum(future.result() for future in [other.future.echo(i) for i in range(count)])

    async def gather(self, other: Proxy, count: int) -> int:
        return sum(await asyncio.gather(*(other.future.echo(i) for i in range(count))))


def test_many_calls_are_under_way_at_once_and_keep_their_order(stage: Stage) -> None:
    agent = stage.agent("a", base=Server)
    futures = [agent.future.note(i) for i in range(200)]
    assert [future.result() for future in reversed(futures)] == [i * i for i in reversed(range(200))]
    assert agent.get_attr("order") == list(range(200))
    assert all(future.done() for future in futures)


def test_a_future_and_a_call_may_be_mixed(stage: Stage) -> None:
    agent = stage.agent("a", base=Server)
    first = agent.future.echo("first")
    assert agent.echo("second") == "second"
    third = agent.unsafe.future.echo("third")
    assert (first.result(), third.result()) == ("first", "third")
    assert agent.future.later("in the loop").result() == "in the loop"


def test_errors_are_those_of_the_method(stage: Stage) -> None:
    future = stage.agent("a", base=Server).future.fail()
    with pytest.raises(KeyError, match="no such thing"):
        future.result()
    assert isinstance(future.exception(), KeyError)


def test_a_short_wait_can_be_repeated_and_a_call_has_an_end(stage: Stage) -> None:
    agent = stage.agent("a", base=Server)
    waiting = agent.future.block()
    short = agent.within(0.1).future.echo(1)
    with pytest.raises(CallTimeout):
        waiting.result(0.05)
    assert not waiting.done()
    with pytest.raises(CallTimeout, match="echo"):
        short.result()
    agent.unsafe.open()
    assert waiting.result() == "opened"
    with pytest.raises(CallTimeout):
        # Its reply has come, too late.
        short.result()


def test_a_future_belongs_to_its_thread(stage: Stage) -> None:
    future = stage.agent("a", base=Server).future.echo(1)
    errors: list[BaseException] = []

    def ask() -> None:
        try:
            future.result()
        except RuntimeError as error:
            errors.append(error)

    other = threading.Thread(target=ask)
    other.start()
    other.join(10)
    assert "belongs to the thread" in str(errors[0])
    assert future.result() == 1


def test_futures_are_awaited(stage: Stage) -> None:
    agent = stage.agent("a", base=Server)

    async def main() -> None:
        assert await agent.future.echo("one") == "one"
        assert await asyncio.gather(*(agent.future.echo(i) for i in range(100))) == list(range(100))
        waiting = agent.future.block()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(waiting, 0.05)
        with pytest.raises(CallTimeout):
            await agent.within(0.1).future.echo(1)
        agent.unsafe.open()
        # A blocking call in the same thread takes replies too: nobody else's may be forgotten.
        other = asyncio.ensure_future(asyncio.gather(*(agent.future.echo(i) for i in range(10))))
        await asyncio.sleep(0)
        assert agent.echo("blocking") == "blocking"
        assert await asyncio.wait_for(other, 10) == list(range(10))
        assert await waiting == "opened"
        with pytest.raises(KeyError):
            await agent.future.fail()

    asyncio.run(main())
    # Another loop in the same thread, and none at all.
    assert asyncio.run(asyncio.wait_for(agent.future.echo(2), 10)) == 2
    assert agent.future.echo(3).result() == 3


def test_agents_use_futures_of_each_other(stage: Stage) -> None:
    agent, other = stage.agent("a", base=Server), stage.agent("b", base=Server)
    assert agent.ask(other, 50) == sum(range(50))
    assert agent.gather(other, 50) == sum(range(50))


def test_async_methods_answer_also_calls_that_come_meanwhile(stage: Stage) -> None:
    agent = stage.agent("a", base=Server)
    for _ in range(20):
        futures = [agent.within(10).future.later(i) for i in range(20)]
        assert [future.result() for future in futures] == list(range(20))


def test_death_is_told_to_all_that_are_under_way() -> None:
    ns = run_nameserver()
    agent = run_agent("a", base=Server)
    pid = agent.pid()
    futures = [agent.future.block() for _ in range(5)]

    async def main() -> None:
        with pytest.raises(CommunicationError):
            await futures[0]

    os.kill(pid, signal.SIGKILL)
    began = time.monotonic()
    asyncio.run(main())
    for future in futures:
        with pytest.raises(CommunicationError):
            future.result()
    assert time.monotonic() - began < 5
    wait_for(lambda: ns.agents() == [], what="the name to be free")
    run_agent("a", base=Server)
    # The same proxy finds the new one.
    assert agent.future.echo("again").result() == "again"
    ns.shutdown()


def flood(agent: Proxy) -> None:
    body = bytes(10_000)
    for _ in range(10_000):
        agent.within(0.3).future.echo(body)


def test_nothing_waits_for_ever_for_room() -> None:
    ns = run_nameserver()
    agent = run_agent("a", base=Server)
    os.kill(pid := agent.pid(), signal.SIGSTOP)
    try:
        began = time.monotonic()
        with pytest.raises(CallTimeout, match="room"):
            flood(agent)
        assert time.monotonic() - began < 20
    finally:
        os.kill(pid, signal.SIGCONT)
    assert agent.ping() == "pong"
    ns.shutdown()


def test_connections_are_kept_while_they_are_waited_for(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calls, "MAX_CONNECTIONS", 2)
    agents = [stage.agent(f"a{i}", base=Server) for i in range(4)]
    futures = [agent.future.echo(i) for i, agent in enumerate(agents)]
    assert [future.result() for future in futures] == [0, 1, 2, 3]
    assert isinstance(futures[0], Future)
