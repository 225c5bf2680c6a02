"""Stories of the whole engine: one life of an operator on an API server in memory, in virtual time."""

from __future__ import annotations

import copy
from collections.abc import Callable, Coroutine
from typing import Any

from tests.support.fakeport import FakePort
from tests.support.objects import agent, channel, name_server
from tests.support.simulation import Simulation
from tests.support.virtualtime import run_virtual

Story = Callable[[FakePort, Simulation], Coroutine[Any, Any, None]]


def fresh(body: dict[str, Any]) -> dict[str, Any]:
    """As a user applies it: without what the server fills in."""
    out = copy.deepcopy(body)
    out["metadata"] = {key: value for key, value in out["metadata"].items() if key in ("name", "namespace", "labels")}
    out["status"] = {}
    return out


def domain(port: FakePort) -> None:
    for body in (
        name_server(),
        channel(),
        agent("source", {"channels": [{"alias": "out", "channelRef": {"name": "tasks"}, "role": "Push"}]}),
        agent(),
    ):
        port.put(fresh(body))


def play(story: Story, port: FakePort | None = None) -> FakePort:
    """Run one life of an operator with `story`."""
    port = port or FakePort()

    async def main() -> None:
        async with Simulation(port).running() as simulation:
            await story(port, simulation)

    run_virtual(main())
    return port


async def settled(port: FakePort, simulation: Simulation) -> None:
    await simulation.settle()
