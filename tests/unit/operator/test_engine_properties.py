"""Whatever objects are made and edited, the engine never raises, bad ones heal, and a second pass writes nothing."""

from __future__ import annotations

from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ganglion_operator.core.kinds import JOB, POD, STATEFULSET, Key
from tests.support.engine import fresh, play, settled
from tests.support.fakeport import FakePort
from tests.support.objects import agent, channel, name_server
from tests.support.simulation import Simulation, names
from tests.support.strategies import manifests, specs
from tests.support.virtualtime import run_virtual


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
