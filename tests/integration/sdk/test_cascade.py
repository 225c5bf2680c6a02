"""A cascade deletes pods before their name server has spoken: what has begun as leaving is a part of the domain's end."""

from __future__ import annotations

import contextlib
import json
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from ganglion.cli.drain import ask
from tests.support.agents import AgentProcess, World, world
from tests.support.wait import wait_for
from tests.support.wirings import channel

CODE = """
    import asyncio
    import json
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

    def collect(agent):
        seen = set()
        try:
            for number in agent.messages("work"):
                seen.add(number)
        finally:
            print("SEEN", len(seen), flush=True)

    class Worker(Agent):
        async def take(self, number):
            # Keeps its agent from having left before the name server speaks.
            if number == 50:
                print("holding", flush=True)
                while not os.path.exists(os.environ["GO"]):
                    await asyncio.sleep(0.01)
            time.sleep(0.002)
            self.send("results", number)

    def compute(agent):
        next(agent.messages("work"))
        print("computing", flush=True)
        while not agent.stopping:
            sum(range(1000))

    class Keeper(Agent):
        def on_init(self):
            self.kept = []

        def take(self, number):
            self.kept.append(number)

        def on_exit(self):
            print("KEPT", json.dumps(self.kept), flush=True)

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
    # Who comes when the domain ends is not let in.
    wait_for(lambda: [member.phase for member in here.server.admin.status().members] == ["Ready"] * 3, what="readiness")

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


@pytest.mark.parametrize("plane", ["InProcess", "Sidecar"])
@pytest.mark.parametrize(
    ("target", "handler", "delivery"),
    [("Counter", "take", "AtLeastOnce"), ("Counter", "take", "BestEffort"), ("collect", None, "AtLeastOnce")],
)
def test_a_receiver_that_could_leave_at_once_finds_out_that_its_domain_ends(
    here: World, plane: str, target: str, handler: str | None, delivery: str
) -> None:
    work = {"delivery": delivery, "high_water_mark": 64}
    source = here.declare("source", channel("work", "work", "Push", bind=True, **work), target="agents:endless", data_plane=plane)
    sink = here.declare(
        "sink", channel("work", "work", "Pull", bind=False, handler=handler, **work), target=f"agents:{target}", data_plane=plane
    )
    sender, receiver = here.start(source), here.start(sink)
    wait_for(lambda: any(count.delivered > 10 for count in here.server.admin.status().channels), what="messages")
    with ThreadPoolExecutor() as hooks:
        if plane == "Sidecar":
            hooks.submit(ask, here.directory / "sink-0" / "control.sock", 25.0)
        else:
            receiver.signal()
        # So much later the name server hears of its deletion.
        with contextlib.suppress(subprocess.TimeoutExpired):
            receiver.process.wait(0.5)
        here.shut_down(60)
        for process in (sender, receiver, *here.sidecars.values()):
            process.ends(0)
    sent = int(sender.output.split("SENT ")[1].split()[0])
    assert f"SEEN {sent}" in receiver.output


@pytest.mark.parametrize("target", ["Counter", "collect"])
def test_a_receiver_that_leaves_alone_does_not_tarry(here: World, target: str) -> None:
    handler = "take" if target == "Counter" else None
    sink = here.declare("sink", channel("work", "work", "Pull", bind=True, handler=handler), target=f"agents:{target}")
    receiver = here.start(sink)
    wait_for(lambda: any(member.phase == "Ready" for member in here.server.admin.status().members), what="readiness")
    receiver.signal()
    receiver.ends(0, timeout=10)


def _tell_to_leave(here: World, process: AgentProcess, hooks: ThreadPoolExecutor) -> None:
    if process.replica in here.sidecars:
        hooks.submit(ask, here.directory / process.replica / "control.sock", 25.0)
    else:
        process.signal()


@pytest.mark.parametrize("plane", ["InProcess", "Sidecar"])
def test_one_of_several_receivers_leaves_at_once_and_the_last_stays(here: World, plane: str) -> None:
    source = here.declare(
        "source", channel("work", "work", "Push", bind=True, high_water_mark=64), target="agents:endless", data_plane=plane
    )
    sink = here.declare(
        "sink",
        channel("work", "work", "Pull", bind=False, handler="take", high_water_mark=64),
        target="agents:Keeper",
        replicas=3,
        data_plane=plane,
    )
    sender, *receivers = here.start(source), *(here.start(sink, index=index) for index in range(3))
    wait_for(lambda: [member.phase for member in here.server.admin.status().members] == ["Ready"] * 4, what="readiness")
    with ThreadPoolExecutor() as hooks:
        for process in receivers:
            _tell_to_leave(here, process, hooks)
        # Two have somebody to leave their work to. Then the name server hears of the domain's end.
        wait_for(lambda: sum("others take" in process.output for process in receivers) == 2, what="two to leave")
        here.shut_down(60)
        for process in (sender, *receivers):
            process.ends(0)
    for sidecar in here.sidecars.values():
        # As the kubelet does: who said goodbye before the domain's end has not heard of it, and stays for its pod.
        if "Shutdown" not in sidecar.output:
            sidecar.signal()
        sidecar.ends(0)
    assert sum("others take" in process.output for process in receivers) == 2
    sent = int(sender.output.split("SENT ")[1].split()[0])
    kept = [number for process in receivers for number in json.loads(process.output.split("KEPT ")[1].splitlines()[0])]
    assert set(kept) == set(range(sent))


@pytest.mark.parametrize("target", ["Counter", "compute"])
def test_a_receiver_that_tarries_in_vain_leaves_within_its_bound(here: World, target: str) -> None:
    source = here.declare("source", channel("work", "work", "Push", bind=True, high_water_mark=64), target="agents:endless")
    handler = "take" if target == "Counter" else None
    sink = here.declare("sink", channel("work", "work", "Pull", bind=False, handler=handler, high_water_mark=64), target=f"agents:{target}")
    sender, receiver = here.start(source), here.start(sink)
    if target == "compute":
        receiver.says("computing")
    else:
        wait_for(lambda: any(count.delivered > 10 for count in here.server.admin.status().channels), what="messages")
    receiver.signal()
    receiver.ends(0, timeout=15)
    assert sender.process.poll() is None
