"""Agents with their own data plane as in a pod: the sidecar joins for them, and either may be killed."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.agents import World, world
from tests.support.wirings import channel

CODE = """
    import time
    from ganglion import Agent

    def source(agent):
        for number in range(agent.get_attr("count")):
            agent.send("out", number)

    class Worker(Agent):
        def work(self, number):
            time.sleep(0.0005)
            self.send("out", number)

    class Sink(Agent):
        def on_init(self):
            self.seen = set()

        def take(self, number):
            self.seen.add(number)
            if len(self.seen) % 500 == 0:
                print("SEEN", len(self.seen), flush=True)

        def on_end(self, alias):
            print("END", len(self.seen), flush=True)
            self.shutdown()
"""
COUNT = 6000


@pytest.fixture
def here() -> Iterator[World]:
    with world(CODE) as made:
        yield made


@pytest.mark.parametrize("victim", ["none", "sidecar", "agent"])
def test_a_stream_ends_whoever_was_killed(here: World, victim: str) -> None:
    work = channel("out", "work", "Push", bind=True, high_water_mark=128)
    pull = channel("in", "work", "Pull", bind=False, handler="work", high_water_mark=128)
    results = channel("out", "results", "Push", bind=False)
    take = channel("in", "results", "Pull", bind=True, handler="take")
    source = here.declare("source", work, target="agents:source", run="Once", attributes={"count": COUNT})
    worker = here.declare("worker", pull, results, target="agents:Worker", replicas=2)
    sink = here.declare("sink", take, target="agents:Sink", run="Once")
    end = here.start(sink, pod=True)
    workers = [here.start(worker, index=index, pod=True) for index in range(2)]
    here.start(source, pod=True)
    for round_ in (1, 3):
        end.says("SEEN ", times=round_)
        if victim == "sidecar":
            here.sidecars["worker-0"].kill()
            here.start_sidecar(worker)
        elif victim == "agent":
            workers[0].kill()
            workers[0] = here.start(worker, pod=True)
    end.says(f"END {COUNT}")
    end.ends(0)
