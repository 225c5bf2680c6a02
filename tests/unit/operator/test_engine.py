"""Stories of the whole engine on an API server in memory, in virtual time."""

from __future__ import annotations

import asyncio
import copy
import random
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ganglion.api.names import ANNOTATION_INTENT
from ganglion_operator.core.kinds import CONFIGMAP, JOB, POD, STATEFULSET, Key
from ganglion_operator.kube.errors import ApiError
from tests.support.fakeport import FakePort, flaky
from tests.support.objects import agent, channel, name_server, pod
from tests.support.simulation import Simulation, names, ready_of
from tests.support.strategies import manifests, specs
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


def test_one_agent_that_speaks_plain_rolls_the_others_of_a_proxied_channel() -> None:
    async def story(port: FakePort, simulation: Simulation) -> None:
        port.put(fresh(name_server()))
        port.put(fresh(channel(spec={"delivery": "BestEffort"})))
        port.put(fresh(agent()))
        await simulation.settle()
        template = port.objects[Key("StatefulSet", "default", "worker")]["spec"]["template"]
        before = template["metadata"]["annotations"][ANNOTATION_INTENT]
        entry = {"alias": "out", "channelRef": {"name": "tasks"}, "role": "Push"}
        plain = fresh(agent("plain", {"channels": [entry], "container": {"image": "c"}}))
        del plain["spec"]["class"]
        port.put(plain)
        await simulation.settle(10)
        template = port.objects[Key("StatefulSet", "default", "worker")]["spec"]["template"]
        assert template["metadata"]["annotations"][ANNOTATION_INTENT] != before
        assert '"frames":"Bare"' in template["metadata"]["annotations"]["ganglion.dev/wiring"]

    play(story)


def test_old_pods_are_replaced_step_by_step() -> None:
    async def story(port: FakePort, simulation: Simulation) -> None:
        domain(port)
        port.objects[Key("Agent", "default", "worker")]["spec"]["replicas"] = 4
        port.put(port.objects[Key("Agent", "default", "worker")])
        await simulation.settle()
        workload = port.objects[Key("StatefulSet", "default", "worker")]
        uid = workload["metadata"]["uid"]
        for number in range(4):
            port.put(fresh_pod(f"worker-{number}", uid, "before"))
        await simulation.settle()
        # The StatefulSet's controller has not seen the template yet: a pod deleted now would come back as it was.
        assert len(names(port, "Pod")) == 4
        workload = port.objects[Key("StatefulSet", "default", "worker")]
        workload["status"] = {"observedGeneration": workload["metadata"]["generation"], "replicas": 4}
        port.watch(STATEFULSET, copy.deepcopy(port._store(Key("StatefulSet", "default", "worker"), workload)), False)
        intent = workload["spec"]["template"]["metadata"]["annotations"][ANNOTATION_INTENT]
        for gone in (3, 2, 1, 0):
            await simulation.settle(5)
            assert f"worker-{gone}" not in names(port, "Pod")
            assert len(names(port, "Pod")) == 3
            assert ready_of(port, "Agent", "worker")[1] in ("RollingOut", "Starting")
            port.put(fresh_pod(f"worker-{gone}", uid, intent))
        await simulation.settle(5)
        assert ready_of(port, "Agent", "worker") == ("True", "Running")

    play(story)


def fresh_pod(name: str, workload_uid: str, intent: str) -> dict[str, Any]:
    body = pod(name, workload_uid=workload_uid, intent=intent)
    del body["metadata"]["uid"]
    return body


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


def test_an_operator_upgrade_alone_replaces_nothing() -> None:
    async def story(port: FakePort, simulation: Simulation) -> None:
        domain(port)
        await simulation.settle()

    port = play(story)

    async def upgraded() -> None:
        simulation = Simulation(port)
        object.__setattr__(simulation.engine.settings, "agent_image", "agent:2")
        async with simulation.running():
            await simulation.settle()
            spec = port.objects[Key("StatefulSet", "default", "worker")]["spec"]["template"]["spec"]
            assert spec["initContainers"][0]["image"] == "agent:1"
            # The name server follows: its restart is invisible to running channels.
            server = port.objects[Key("StatefulSet", "default", "zoo")]["spec"]["template"]["spec"]
            assert server["containers"][0]["image"] == "agent:2"
            body = port.objects[Key("Agent", "default", "worker")]
            port.put({**copy.deepcopy(body), "spec": {**body["spec"], "env": [{"name": "A", "value": "1"}]}})
            await simulation.settle()
            spec = port.objects[Key("StatefulSet", "default", "worker")]["spec"]["template"]["spec"]
            assert spec["initContainers"][0]["image"] == "agent:2"

    run_virtual(upgraded())


def test_an_edit_of_a_started_job_is_told_and_not_run() -> None:
    async def story(port: FakePort, simulation: Simulation) -> None:
        domain(port)
        port.put(fresh(agent("once", {"run": "Once", "replicas": 2})))
        await simulation.settle()
        key = Key("Job", "default", "once")
        job = port.objects[key]
        assert (job["spec"]["completions"], job["spec"]["completionMode"]) == (2, "Indexed")
        job["status"] = {"startTime": "2026-01-01T00:00:00Z", "active": 2}
        port._store(key, job)
        body = port.objects[Key("Agent", "default", "once")]
        port.put({**copy.deepcopy(body), "spec": {**body["spec"], "env": [{"name": "A", "value": "1"}]}})
        await simulation.settle()
        assert port.objects[key]["metadata"]["uid"] == job["metadata"]["uid"]
        conditions = {c["type"]: c for c in port.objects[Key("Agent", "default", "once")]["status"]["conditions"]}
        assert conditions["SpecChangeIgnored"]["status"] == "True"
        port.put({**copy.deepcopy(body), "spec": {**body["spec"], "replicas": 5}})
        await simulation.settle()
        spec = port.objects[key]["spec"]
        assert (spec["parallelism"], spec["completions"]) == (5, 5)
        job = port.objects[key]
        job["status"] = {"succeeded": 5, "conditions": [{"type": "Complete", "status": "True"}]}
        port._store(key, job)
        await simulation.settle()
        assert ready_of(port, "Agent", "once") == ("True", "Completed")

    play(story)


def test_a_job_that_has_not_started_takes_the_edit() -> None:
    async def story(port: FakePort, simulation: Simulation) -> None:
        domain(port)
        port.put(fresh(agent("once", {"run": "Once", "suspend": True})))
        await simulation.settle()
        assert names(port, "Job") == []
        body = port.objects[Key("Agent", "default", "once")]
        port.put({**copy.deepcopy(body), "spec": {**body["spec"], "suspend": False}})
        await simulation.settle()
        before = port.objects[Key("Job", "default", "once")]
        body = port.objects[Key("Agent", "default", "once")]
        port.put({**copy.deepcopy(body), "spec": {**body["spec"], "env": [{"name": "A", "value": "1"}]}})
        await simulation.settle()
        after = port.objects[Key("Job", "default", "once")]
        assert after["metadata"]["uid"] != before["metadata"]["uid"]
        assert {"name": "A", "value": "1"} in after["spec"]["template"]["spec"]["containers"][0]["env"]
        assert after["spec"]["suspend"] is False

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


def test_inline_code_gets_a_map_per_content_and_the_former_one_goes() -> None:
    async def story(port: FakePort, simulation: Simulation) -> None:
        port.put(fresh(name_server()))
        port.put(fresh(channel()))
        port.put(fresh(agent(spec={"code": {"inline": {"demo.py": "A = 1"}}})))
        await simulation.settle()
        first = [name for name in names(port, "ConfigMap") if name.startswith("worker-code-")]
        assert len(first) == 1
        body = port.objects[Key("Agent", "default", "worker")]
        port.put({**copy.deepcopy(body), "spec": {**body["spec"], "code": {"inline": {"demo.py": "A = 2"}}}})
        await simulation.settle()
        second = [name for name in names(port, "ConfigMap") if name.startswith("worker-code-")]
        assert len(second) == 1
        assert second != first

    play(story)


def test_an_edit_of_the_code_changes_the_intent() -> None:
    async def story(port: FakePort, simulation: Simulation) -> None:
        port.put(fresh(name_server()))
        port.put(fresh(channel()))
        port.put(fresh(agent(spec={"code": {"configMapRef": {"name": "files"}}})))
        await simulation.settle()
        assert ready_of(port, "Agent", "worker") == ("False", "NotFound")
        metadata = {"name": "files", "namespace": "default", "labels": {"ganglion.dev/code": "true"}}
        port.put({"apiVersion": "v1", "kind": CONFIGMAP.kind, "metadata": dict(metadata), "data": {"demo.py": "A = 1"}})
        await simulation.settle()
        key = Key("StatefulSet", "default", "worker")
        before = port.objects[key]["spec"]["template"]["metadata"]["annotations"][ANNOTATION_INTENT]
        port.put({"apiVersion": "v1", "kind": CONFIGMAP.kind, "metadata": dict(metadata), "data": {"demo.py": "A = 2"}})
        await simulation.settle(5)
        assert port.objects[key]["spec"]["template"]["metadata"]["annotations"][ANNOTATION_INTENT] != before

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


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(st.data())
def test_no_manifest_makes_it_raise_and_a_good_one_heals(data: st.DataObject) -> None:
    """Whatever is stored, valid or not: no exception, no loop, and the good version of the same object works."""
    bodies = [data.draw(manifests(kind)) for kind in ("NameServer", "Channel", "Agent", "Agent")]
    port = FakePort()

    async def main() -> None:
        async with Simulation(port).running() as simulation:
            for number, body in enumerate(bodies):
                if not isinstance(body.get("spec"), dict):
                    body["spec"] = {}
                body["metadata"] = {"name": ("zoo", "tasks", "worker", "other")[number], "namespace": "default"}
                port.put(body)
            await simulation.settle()
            port.calls.clear()
            await simulation.settle(300)
            assert len(port.writes()) <= 8, port.writes()
            for body in (name_server(), channel(), agent(spec={"run": "Always"})):
                key = Key(body["kind"], "default", body["metadata"]["name"])
                port.remove(key)
                for child in [k for k in port.objects if k.kind in (STATEFULSET.kind, JOB.kind, POD.kind)]:
                    port.remove(child)
                port.put(fresh(body))
            await simulation.settle()
            assert "worker" in names(port, "StatefulSet")
            assert simulation.errors() == 0

    run_virtual(main())


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(
    st.lists(manifests("Agent", faults=3), min_size=4, max_size=12),
    st.lists(manifests("Channel", faults=3), min_size=1, max_size=4),
    st.lists(manifests("NameServer", faults=3), min_size=1, max_size=3),
)
def test_edits_of_bad_objects_heal_a_whole_namespace(
    agents: list[dict[str, Any]], channels: list[dict[str, Any]], servers: list[dict[str, Any]]
) -> None:
    """Many bad objects that refer to each other at random; then each is edited, not made again, and all of them work."""
    port = FakePort()
    bodies = []
    for kind, found in (("Agent", agents), ("Channel", channels), ("NameServer", servers)):
        for number, body in enumerate(found):
            spec = body.get("spec") if isinstance(body.get("spec"), dict) else {}
            bodies.append({**body, "spec": spec, "metadata": {"name": f"{kind.lower()}-{number}", "namespace": "default"}})

    def good(body: dict[str, Any]) -> dict[str, Any]:
        name, kind = body["metadata"]["name"], body["kind"]
        if kind == "NameServer":
            return name_server(name)
        if kind == "Channel":
            return channel(name, {"nameServerRef": {"name": "nameserver-0"}})
        entry = {"alias": "in", "channelRef": {"name": "channel-0"}, "role": "Pull", "handler": "work"}
        # What cannot be edited stays, unless it made no sense.
        run = body["spec"].get("run")
        run = run if run in ("Always", "Once") else "Always"
        return agent(name, {"nameServerRef": {"name": "nameserver-0"}, "channels": [entry], "run": run})

    async def main() -> None:
        async with Simulation(port).running() as simulation:
            for body in bodies:
                port.put(body)
            await simulation.settle(400)
            port.calls.clear()
            await simulation.settle(300)
            assert len(port.writes()) <= 2 * len(bodies), port.writes()
            for body in bodies:
                port.put(fresh(good(body)))
            await simulation.settle()
            for body in bodies:
                name, kind = body["metadata"]["name"], body["kind"]
                status = port.objects[Key(kind, "default", name)]["status"]
                judged = {c["type"]: (c["status"], c["reason"]) for c in status["conditions"]}
                if kind == "Agent":
                    run = good(body)["spec"]["run"]
                    assert name in names(port, "Job" if run == "Once" else "StatefulSet"), judged
                    assert {judged["Accepted"], judged["ChannelsResolved"]} == {("True", "Valid"), ("True", "Resolved")}
                elif kind == "Channel":
                    assert judged["Accepted"] == ("True", "Valid")
                else:
                    assert name in names(port, "StatefulSet"), judged
            assert simulation.errors() == 0
            port.calls.clear()
            await simulation.settle()
            assert port.writes() == []

    run_virtual(main())


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(specs("Agent"), specs("Channel"), specs("NameServer"))
def test_a_second_pass_is_empty(agent_spec: dict[str, Any], channel_spec: dict[str, Any], server_spec: dict[str, Any]) -> None:
    """For any valid spec: what was written once is never written again, by this life or the next."""
    port = FakePort()
    agent_spec["nameServerRef"] = channel_spec["nameServerRef"] = {"name": "zoo"}
    port.put(fresh(name_server(spec=server_spec)))
    port.put(fresh({**channel(), "spec": channel_spec}))
    port.put(fresh({**agent(), "spec": agent_spec}))
    play(settled, port)
    port.calls.clear()
    play(settled, port)
    assert port.writes() == []
