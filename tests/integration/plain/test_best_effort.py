"""Best effort loses nothing when nothing is killed: not even what a process leaves behind when it ends."""

from __future__ import annotations

import pytest

from tests.support.agents import world
from tests.support.wirings import channel

CODE = """
    def source(agent):
        for number in range(20000):
            agent.send("out", number)


    from ganglion import Agent

    class Slow(Agent):
        def on_init(self):
            self.seen = set()

        def take(self, value):
            self.seen.add(value)
            # Slower than the source: every queue between them is full when it ends.
            sum(range(3000))
            if len(self.seen) == 20000:
                print("all", flush=True)

        def on_end(self, alias):
            print("at the end", len(self.seen), max(self.seen), flush=True)
"""


@pytest.mark.parametrize("plane", ["Sidecar", "InProcess"])
@pytest.mark.parametrize("binder", ["Push", "Pull"])
def test_a_source_that_ends_first_leaves_nothing_behind(plane: str, binder: str) -> None:
    with world(CODE) as here:
        sink = here.declare(
            "sink",
            channel("in", "c", "Pull", bind=binder == "Pull", delivery="BestEffort", handler="take"),
            target="agents:Slow",
            data_plane=plane,
        )
        source = here.declare(
            "source",
            channel("out", "c", "Push", bind=binder == "Push", delivery="BestEffort", linger_seconds=30.0),
            target="agents:source",
            data_plane=plane,
            run="Once",
        )
        taker, maker = here.start(sink), here.start(source)
        maker.ends(0, timeout=60)
        taker.says("all", timeout=60)
