"""A cascade deletes pods before their name server has spoken: what has begun as leaving is a part of the domain's end."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from ganglion.cli.drain import ask
from tests.support.agents import World, world
from tests.support.wirings import channel

CODE = """
    import asyncio
    import os
    import time
    from ganglion import Agent, AgentStopping

    def endless(agent):
        sent = 0
        try:
            while True:
                agent.send("work", sent)
                sent += 1
        except AgentStopping:
            print("SENT", sent, flush=True)

    class Worker(Agent):
        async def take(self, number):
            # Keeps its agent from having left before the name server speaks.
            if number == 50:
                print("holding", flush=True)
                while not os.path.exists(os.environ["GO"]):
                    await asyncio.sleep(0.01)
            time.sleep(0.002)
            self.send("results", number)

    class Counter(Agent):
        def on_init(self):
            self.seen = set()

        def take(self, number):
            self.seen.add(number)

        def on_exit(self):
            print("SEEN", len(self.seen), flush=True)
"""


@pytest.fixture
def here() -> Iterator[World]:
    with world(CODE) as it:
        yield it


@pytest.mark.parametrize("plane", ["InProcess", "Sidecar"])
@pytest.mark.parametrize("first", ["pods", "domain"])
def test_the_domains_end_goes_with_the_flow_whoever_is_told_first(here: World, plane: str, first: str) -> None:
    source = here.declare(
        "source", channel("work", "work", "Push", bind=True, high_water_mark=64), target="agents:endless", data_plane=plane
    )
    worker = here.declare(
        "worker",
        channel("work", "work", "Pull", bind=False, handler="take", high_water_mark=64),
        channel("results", "results", "Push", bind=False),
        target="agents:Worker",
        data_plane=plane,
    )
    sink = here.declare("sink", channel("results", "results", "Pull", bind=True, handler="take"), target="agents:Counter", data_plane=plane)
    go = here.directory / "go"
    processes = [here.start(document, GO=str(go)) for document in (source, worker, sink)]
    processes[1].says("holding")

    def domain() -> None:
        here.shut_down(60)
        for process in processes[:2]:
            process.says("told to shutdown")

    def pods() -> None:
        for process in processes[:2]:
            if plane == "Sidecar":
                hooks.submit(ask, here.directory / process.replica / "control.sock", 25.0)
            else:
                process.signal()
        for process in processes[:2]:
            if plane == "Sidecar":
                here.sidecars[process.replica].says("draining within")
            else:
                process.says("SIGTERM: leaving")

    with ThreadPoolExecutor() as hooks:
        for tell in (pods, domain) if first == "pods" else (domain, pods):
            tell()
        go.touch()
        for process in (*processes, *here.sidecars.values()):
            process.ends(0)
    sent = int(processes[0].output.split("SENT ")[1].split()[0])
    assert f"SEEN {sent}" in processes[2].output
    assert not any(line["level"] == "ERROR" for process in processes for line in process.lines)
