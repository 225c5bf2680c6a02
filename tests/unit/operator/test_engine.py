"""Stories of the whole engine on an API server in memory, in virtual time."""

from __future__ import annotations

import asyncio
import copy
import random

import pytest

from ganglion.api.names import ANNOTATION_INTENT
from ganglion_operator.core.kinds import STATEFULSET, Key
from ganglion_operator.kube.errors import ApiError
from tests.support.engine import domain, fresh, play, settled
from tests.support.fakeport import FakePort, flaky
from tests.support.objects import agent, channel, name_server, pod
from tests.support.simulation import Simulation, names, ready_of
from tests.support.virtualtime import run_virtual


def test_a_domain_is_built_and_then_left_alone() -> None:
    async def story(port: FakePort, simulation: Simulation) -> None:
        domain(port)
        await simulation.settle()
        port.calls.clear()
        await simulation.settle()
        assert port.writes() == []

    port = play(story)
    assert names(port, "StatefulSet") == ["source", "worker", "zoo"]
    assert names(port, "Service") == ["zoo", "zoo-agents"]
    assert len(names(port, "Secret")) == 1
    port.calls.clear()
    play(settled, port)
    assert port.writes() == []


def test_the_secret_exists_before_the_status_tells_its_key() -> None:
    port = FakePort()

    def broken(call: str, kind: str) -> Exception | None:
        if call == "apply_status" and kind == "NameServer":
            body = next(body for key, body in port.objects.items() if key.kind == "NameServer")
            assert any(key.kind == "Secret" for key in port.objects), body
        return None

    port.broken = broken
    domain(port)
    play(settled, port)
    status = port.objects[Key("NameServer", "default", "zoo")]["status"]
    assert [status["keySecret"]] == names(port, "Secret")


def test_failing_calls_after_the_key_leave_one_secret() -> None:
    port = FakePort()
    port.broken = lambda call, kind: ApiError(500, "InternalError", "boom") if (call, kind) == ("create", "Service") else None
    domain(port)
    play(settled, port)
    assert len(names(port, "Secret")) == 1


def test_the_keys_of_a_name_server_that_went_before_it_had_them_are_forgotten() -> None:
    async def story(port: FakePort, simulation: Simulation) -> None:
        port.broken = lambda call, kind: ApiError(500, "InternalError", "boom") if (call, kind) == ("create", "Service") else None
        domain(port)
        await simulation.settle(60)
        assert len(simulation.reconciler._pending_keys) == 1
        port.remove(Key("NameServer", "default", "zoo"))
        await simulation.settle(60)
        assert simulation.reconciler._pending_keys == {}
        port.broken = lambda call, kind: None
        port.put(fresh(name_server()))
        await simulation.settle()
        assert simulation.reconciler._pending_keys == {}
        assert port.objects[Key("NameServer", "default", "zoo")]["status"]["publicKey"]

    play(story)


@pytest.mark.parametrize("seed", range(30))
def test_it_converges_through_failures_and_kills(seed: int) -> None:
    """Calls fail at random and the operator is killed at random moments; the end is the same, with no call left to make."""
    draw = random.Random(seed)
    port = FakePort()
    domain(port)
    for _ in range(8):

        async def life() -> None:
            async with Simulation(port).running():
                port.broken = flaky(draw, 0.3)
                for _ in range(draw.randrange(60)):
                    await asyncio.sleep(draw.choice([0, 0, 0, 0.1, 2]))

        port.broken = lambda call, kind: None
        run_virtual(life())
    port.broken = lambda call, kind: None
    play(settled, port)
    assert names(port, "StatefulSet") == ["source", "worker", "zoo"]
    assert names(port, "Service") == ["zoo", "zoo-agents"]
    assert ready_of(port, "Channel", "tasks") == ("True", "Usable")
    status = port.objects[Key("NameServer", "default", "zoo")]["status"]
    assert status["keySecret"] in names(port, "Secret")
    port.calls.clear()
    play(settled, port)
    assert port.writes() == []


def test_it_heals_without_any_watch() -> None:
    """Every event is lost: the resync finds out."""
    port = FakePort()

    async def main() -> None:
        async with Simulation(port).running(watching=False) as simulation:
            domain(port)
            await simulation.settle(1500)
            assert names(port, "StatefulSet") == ["source", "worker", "zoo"]
            del port.objects[Key("StatefulSet", "default", "worker")]
            await simulation.settle(700)
            assert names(port, "StatefulSet") == ["source", "worker", "zoo"]
            assert simulation.engine.metrics.healed.labels("StatefulSet")._value.get() > 0

    run_virtual(main())


def test_many_agents_that_start_are_written_about_once() -> None:
    """Each is adopted, made, and told about when it is Ready; only a few are told about while they start."""
    count = 200

    async def story(port: FakePort, simulation: Simulation) -> None:
        port.put(fresh(name_server()))
        port.put(fresh(channel()))
        await simulation.settle(10)
        port.calls.clear()
        for number in range(count):
            port.put(fresh(agent(f"agent-{number}")))
        await asyncio.sleep(1)
        for number in range(count):
            body = port.objects[Key("StatefulSet", "default", f"agent-{number}")]
            intent = body["spec"]["template"]["metadata"]["annotations"][ANNOTATION_INTENT]
            starting = pod(f"agent-{number}-0", owner=f"agent-{number}", workload_uid=body["metadata"]["uid"], intent=intent, ready=False)
            port.put(starting)
        await asyncio.sleep(1)
        for number in range(count):
            key = Key("Pod", "default", f"agent-{number}-0")
            port._store(key, {**port.objects[key], "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}})
        await simulation.settle(5)
        assert all(ready_of(port, "Agent", f"agent-{number}") == ("True", "Running") for number in range(count))
        writes = port.writes()
        assert writes.count(("create", "StatefulSet")) == writes.count(("apply", "Agent")) == count
        assert writes.count(("apply_status", "Agent")) <= count * 1.25
        looks = simulation.engine.metrics.reconciles.collect()
        passes = sum(s.value for m in looks for s in m.samples if s.name.endswith("_total") and s.labels["controller"] == "Agent")
        assert passes <= count * 4
        port.calls.clear()
        await simulation.settle()
        assert [call for call in port.writes() if call[1] != "NameServer"] == []

    play(story)


def test_a_few_agents_are_told_about_while_they_start() -> None:
    async def story(port: FakePort, simulation: Simulation) -> None:
        domain(port)
        await simulation.settle(4)
        for name in ("source", "worker"):
            assert ready_of(port, "Agent", name) == ("False", "Starting")

    play(story)


def test_what_is_changed_by_hand_is_put_right_although_it_was_found_in_place_before() -> None:
    async def story(port: FakePort, simulation: Simulation) -> None:
        domain(port)
        await simulation.settle()
        key = Key("StatefulSet", "default", "worker")
        for change in ({"spec": {"replicas": 7}}, {"metadata": {"labels": {"app.kubernetes.io/name": "mine"}}}):
            await port.patch(STATEFULSET, key, change)
            await simulation.settle(10)
            body = port.objects[key]
            assert (body["spec"]["replicas"], body["metadata"]["labels"]["app.kubernetes.io/name"]) == (1, "ganglion")

    play(story)


def test_what_the_api_server_refuses_becomes_a_condition_and_heals() -> None:
    async def story(port: FakePort, simulation: Simulation) -> None:
        port.broken = lambda call, kind: (
            ApiError(422, "Invalid", "spec.affinity: nonsense") if (call, kind) == ("create", "StatefulSet") else None
        )
        domain(port)
        await simulation.settle()
        assert ready_of(port, "Agent", "worker") == ("False", "Rejected")
        assert ready_of(port, "NameServer", "zoo") == ("False", "Rejected")
        # Refused for a long time, it is tried rarely.
        port.calls.clear()
        await simulation.settle(3000)
        assert len(port.writes()) < 100
        port.broken = lambda call, kind: None
        await simulation.settle()
        assert ready_of(port, "Agent", "worker")[1] in ("Starting", "PodsNotCreated")

    play(story)


def test_a_namespace_that_ends_is_left_in_peace() -> None:
    async def story(port: FakePort, simulation: Simulation) -> None:
        text = "unable to create new content in namespace default because it is being terminated"
        port.broken = lambda call, kind: ApiError(403, "Forbidden", text) if call == "create" else None
        domain(port)
        await simulation.settle(10)
        assert len(port.writes()) < 30

    play(story)


def test_nothing_is_made_for_what_is_being_deleted() -> None:
    async def story(port: FakePort, simulation: Simulation) -> None:
        for body in map(fresh, (name_server(), channel(), agent())):
            body["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
            port.put(body)
        await simulation.settle()
        assert not [call for call in port.writes() if call[0] == "create"]

    play(story)


def test_conflicts_are_told_and_heal() -> None:
    async def story(port: FakePort, simulation: Simulation) -> None:
        stranger = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "zoo", "namespace": "default"}, "spec": {}}
        port.put(stranger)
        domain(port)
        await simulation.settle()
        assert ready_of(port, "NameServer", "zoo") == ("False", "NameConflict")
        assert port.objects[Key("Service", "default", "zoo")]["spec"] == {}
        port.calls.clear()
        await simulation.settle(600)
        assert len(port.writes()) <= 25
        port.remove(Key("Service", "default", "zoo"))
        await simulation.settle(100)
        assert port.objects[Key("Service", "default", "zoo")]["spec"]["ports"]
        assert ready_of(port, "NameServer", "zoo")[1] != "NameConflict"

    play(story)


def test_scaling_works_while_a_reference_is_missing() -> None:
    async def story(port: FakePort, simulation: Simulation) -> None:
        domain(port)
        await simulation.settle()
        port.remove(Key("Channel", "default", "tasks"))
        await simulation.settle(5)
        assert ready_of(port, "Agent", "worker") == ("False", "NotFound")
        body = port.objects[Key("Agent", "default", "worker")]
        template = copy.deepcopy(port.objects[Key("StatefulSet", "default", "worker")]["spec"]["template"])
        port.put({**copy.deepcopy(body), "spec": {**body["spec"], "replicas": 0}})
        await simulation.settle(5)
        spec = port.objects[Key("StatefulSet", "default", "worker")]["spec"]
        assert (spec["replicas"], spec["template"]) == (0, template)

    play(story)


def test_agents_belong_to_their_name_server_unless_orphaned() -> None:
    async def story(port: FakePort, simulation: Simulation) -> None:
        domain(port)
        await simulation.settle()
        key = Key("Agent", "default", "worker")
        assert [o["kind"] for o in port.objects[key]["metadata"]["ownerReferences"]] == ["NameServer"]
        port.put({**fresh(name_server()), "spec": {"deletionPolicy": "Orphan"}})
        await simulation.settle(5)
        assert port.objects[key]["metadata"]["ownerReferences"] == []

    play(story)


def test_counts_of_the_name_server_reach_agents_and_channels() -> None:
    async def story(port: FakePort, simulation: Simulation) -> None:
        domain(port)
        await simulation.settle()
        key = Key("NameServer", "default", "zoo")
        port.calls.clear()
        for count in range(1, 21):
            body = copy.deepcopy(port.objects[key])
            body["status"]["agents"] = [{"name": "worker", "joined": 1, "wired": 1}]
            body["status"]["channels"] = [{"name": "tasks", "accepted": count}]
            port._store(key, body)
            await asyncio.sleep(0.5)
        assert port.objects[Key("Agent", "default", "worker")]["status"]["joined"] == 1
        await simulation.settle(10)
        assert port.objects[Key("Channel", "default", "tasks")]["status"]["accepted"] == 20
        # Ten seconds of counters are a few writes, not twenty.
        assert len([c for c in port.writes() if c == ("apply_status", "Channel")]) <= 4

    play(story)


def test_an_object_of_another_schema_is_told_and_recovers() -> None:
    async def story(port: FakePort, simulation: Simulation) -> None:
        domain(port)
        bad = fresh(agent("odd"))
        bad["spec"]["channels"] = "not a list"
        port.put(bad)
        await simulation.settle()
        assert ready_of(port, "Agent", "odd") == ("False", "Invalid")
        port.put(fresh(agent("odd")))
        await simulation.settle()
        assert "odd" in names(port, "StatefulSet")

    play(story)


def test_an_edit_that_a_status_write_overtakes_is_not_lost() -> None:
    """The answer to the write shows the edit before a watch does, whose event is old news then."""

    async def story(port: FakePort, simulation: Simulation) -> None:
        domain(port)
        await simulation.settle(60)
        key = Key("Agent", "default", "worker")
        edits = iter([7])

        def edit(call: str, kind: str) -> Exception | None:
            if (call, kind) == ("apply_status", "Agent"):
                for replicas in edits:
                    body = copy.deepcopy(port.objects[key])
                    port.put({**body, "spec": {**body["spec"], "replicas": replicas}})
            return None

        port.broken = edit
        # A pass that has a status to write and nothing else to do.
        server = Key("NameServer", "default", "zoo")
        body = copy.deepcopy(port.objects[server])
        body["status"]["agents"] = [{"name": "worker", "joined": 1, "wired": 1}]
        port._store(server, body)
        await simulation.settle(20)
        assert port.objects[key]["spec"]["replicas"] == 7
        assert port.objects[Key("StatefulSet", "default", "worker")]["spec"]["replicas"] == 7

    play(story)
