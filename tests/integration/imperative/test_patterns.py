"""Sockets that programs make: every pattern, either end binding, all transports."""

from __future__ import annotations

from typing import Any

import pytest

from ganglion import Agent
from ganglion.helper import wait_agent_attr
from tests.integration.imperative.conftest import Stage
from tests.support.wait import wait_for


class Keeper(Agent):
    def on_init(self) -> None:
        self.received: list[Any] = []

    def keep(self, message: Any) -> None:
        self.received.append(message)


def keep(agent: Any, message: Any) -> None:
    agent.received.append(message)


def keep_topic(agent: Any, message: Any, topic: bytes) -> None:
    agent.received.append((topic, message))


@pytest.mark.parametrize("transport", ["tcp", "ipc"])
@pytest.mark.parametrize("serializer", ["pickle", "msgpack", "json", "dill", "cloudpickle"])
def test_push_pull(stage: Stage, transport: str, serializer: str) -> None:
    a, b = stage.agent("a", base=Keeper), stage.agent("b", base=Keeper)
    address = a.bind("PULL", handler="keep", transport=transport, serializer=serializer)
    b.connect(address, alias="out")
    for number in range(20):
        b.send("out", {"n": number})
    assert wait_agent_attr(a, length=20, timeout=10)
    assert a.received == [{"n": number} for number in range(20)]


def test_the_pusher_binds(stage: Stage) -> None:
    a, b = stage.agent("a", base=Keeper), stage.agent("b", base=Keeper)
    b.connect(a.bind("PUSH", alias="out"), handler=keep)
    a.send("out", (1, {2}))
    assert wait_agent_attr(b, value=[(1, {2})], timeout=10)


def test_a_burst_arrives_in_order(stage: Stage) -> None:
    a, b = stage.agent("a", base=Keeper), stage.agent("b", base=Keeper)
    b.connect(a.bind("PULL", handler=keep), alias="out")

    def burst(agent: Any) -> None:
        for number in range(5000):
            agent.send("out", number)

    b.execute_as_method(burst)
    assert wait_agent_attr(a, length=5000, timeout=20)
    assert a.received == list(range(5000))


def test_request_reply(stage: Stage) -> None:
    a, b = stage.agent("a"), stage.agent("b")
    b.connect(a.bind("REP", handler=lambda agent, message: message * 2), alias="ask")
    assert b.send_recv("ask", 21) == 42
    b.send("ask", "x")
    assert b.recv("ask") == "xx"


def test_a_reply_before_the_work(stage: Stage) -> None:
    def early(agent: Any, message: Any) -> Any:
        yield "soon"
        agent.set_attr(done=message)

    a, b = stage.agent("a", attributes={"done": None}), stage.agent("b")
    b.connect(a.bind("REP", handler=early), alias="ask")
    assert b.send_recv("ask", 1) == "soon"
    assert wait_agent_attr(a, "done", value=1, timeout=10)


def test_a_coroutine_replies(stage: Stage) -> None:
    async def reply(agent: Any, message: Any) -> Any:
        import asyncio

        await asyncio.sleep(0)
        return message + 1

    a, b = stage.agent("a"), stage.agent("b")
    b.connect(a.bind("REP", handler=reply), alias="ask")
    assert [b.send_recv("ask", n) for n in range(3)] == [1, 2, 3]


def test_a_failing_replier_tells_the_requester_and_goes_on(stage: Stage) -> None:
    def fail(agent: Any, message: Any) -> Any:
        return 1 // message

    a, b = stage.agent("a"), stage.agent("b")
    b.connect(a.bind("REP", handler=fail), alias="ask")
    with pytest.raises(ZeroDivisionError):
        b.send_recv("ask", 0)
    assert b.send_recv("ask", 1) == 1
    assert a.is_running()


@pytest.mark.parametrize("topic", ["", "news", b"\x80\x00\xff"])
def test_publications(stage: Stage, topic: str | bytes) -> None:
    a, b = stage.agent("a"), stage.agent("b", base=Keeper)
    b.connect(a.bind("PUB", alias="out"), handler={topic: keep_topic})
    wanted = topic.encode() if isinstance(topic, str) else topic

    def heard() -> bool:
        a.send("out", "m", topic=wanted + b"more")
        return bool(b.received)

    wait_for(heard, what="a publication")
    assert b.received[0] == (wanted, "m")


def test_topics_change_at_run_time(stage: Stage) -> None:
    a, b = stage.agent("a"), stage.agent("b", base=Keeper)
    b.connect(a.bind("PUB", alias="out"), alias="in", handler={"one": keep_topic})

    def heard(topic: str) -> bool:
        a.send("out", topic, topic=topic)
        return any(message == topic for _, message in b.received)

    wait_for(lambda: heard("one"), what="one")
    b.subscribe("in", {"two": keep_topic})
    wait_for(lambda: heard("two"), what="two")
    b.unsubscribe("in", "one")
    before = sum(message == "one" for _, message in b.received)
    a.send("out", "one", topic="one")
    b.set_attr(received=[])
    wait_for(lambda: heard("two"), what="two again")
    assert all(message == "two" for _, message in b.received)
    assert before >= 1


def test_the_subscriber_binds(stage: Stage) -> None:
    a, b = stage.agent("a"), stage.agent("b", base=Keeper)
    a.connect(b.bind("SUB", handler=keep), alias="out")
    wait_for(lambda: (a.send("out", 1), bool(b.received))[1], what="a publication")


def test_pairs_talk_both_ways(stage: Stage) -> None:
    a, b = stage.agent("a", base=Keeper), stage.agent("b", base=Keeper)
    b.connect(a.bind("PAIR", alias="line", handler=keep), alias="line", handler=keep)
    a.send("line", "to b")
    b.send("line", "to a")
    assert wait_agent_attr(a, value=["to a"], timeout=10)
    assert wait_agent_attr(b, value=["to b"], timeout=10)


@pytest.mark.parametrize("serializer", ["pickle", "json", "raw"])
@pytest.mark.parametrize("transport", ["ipc", "tcp"])
def test_many_requests_outstanding(stage: Stage, serializer: str, transport: str) -> None:
    a, b = stage.agent("a"), stage.agent("b", base=Keeper)
    channel = a.bind("ASYNC_REP", handler=lambda agent, message: message * 2, serializer=serializer, transport=transport)
    b.connect(channel, alias="ask", handler="keep")
    for _ in range(10):
        b.send("ask", b"x" if serializer == "raw" else "x")
    assert wait_agent_attr(b, length=10, timeout=10)
    assert b.received == [b"xx" if serializer == "raw" else "xx"] * 10


def test_a_request_that_nobody_answers(stage: Stage) -> None:
    a, b = stage.agent("a"), stage.agent("b", attributes={"lost": 0})
    channel = a.bind("ASYNC_REP", handler=keep)
    a.close_all()
    b.connect(channel, alias="ask", handler=keep)
    b.execute_as_method(lambda agent: agent.send("ask", 1, wait=0.1, on_error=lambda agent: agent.set_attr(lost=1)))
    assert wait_agent_attr(b, "lost", value=1, timeout=10)


@pytest.mark.parametrize("serializer", ["pickle", "json"])
def test_a_reply_keeps_its_place_among_publications(stage: Stage, serializer: str) -> None:
    a, b = stage.agent("a"), stage.agent("b", base=Keeper)
    a.set_attr(count=0)

    def tick(agent: Any) -> None:
        agent.count += 1
        agent.send("out", agent.count)

    def reply(agent: Any, _request: Any) -> Any:
        return ["reply", agent.count]

    a.set_method(tick)
    channel = a.bind("SYNC_PUB", alias="out", handler=reply, serializer=serializer)
    b.connect(channel, alias="in", handler=keep)
    a.each(0.005, "tick")
    assert wait_agent_attr(b, length=3, timeout=10)
    b.send("in", None, handler=keep)
    wait_for(lambda: any(isinstance(m, list) for m in b.received[:-1]), what="the reply and one more")
    received = b.received
    place = next(i for i, message in enumerate(received) if isinstance(message, list))
    assert received[place - 1] == received[place][1]
    assert received[place + 1] == received[place][1] + 1


def test_closed_sockets_are_gone(stage: Stage) -> None:
    a = stage.agent("a")
    a.bind("PUSH", alias="out")
    assert a.has_socket("out")
    a.close("out")
    assert not a.has_socket("out")
    with pytest.raises(KeyError):
        a.addr("out")


def test_what_is_not_there_is_a_typed_error(stage: Stage) -> None:
    a = stage.agent("a")
    with pytest.raises(ValueError, match="handler"):
        a.bind("PULL")
    with pytest.raises(ValueError, match="smoke"):
        a.bind("PUSH", serializer="smoke")
    with pytest.raises(NotImplementedError, match="manifest"):
        a.wired("x")
    with pytest.raises(KeyError):
        a.send("nowhere", 1)
    assert a.is_running()


def test_a_reply_goes_to_the_handler_of_a_req_socket(stage: Stage) -> None:
    a, b = stage.agent("a"), stage.agent("b", base=Keeper, on_error="Stop")
    b.connect(a.bind("REP", handler=lambda _agent, message: message * 2), alias="ask", handler=keep)
    for number in (1, 2):
        b.send("ask", number)
        assert wait_agent_attr(b, length=number, timeout=10)
    assert b.received == [2, 4]
    assert b.send_recv("ask", 3) == 6
    assert b.is_running()


@pytest.mark.parametrize(("kind", "other"), [("PULL", "PUSH"), ("SUB", "PUB")])
def test_a_handler_of_a_socket_that_only_sends_is_never_called(stage: Stage, kind: str, other: str) -> None:
    # An exception of any kind would end it.
    a, b = stage.agent("a", base=Keeper), stage.agent("b", base=Keeper, on_error="Stop")
    b.connect(a.bind(kind, handler=keep), alias="out", handler=keep)
    b.bind(other, alias="bound", handler=keep)

    def heard() -> bool:
        b.send("out", 1)
        return bool(a.received)

    wait_for(heard, what="a message")
    assert (b.received, b.is_running()) == ([], True)


@pytest.mark.parametrize("transport", ["ipc", "tcp"])
def test_the_requester_binds(stage: Stage, transport: str) -> None:
    a, b = stage.agent("a", base=Keeper), stage.agent("b", base=Keeper)
    a.connect(b.bind("REQ", alias="ask", transport=transport), handler=lambda _agent, message: message * 2)
    assert [b.send_recv("ask", number, 10.0) for number in (1, 2)] == [2, 4]


@pytest.mark.parametrize("kind", ["ASYNC_REP", "SYNC_PUB"])
def test_a_channel_that_was_closed_leaves_nothing(stage: Stage, kind: str) -> None:
    def held(agent: Any) -> list[int]:
        requests = agent._core.requests
        return [len(one) for one in (requests._uuids, requests._handlers, requests._pending)]

    a, b = stage.agent("a"), stage.agent("b", attributes={"lost": 0})
    channel = a.bind(kind, alias="in", handler=lambda _agent, message: message)
    a.stop()
    for _ in range(3):
        b.connect(channel, alias="ask", handler=keep)
        b.send("ask", 1, handler=keep)
        b.execute_as_method(lambda agent: agent.send("ask", 2, handler=keep, wait=0.3, on_error=lambda it: it.set_attr(lost=it.lost + 1)))
        b.close("ask")
    assert wait_agent_attr(b, "lost", value=3, timeout=10)
    assert b.execute_as_method(held) == [0, 0, 0]
