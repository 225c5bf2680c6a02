"""Requests whose replies go to a handler, and replies that are given before their handler ends."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest

from tests.support.agents import World, world
from tests.support.wirings import channel

CODE = """
    import asyncio
    import select
    import tempfile
    import time
    from pathlib import Path
    from ganglion import Agent, AliasError, HandlerError

    def show(*values):
        print("SHOW", *values, flush=True)

    class Server(Agent):
        async def answer(self, question):
            if question == "fail":
                raise KeyError("no such thing")
            if question == "hang":
                show("hangs")
                await asyncio.sleep(60)
            if isinstance(question, int):
                await asyncio.sleep((20 - question) / 200)
            return ["echo", question]

    class Early(Agent):
        def answer(self, question):
            if question == "twice":
                yield 1
                yield 2
            if question == "none":
                return
            yield "at once"
            # The reply is on its way already: who got it can do what this waits for.
            deadline = time.monotonic() + 20
            while isinstance(question, dict) and not Path(question["until"]).exists() and time.monotonic() < deadline:
                select.select([], [], [], 0.01)
            show("after", "in time" if time.monotonic() < deadline else "too late")
            if question == "late fault":
                raise ValueError("after the reply")

        def on_exit(self):
            show("on_exit")

    class Asker(Agent):
        def on_init(self):
            self.replies = []

        def before_loop(self):
            for number in range(20):
                self.send("rpc", number, handler="take")

        def take(self, reply):
            self.replies.append(reply[1])
            if len(self.replies) == 20:
                show(sorted(self.replies) == list(range(20)), self.replies != sorted(self.replies))
                self.send("rpc", "fail", handler=self.never, on_error=self.failed)

        def never(self, reply):
            show("never", reply)

        async def failed(self):
            await asyncio.sleep(0)
            show("failed")
            self.send("rpc", "hang", handler=self.never, wait=0.2, on_error=timed_out)

        async def last(self, reply):
            # The agent is leaving; nothing but this handler holds it up.
            await asyncio.sleep(0.3)
            show("last", reply)
            raise ValueError("in a reply's handler")

    def timed_out(agent):
        show("timed out", agent.name)
        for wrong in (lambda: agent.send("rpc", 1, wait=1), lambda: agent.send("rpc", 1, handler="nowhere"),
                      lambda: agent.send("rpc", 1, handler=agent.never, on_error="nowhere")):
            try:
                wrong()
            except (AliasError, HandlerError) as error:
                show(type(error).__name__)
        # Nobody is told of this one, and it is no error of this agent.
        agent.send("rpc", "fail", handler=agent.never)
        agent.send("rpc", "end", handler=agent.last)
        agent.shutdown()

    class Lose(Agent):
        def before_loop(self):
            self.send("rpc", "hang", handler=show, wait=50, on_error=lambda agent: (show("lost"), agent.shutdown()))

    class Blocked(Agent):
        def on_init(self):
            self.after(0.0, self.ask)

        def ask(self):
            show("asks")
            self.send_recv("rpc", "nobody", timeout=50)

    def ask_early(agent):
        with tempfile.TemporaryDirectory() as folder:
            until = Path(folder) / "until"
            show(agent.send_recv("rpc", {"until": str(until)}, timeout=30))
            until.touch()
            show(agent.send_recv("rpc", "next"))
        show(agent.send_recv("rpc", "late fault"))
        for question in ("twice", "none"):
            try:
                show(question, agent.send_recv("rpc", question))
            except Exception as error:
                show(question, error.type, error.message)
"""


@pytest.fixture
def here() -> Iterator[World]:
    with world(CODE) as made:
        yield made


def _shown(text: str) -> list[str]:
    return [line.removeprefix("SHOW ") for line in text.splitlines() if line.startswith("SHOW ")]


SERVES = channel("rpc", "rpc", "Rep", bind=True, handler="answer")
ASKS = channel("rpc", "rpc", "Req", bind=False)
PLANES = pytest.mark.parametrize("plane", ["InProcess", "Sidecar"])


@PLANES
def test_replies_go_to_a_handler_in_any_order(here: World, plane: str) -> None:
    here.start(here.declare("server", SERVES, target="agents:Server", data_plane=plane))
    client = here.start(here.declare("asker", ASKS, target="agents:Asker", data_plane=plane))
    client.ends(0)
    assert _shown(client.output) == [
        "True True",
        "failed",
        "timed out asker",
        "HandlerError",
        "UnknownHandler",
        "HandlerError",
        "last ['echo', 'end']",
    ]
    assert "channel 'rpc': a request has no reply: RemoteError: " in client.output
    assert "handler of replies on 'rpc' raised ValueError: in a reply's handler" in client.output


def test_who_asks_learns_at_once_that_the_replier_is_lost(here: World) -> None:
    server = here.start(here.declare("server", SERVES, target="agents:Server"))
    client = here.start(here.declare("lose", ASKS, target="agents:Lose"))
    server.says("hangs")
    server.signal(signal.SIGKILL)
    client.ends(0)
    assert _shown(client.output) == ["lost"]


@PLANES
def test_an_end_that_interrupts_a_request_is_told_once(here: World, plane: str) -> None:
    """The request that nobody waits for any more is closed later, which is no fault of its own."""
    client = here.start(here.declare("blocked", ASKS, target="agents:Blocked", data_plane=plane, drain_timeout_seconds=3))
    client.says("SHOW asks")
    client.signal()
    client.ends(0)
    [told] = [line["message"] for line in client.lines if line["level"] == "ERROR"]
    assert "raised ChannelClosed: the agent is leaving" in told


@PLANES
def test_a_handler_that_yields_goes_on_after_its_reply(here: World, plane: str) -> None:
    server = here.start(here.declare("early", SERVES, target="agents:Early", data_plane=plane))
    client = here.start(here.declare("ask", ASKS, target="agents:ask_early", run="Once", data_plane=plane))
    client.ends(0)
    assert _shown(client.output) == [
        "at once",
        "at once",
        "at once",
        "twice 1",
        "none ValueError the handler ended without a reply; it must yield one",
    ]
    server.says("it must yield one reply")
    server.signal()
    server.ends(0)
    assert _shown(server.output) == ["after in time", "after in time", "after in time", "on_exit"]
    assert "after the reply" in server.output
