"""Agents as users write them, in real processes: messages, ends of streams, completion."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests.support.agents import World, world
from tests.support.wirings import channel

CODE = """
    import json
    from ganglion import Agent

    def source(agent):
        for number in range(agent.get_attr("count")):
            agent.send("work", number)

    class Worker(Agent):
        def square(self, number):
            self.send("results", [number, number * number])

        def on_exit(self):
            print("worker on_exit", flush=True)

    class Sink(Agent):
        def on_init(self):
            self.got = {}
            self.extra = 0

        def merge(self, pair):
            self.extra += pair[0] in self.got
            self.got[pair[0]] = pair[1]

        def on_end(self, alias):
            print("RESULT " + json.dumps({"sum": sum(self.got.values()), "count": len(self.got), "extra": self.extra, "alias": alias}), flush=True)
            self.shutdown()
"""


@pytest.fixture
def here() -> Iterator[World]:
    with world(CODE) as made:
        yield made


@pytest.mark.parametrize("plane", ["InProcess", "Sidecar"])
def test_a_pipeline_of_a_function_and_two_classes_ends_by_itself(here: World, plane: str) -> None:
    count = 5000
    source = here.declare(
        "source",
        channel("work", "work", "Push", bind=True),
        target="agents:source",
        run="Once",
        attributes={"count": count},
        data_plane=plane,
    )
    worker = here.declare(
        "worker",
        channel("work", "work", "Pull", bind=False, handler="square"),
        channel("results", "results", "Push", bind=False),
        target="agents:Worker",
        replicas=2,
        data_plane=plane,
    )
    sink = here.declare(
        "sink", channel("results", "results", "Pull", bind=True, handler="merge"), target="agents:Sink", run="Once", data_plane=plane
    )
    workers = [here.start(worker, index=index) for index in range(2)]
    end, begin = here.start(sink), here.start(source)
    begin.ends(0)
    end.ends(0)
    result = json.loads(end.output.split("RESULT ")[1].splitlines()[0])
    assert result == {"sum": sum(n * n for n in range(count)), "count": count, "extra": 0, "alias": "results"}
    here.shut_down()
    for process in workers:
        process.ends(0)
        if plane == "Sidecar":
            here.sidecars[process.replica].ends(0)
        assert process.output.count("worker on_exit") == 1
