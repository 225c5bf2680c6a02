"""Every way to send and to receive, between real processes."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest

from tests.support.agents import World, world
from tests.support.wait import wait_for
from tests.support.wirings import channel

CODE = """
    import asyncio
    import threading
    import time
    from ganglion import (
        Agent, AgentStopping, AliasError, DecodeError, MessageTooLarge, RecvTimeout, RemoteError, ReplierLost, RequestTimeout, StreamEnded
    )

    def show(*values):
        print("SHOW", *values, flush=True)

    def numbers(agent):
        for number in range(int(agent.get_attr("count"))):
            agent.send("work", number)

    def poll(agent):
        total = 0
        try:
            agent.recv("work", timeout=0.05)
        except RecvTimeout:
            show("timeout")
        except StreamEnded:
            show("ended at once")
        for number in agent.messages("work"):
            total += number
        show("total", total, agent.ended("work"))

    def forward(agent):
        for number in agent.messages("work"):
            agent.send("results", number * 2)

    async def forward_async(agent):
        async for number in agent.stream("work"):
            agent.send("results", number * 2)
            await asyncio.sleep(0)

    class Total(Agent):
        def on_init(self):
            self.total = 0
            self.ids = set()

        def add(self, number):
            self.total += number

        def on_end(self, alias):
            show("total", self.total)
            self.shutdown()

    class Server(Agent):
        def answer(self, question):
            if question == "fail":
                raise KeyError("no such thing")
            if question == "slow":
                return self.later()
            if question == "hang":
                show("hangs")
                time.sleep(60)
            if question == "object":
                return object()
            return ["echo", question]

        async def later(self):
            await asyncio.sleep(0.01)
            return "late"

    def ask(agent):
        show(agent.send_recv("rpc", {"n": 1}))
        show(agent.send_recv("rpc", "slow", timeout=20))
        for question in ("fail", "object"):
            try:
                agent.send_recv("rpc", question)
            except RemoteError as error:
                show(error.type, "Traceback" in error.traceback)
        try:
            agent.send("rpc", 1)
        except AliasError as error:
            show("AliasError")
        try:
            agent.send_recv("rpc", "hang", timeout=0.3)
        except RequestTimeout:
            show("RequestTimeout")

    class Asker(Agent):
        async def before_loop(self):
            answers = await asyncio.gather(*(self.request("rpc", n) for n in range(20)))
            show(sorted(answer[1] for answer in answers) == list(range(20)))
            # Blocking, although the loop runs.
            self.after(0.0, lambda: show(self.send_recv("rpc", "sync")[1]))
            self.after(0.1, self.shutdown)

    def server_by_hand(agent):
        for question in agent.messages("rpc"):
            agent.send("rpc", ["hand", question])

    def lose(agent):
        try:
            agent.send_recv("rpc", "hang", timeout=50)
        except ReplierLost:
            show("ReplierLost")

    class Mixed(Agent):
        def on_init(self):
            self.handle("work", [self.first, "second", third])

        def first(self, number):
            self.order = ["first"]

        async def second(self, number):
            await asyncio.sleep(0)
            self.order.append("second")

        def on_end(self, alias):
            show(self.order)
            self.shutdown()

    def third(agent, number):
        agent.order.append("third")

    class Threads(Agent):
        def before_loop(self):
            self.workers = [threading.Thread(target=self.work, args=(n,)) for n in range(4)]
            for worker in self.workers:
                worker.start()
            self.each(0.01, self.look)

        def work(self, n):
            for number in range(100):
                self.send("work", n * 100 + number)

        def look(self):
            if not any(worker.is_alive() for worker in self.workers):
                self.shutdown()

    class News(Agent):
        def on_init(self):
            self.each(0.02, self.publish)

        def publish(self):
            for topic in (b"", "fö", b"\\x80\\xff\\x00", "other"):
                self.send("news", {"n": 1}, topic=topic)

    class Reader(Agent):
        def on_init(self):
            self.seen = set()
            self.handle("news", {"fö": self.text, b"\\x80": self.binary, "other": self.text})
            self.unsubscribe("news", "other")

        def text(self, message, topic):
            self.note(topic)

        def binary(self, message, topic):
            self.note(topic)

        def note(self, topic):
            if topic not in self.seen:
                self.seen.add(topic)
                show(topic)
            if len(self.seen) == 2:
                self.subscribe("news", "ot")
                self.handle_other = True
                self.seen.add("more")
                self.unsubscribe("news", "fö")

    def reader_by_hand(agent):
        agent.subscribe("news", "other")
        for _ in range(100):
            topic, message = agent.recv("news", timeout=20)
            if topic == b"other":
                show(topic, message)
                return

    class Tick(Agent):
        def on_init(self):
            self.ticks = 0
            self.each(0.01, "tick", alias="mine")

        def tick(self):
            self.ticks += 1
            if self.ticks == 3:
                self.stop_timer("mine")
                show(self.timers, self.name, self.replica, self.channels, self.get_attr("colour"))
                self.after(0.0, self.stop)

        async def from_manifest(self):
            await asyncio.sleep(0)

        def idle(self):
            show("idle")

    def large(agent):
        try:
            agent.send("work", b"x" * 2000)
        except MessageTooLarge:
            show("MessageTooLarge")
        agent.send("work", 1)
        try:
            agent.send("wrong", 1)
        except AliasError as error:
            show(error)
"""


@pytest.fixture
def here() -> Iterator[World]:
    with world(CODE) as made:
        yield made


PUSH = channel("work", "work", "Push", bind=True)


def _shown(text: str) -> list[str]:
    return [line.removeprefix("SHOW ") for line in text.splitlines() if line.startswith("SHOW ")]


def test_a_function_polls_until_the_stream_ends(here: World) -> None:
    source = here.declare("source", PUSH, target="agents:numbers", run="Once", attributes={"count": 1000})
    poll = here.declare("poll", channel("work", "work", "Pull", bind=False), target="agents:poll", run="Once")
    receiver = here.start(poll)
    receiver.says("SHOW timeout")
    here.start(source).ends(0)
    receiver.ends(0)
    assert _shown(receiver.output)[-1] == f"total {sum(range(1000))} True"


@pytest.mark.parametrize("target", ["forward", "forward_async"])
def test_what_a_polling_function_sends_is_causal(here: World, target: str) -> None:
    """Killed between recv and the end of what it sent: another takes over, and nothing is lost."""
    count = 3000
    source = here.declare("source", PUSH, target="agents:numbers", run="Once", attributes={"count": count})
    forward = here.declare(
        "forward",
        channel("work", "work", "Pull", bind=False, high_water_mark=64),
        channel("results", "results", "Push", bind=False),
        target=f"agents:{target}",
        run="Once",
        replicas=2,
    )
    total = here.declare("total", channel("results", "results", "Pull", bind=True, handler="add"), target="agents:Total", run="Once")
    end = here.start(total)
    first, second = here.start(forward, index=0), here.start(forward, index=1)
    begin = here.start(source)
    wait_for(lambda: any(c.name == "results" and c.delivered > 100 for c in here.server.admin.status().channels), what="some results")
    first.kill()
    begin.ends(0)
    first = here.start(forward, index=0)
    end.ends(0, timeout=60)
    for process in (first, second):
        process.ends(0)
    found = int(_shown(end.output)[-1].split()[1])
    assert found >= 2 * sum(range(count)), "messages were lost"


def test_requests(here: World) -> None:
    server = here.declare("server", channel("rpc", "rpc", "Rep", bind=True, handler="answer"), target="agents:Server")
    ask = here.declare("ask", channel("rpc", "rpc", "Req", bind=False), target="agents:ask", run="Once")
    here.start(server)
    client = here.start(ask)
    client.ends(0)
    assert _shown(client.output) == [
        "['echo', {'n': 1}]",
        "late",
        "KeyError True",
        "ganglion.codecs.errors.EncodeError True",
        "AliasError",
        "RequestTimeout",
    ]


def test_requests_from_coroutines_and_from_timers(here: World) -> None:
    here.start(here.declare("server", channel("rpc", "rpc", "Rep", bind=True, handler="answer"), target="agents:Server"))
    client = here.start(here.declare("asker", channel("rpc", "rpc", "Req", bind=False), target="agents:Asker"))
    client.ends(0)
    assert _shown(client.output) == ["True", "sync"]


def test_a_function_replies_by_hand(here: World) -> None:
    here.start(here.declare("server", channel("rpc", "rpc", "Rep", bind=True), target="agents:server_by_hand"))
    client = here.start(here.declare("asker", channel("rpc", "rpc", "Req", bind=False), target="agents:Asker"))
    client.ends(0)
    assert _shown(client.output) == ["True", "sync"]


def test_a_killed_replier_is_an_error_at_once(here: World) -> None:
    server = here.start(here.declare("server", channel("rpc", "rpc", "Rep", bind=True, handler="answer"), target="agents:Server"))
    client = here.start(here.declare("lose", channel("rpc", "rpc", "Req", bind=False), target="agents:lose", run="Once"))
    server.says("hangs")
    server.signal(signal.SIGKILL)
    client.ends(0, timeout=30)
    assert _shown(client.output) == ["ReplierLost"]


def test_a_list_of_handlers_runs_in_order(here: World) -> None:
    source = here.declare("source", PUSH, target="agents:numbers", run="Once", attributes={"count": 1})
    mixed = here.declare("mixed", channel("work", "work", "Pull", bind=False), target="agents:Mixed")
    receiver = here.start(mixed)
    here.start(source)
    receiver.ends(0)
    assert _shown(receiver.output) == ["['first', 'second', 'third']"]


def test_threads_may_send(here: World) -> None:
    threads = here.declare("threads", channel("work", "work", "Push", bind=True, high_water_mark=16), target="agents:Threads", run="Once")
    total = here.declare("total", channel("work", "work", "Pull", bind=False, handler="add"), target="agents:Total", run="Once")
    receiver = here.start(total)
    here.start(threads).ends(0)
    receiver.ends(0)
    assert _shown(receiver.output) == [f"total {sum(range(400))}"]


def test_topics_hold_any_byte(here: World) -> None:
    here.start(here.declare("news", channel("news", "news", "Pub", bind=True), target="agents:News"))
    reader = here.start(here.declare("reader", channel("news", "news", "Sub", bind=False), target="agents:Reader"))
    by_hand = here.start(
        here.declare("hand", channel("news", "news", "Sub", bind=False, topics=()), target="agents:reader_by_hand", run="Once")
    )
    # With the second it subscribes to the third.
    reader.says("SHOW", times=3)
    *first, last = _shown(reader.output)
    assert (sorted(first), last) == (sorted([repr("fö".encode()), repr(b"\x80\xff\x00")]), repr(b"other"))
    by_hand.ends(0)
    assert _shown(by_hand.output) == ["b'other' {'n': 1}"]


def test_timers_attributes_and_names(here: World) -> None:
    document = here.declare("tick", channel("out", "work", "Push", bind=True), target="agents:Tick", attributes={"colour": ["red", 1]})
    process = here.start(document)
    process.ends(0)
    assert _shown(process.output)[0] == "() tick tick-0 ('out',) ['red', 1]"


def test_refused_sends_say_why(here: World) -> None:
    large = here.declare("large", channel("work", "work", "Push", bind=True, max_message_bytes=1000), target="agents:large", run="Once")
    total = here.declare("total", channel("work", "work", "Pull", bind=False, handler="add", max_message_bytes=1000), target="agents:Total")
    here.start(total)
    sender = here.start(large)
    sender.ends(0)
    assert _shown(sender.output) == ["MessageTooLarge", "channel 'wrong': this agent has no such alias; it has: work"]
