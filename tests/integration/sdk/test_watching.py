"""An agent of a manifest hears once of each end of those it watches, in every plane, whoever was killed beside them."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from ganglion.nameserver.registry import LEASE_SECONDS
from ganglion.wire.admin import Domain
from tests.support.agents import World, world
from tests.support.wait import wait_for

CODE = """
    from ganglion import Agent

    class Guard(Agent):
        def on_init(self):
            self.known = {}
            self.watch("worker", self.gone)
            self.watch("typo", "gone")
            self.each(0.02, self.look)

        def look(self):
            # Of who ends before it is known, only that nobody is there is told.
            watching = self._core.watched._tell.__self__._session.watching
            known = dict(watching._known.get("worker", {}))
            if known != self.known:
                self.known = known
                print("KNOWS", sorted(known), flush=True)

        async def gone(self, departure):
            print("GONE", departure.agent, departure.replica, departure.reason, flush=True)

    class Worker(Agent):
        def on_init(self):
            print("UP", flush=True)
"""
KNOWS_BOTH = "KNOWS ['worker-0', 'worker-1']"


@pytest.fixture
def here() -> Iterator[World]:
    with world(CODE) as made:
        yield made


@pytest.mark.parametrize("plane", ["Sidecar", "InProcess", "pod"])
def test_ends_of_replicas(here: World, plane: str) -> None:
    data_plane, pod = ("InProcess", True) if plane == "pod" else (plane, False)
    worker = here.declare("worker", target="agents:Worker", replicas=2, data_plane=data_plane)
    guard = here.declare("guard", target="agents:Guard", data_plane=data_plane)
    watcher = here.start(guard, pod=pod)
    first, second = (here.start(worker, index=index, pod=pod) for index in range(2))
    watcher.says(KNOWS_BOTH)
    watcher.says("GONE typo  Unknown")

    # Killed, and started again as a supervisor does. Where nobody is beside it that sees its end, the name server hears of it by its next life.
    first.kill()
    if plane != "InProcess":
        watcher.says("GONE worker worker-0 Killed")
    first = here.start(worker, pod=pod)
    watcher.says("GONE worker worker-0 Killed")
    watcher.says(KNOWS_BOTH, times=2)

    if plane != "InProcess":
        # A sidecar takes no agent with it.
        killed = time.monotonic()
        here.sidecars["worker-1"].kill()
        here.start_sidecar(worker, index=1)

        def back() -> bool:
            members = here.server.admin.status().members
            return any((member.replica, member.start, member.phase) == ("worker-1", 2, "Ready") for member in members)

        wait_for(back, what="the agent to have come to its new sidecar")
        if time.monotonic() - killed > LEASE_SECONDS - 2:
            pytest.skip("this machine is so busy that the replica's lease has ended before its new sidecar was there")
    second.signal()
    second.ends(0)
    watcher.says("GONE worker worker-1 Shutdown")

    # The name server forgets everything; whoever is another one when it is back has been replaced.
    here.server.kill()
    first.kill()
    first = here.start(worker, pod=pod)
    first.says("UP")
    here.server.start(Domain(agents=here.agents, channels=here.channels))
    # That it is another one tells the guard of this one, too.
    watcher.says("GONE worker worker-0 Replaced")
    first.signal()
    first.ends(0)
    watcher.says("GONE worker worker-0 Shutdown")
    wait_for(lambda: watcher.output.count("GONE worker") == 4, what="four ends")
    assert watcher.output.count("GONE typo") == 1
