"""Copies of templates, as stories of the whole engine: made, kept over restarts and failures, ended."""

from __future__ import annotations

import copy
import random
from typing import Any

import pytest

from ganglion.wiring.copies import copy_name
from ganglion_operator.core.copies import is_copy
from ganglion_operator.core.kinds import Key
from ganglion_operator.kube.errors import ApiError
from tests.support.engine import fresh, play, settled
from tests.support.fakeport import FakePort, flaky
from tests.support.objects import agent, name_server
from tests.support.simulation import Simulation, names

SPEC = {"adHoc": "Allowed", "templates": [{"name": "worker", "maxCopies": 2}]}
ZOO = Key("NameServer", "default", "zoo")
ALICE, BOB, CAROL = (copy_name("worker", name) for name in ("Alice", "Bob", "Carol"))


def begin(port: FakePort, **spec: Any) -> None:
    port.put(fresh(name_server(spec={**SPEC, **spec})))
    port.put(fresh(agent(spec={"replicas": 0, "channels": []})))


def ask(port: FakePort, *wanted: str, template: str = "worker") -> None:
    """What the name server writes."""
    body = copy.deepcopy(port.objects[ZOO])
    body.setdefault("status", {})["copies"] = [{"name": name, "template": template} for name in wanted]
    port._store(ZOO, body)


def uid(port: FakePort, name: str) -> str:
    return str(port.objects[Key("Agent", "default", name)]["metadata"]["uid"])


def condition(port: FakePort) -> dict[str, Any] | None:
    return next((c for c in port.objects[ZOO]["status"]["conditions"] if c["type"] == "CopiesAllowed"), None)


def test_a_copy_is_made_runs_its_job_and_goes() -> None:
    async def story(port: FakePort, simulation: Simulation) -> None:
        begin(port)
        await simulation.settle(5)
        ask(port, ALICE)
        await simulation.settle(5)
        body = port.objects[Key("Agent", "default", ALICE)]
        [owner] = body["metadata"]["ownerReferences"]
        assert (owner["kind"], owner["name"], owner["controller"]) == ("NameServer", "zoo", True)
        assert body["metadata"]["labels"] == {"ganglion.dev/template": "worker"}
        assert names(port, "Job") == [ALICE]
        # A template that is changed or deleted concerns the next copies.
        before = uid(port, ALICE)
        port.put(fresh(agent(spec={"replicas": 0, "channels": [], "class": "demo:Other"})))
        await simulation.settle(5)
        port.remove(Key("Agent", "default", "worker"))
        await simulation.settle(5)
        assert uid(port, ALICE) == before
        assert condition(port) is None
        # One that somebody deletes comes back while it is asked for, as soon as it can be made.
        port.remove(Key("Agent", "default", ALICE))
        await simulation.settle(5)
        assert names(port, "Agent") == []
        assert "has no Agent of this name" in (condition(port) or {})["message"]
        begin(port)
        await simulation.settle(5)
        assert names(port, "Agent") == ["worker", ALICE]
        assert condition(port) is None
        ask(port)
        await simulation.settle(5)
        assert names(port, "Agent") == ["worker"]
        assert simulation.errors() == 0

    play(story)


def test_a_refusal_is_one_event_and_a_condition_until_it_is_over() -> None:
    async def story(port: FakePort, simulation: Simulation) -> None:
        begin(port)
        await simulation.settle(5)
        for wanted in ((ALICE, BOB, CAROL), (ALICE, BOB, CAROL, copy_name("worker", "Dora")), (CAROL, BOB, ALICE)):
            ask(port, *wanted)
            await simulation.settle(5)
            assert names(port, "Agent") == sorted(["worker", ALICE, BOB])
        assert [notice.reason for notice in port.notices] == ["TemplateRefused"]
        assert "found more than 2 of template 'worker'" in (condition(port) or {})["message"]
        # The spec alone decides, also about what runs.
        port.put(fresh(name_server(spec={**SPEC, "templates": [{"name": "worker", "maxCopies": 1}]})))
        await simulation.settle(5)
        assert len(names(port, "Agent")) == 2
        port.put(fresh(name_server()))
        await simulation.settle(5)
        assert names(port, "Agent") == ["worker"]
        ask(port)
        await simulation.settle(5)
        assert condition(port) is None

    play(story)


def test_only_what_the_name_server_controls_is_a_copy() -> None:
    async def story(port: FakePort, simulation: Simulation) -> None:
        begin(port, deletionPolicy="Orphan")
        # Whoever labels an Agent of their own keeps it.
        mine = fresh(agent("mine", {"channels": []}))
        mine["metadata"]["labels"] = {"ganglion.dev/template": "worker"}
        port.put(mine)
        taken = fresh(agent(BOB, {"channels": []}))
        port.put(taken)
        await simulation.settle(5)
        ask(port, ALICE, BOB)
        await simulation.settle(5)
        assert names(port, "Agent") == sorted(["mine", "worker", ALICE, BOB])
        assert "exists and is no copy" in (condition(port) or {})["message"]
        await simulation.settle()
        port.calls.clear()
        # Orphan is about Agents that users have made: nothing takes a copy from its NameServer.
        await simulation.settle()
        assert port.writes() == []
        assert port.objects[Key("Agent", "default", ALICE)]["metadata"]["ownerReferences"]
        ask(port)
        await simulation.settle(5)
        assert names(port, "Agent") == sorted(["mine", "worker", BOB])

    play(story)


def test_nothing_is_made_or_ended_while_the_name_server_is_being_deleted() -> None:
    async def story(port: FakePort, simulation: Simulation) -> None:
        begin(port)
        ask(port, ALICE)
        await simulation.settle(5)
        body = copy.deepcopy(port.objects[ZOO])
        body["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
        port._store(ZOO, body)
        ask(port, BOB)
        await simulation.settle(60)
        assert names(port, "Agent") == sorted(["worker", ALICE])

    play(story)


@pytest.mark.parametrize("seed", range(10))
def test_failures_and_restarts_neither_double_nor_end_a_copy(seed: int) -> None:
    draw = random.Random(seed)
    port = FakePort()
    begin(port)
    ask(port, ALICE)
    play(settled, port)
    alice = uid(port, ALICE)
    for _ in range(5):

        async def story(port: FakePort, simulation: Simulation) -> None:
            port.broken = flaky(draw, 0.3)
            ask(port, ALICE, *([BOB] if draw.random() < 0.5 else []))
            # Killed at any moment.
            await simulation.settle(draw.random() * 10)
            assert uid(port, ALICE) == alice

        play(story, port)
        port.broken = lambda call, kind: None
    ask(port, ALICE, BOB)
    play(settled, port)
    assert names(port, "Agent") == sorted(["worker", ALICE, BOB])
    assert names(port, "Job") == sorted([ALICE, BOB])
    assert uid(port, ALICE) == alice
    port.calls.clear()
    play(settled, port)
    assert port.writes() == []


def test_a_list_that_is_not_known_is_not_empty() -> None:
    async def story(port: FakePort, simulation: Simulation) -> None:
        begin(port)
        ask(port, ALICE)
        await simulation.settle(5)
        for status in ({}, {"copies": None}, {"copies": [{"name": ALICE}]}, {"copies": [7]}):
            body = copy.deepcopy(port.objects[ZOO])
            body["status"] = status
            port._store(ZOO, body)
            await simulation.settle(5)
            assert names(port, "Agent") == ["worker", ALICE], status
        ask(port)
        await simulation.settle(5)
        assert names(port, "Agent") == ["worker"]

    play(story)


def test_a_copy_that_the_api_server_refuses_keeps_no_other_from_its_end() -> None:
    async def story(port: FakePort, simulation: Simulation) -> None:
        begin(port)
        ask(port, ALICE)
        await simulation.settle(5)
        quota = ApiError(403, "Forbidden", "exceeded quota")
        port.broken = lambda call, kind: quota if (call, kind) == ("create", "Agent") else None
        ask(port, BOB)
        await simulation.settle(5)
        assert names(port, "Agent") == ["worker"]

    play(story)


def test_a_name_server_of_another_group_has_no_copies() -> None:
    reference = {"apiVersion": "other.example/v1", "kind": "NameServer", "name": "zoo", "uid": "u", "controller": True}
    assert not is_copy({"ownerReferences": [reference]})
    assert is_copy({"ownerReferences": [{**reference, "apiVersion": "ganglion.dev/v1beta1"}]})
