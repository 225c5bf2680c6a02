"""A reply that is larger than its channel allows is an error of that request alone, and is told on both sides."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.agents import World, world
from tests.support.wirings import channel

CODE = """
    from ganglion import Agent

    class Replier(Agent):
        def answer(self, size):
            return b"x" * size

    class Requester(Agent):
        async def before_loop(self):
            for size in (10, 1001, 3_000_000, 20):
                try:
                    print("got", len(await self.request("out", size, timeout=20)), flush=True)
                except Exception as error:
                    print("got", type(error).__name__, error, flush=True)
"""


@pytest.fixture
def here() -> Iterator[World]:
    with world(CODE) as made:
        yield made


@pytest.mark.parametrize("plane", ["Sidecar", "InProcess"])
def test_a_reply_over_the_limit(here: World, plane: str) -> None:
    limits = {"max_message_bytes": 1000, "codec": "MsgPack"}
    answering = channel("in", "c", "Rep", bind=True, handler="answer", **limits)
    here.start(here.declare("replier", answering, target="agents:Replier", data_plane=plane))
    asking = channel("out", "c", "Req", bind=False, **limits)
    requester = here.start(here.declare("requester", asking, target="agents:Requester", data_plane=plane))
    requester.says("got ", times=4)
    lines = [line for line in requester.output.splitlines() if line.startswith("got ")]
    assert [lines[0], lines[3]] == ["got 10", "got 20"]
    for line in lines[1:3]:
        assert line.startswith("got RemoteError")
        assert "maxMessageBytes is 1000" in line
