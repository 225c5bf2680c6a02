"""Edits, upgrades and scaling: what replaces pods, and what does not."""

from __future__ import annotations

import copy
from typing import Any

from ganglion.api.names import ANNOTATION_INTENT
from ganglion_operator.core.kinds import CONFIGMAP, STATEFULSET, Key
from tests.support.engine import domain, fresh, play
from tests.support.fakeport import FakePort
from tests.support.objects import agent, channel, name_server, pod
from tests.support.simulation import Simulation, names, ready_of
from tests.support.virtualtime import run_virtual


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
