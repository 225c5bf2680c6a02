"""The planner on generated domains: never raises, forgets the order of its input, and says only what is documented."""

from __future__ import annotations

import contextlib
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ganglion.api import Agent, Channel, ManifestError, NameServer, load_object
from ganglion.api.base import Resource
from ganglion.planner import (
    AgentObserved,
    ChannelObserved,
    DomainView,
    NameServerAddress,
    agent_status,
    channel_status,
    declared_roles,
    plan_agent,
    plan_channel,
)
from ganglion.planner.reasons import CONDITIONS
from ganglion.wiring import INWARD, TWO_WAY, load_wiring
from tests.support.strategies import manifests

SETTINGS = settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
ADDRESS = NameServerAddress("tcp://demo:7500", "k" * 40)
NOW = "2026-01-01T00:00:00Z"


@st.composite
def domains(draw: st.DrawFn) -> list[Any]:
    """Objects that the API server would accept, with few names."""
    found: dict[tuple[str, str], Any] = {}
    for kind in draw(st.lists(st.sampled_from(["NameServer", "Channel", "Channel", "Agent", "Agent", "Agent"]), min_size=3, max_size=9)):
        with contextlib.suppress(ManifestError):
            read = load_object(draw(manifests(kind, faults=0)))
            found[kind, read.name] = read
    return list(found.values())


def view(objects: list[Any]) -> DomainView:
    def of(kind: type[Resource]) -> dict[str, Any]:
        return {item.name: item for item in objects if isinstance(item, kind)}

    return DomainView(of(NameServer), of(Channel), of(Agent), {"demo": ADDRESS, "tasks": ADDRESS}, {"code": "1"})


@SETTINGS
@given(domains(), domains())
def test_a_view_that_follows_its_agents_judges_as_a_new_one(before: list[Any], after: list[Any]) -> None:
    """Agents that come, change and go one by one leave no trace in what is concluded about channels."""
    others = [item for item in before if not isinstance(item, Agent)]
    kept = view(before)
    for name, channel in kept.channels.items():
        plan_channel(channel, kept)
        assert kept.channels[name] is channel
    agents = {item.name: item for item in after if isinstance(item, Agent)}
    present = dict(kept.agents)
    for name in {*kept.agents, *agents}:
        kept.put_agent(name, agents.get(name))
        present = {key: value for key, value in {**present, name: agents.get(name)}.items() if value is not None}
        fresh = view([*others, *present.values()])
        assert {name: plan_channel(channel, kept) for name, channel in kept.channels.items()} == {
            name: plan_channel(channel, fresh) for name, channel in fresh.channels.items()
        }
        assert {name: plan_agent(agent, kept) for name, agent in kept.agents.items()} == {
            name: plan_agent(agent, fresh) for name, agent in fresh.agents.items()
        }


@SETTINGS
@given(domains(), st.randoms(use_true_random=False))
def test_plans(objects: list[Any], random: Any) -> None:
    shuffled = list(objects)
    random.shuffle(shuffled)
    one, two = view(objects), view(shuffled)
    for name, channel in one.channels.items():
        plan = plan_channel(channel, one)
        assert plan == plan_channel(two.channels[name], two) == plan_channel(channel, one)
        status = channel_status(channel, plan, ChannelObserved(), NOW)
        assert [c.type for c in status.conditions] == list(dict.fromkeys(c.type for c in status.conditions))
        assert status == type(status).model_validate(status.to_dict())
        assert (status.senders, status.receivers) == (plan.senders, plan.receivers)
        for verdict in plan.verdicts:
            assert verdict.reason in CONDITIONS["Channel"][verdict.type]
    for name, agent in one.agents.items():
        plan_a = plan_agent(agent, one)
        assert plan_a == plan_agent(two.agents[name], two) == plan_agent(agent, one)
        assert (plan_a.wiring is not None) == all(verdict.ok for verdict in plan_a.verdicts) == (plan_a.intent is not None)
        for verdict in plan_a.verdicts:
            assert verdict.reason in CONDITIONS["Agent"][verdict.type]
        roles = declared_roles(agent, one)
        if plan_a.wiring is not None:
            assert load_wiring(plan_a.wiring.to_json()) == plan_a.wiring
            for entry in plan_a.wiring.channels:
                assert entry.role in roles[entry.channel]
        status_a = agent_status(agent, plan_a, AgentObserved(replicas=1, ready=1, updated=1, joined=1, wired=1), NOW)
        assert status_a == type(status_a).model_validate(status_a.to_dict())


@SETTINGS
@given(domains())
def test_binder_and_connector_never_agree_by_chance(objects: list[Any]) -> None:
    """Two agents wired to one channel bind exactly when their role is the channel's binder, and share every shared decision."""
    domain = view(objects)
    seen: dict[str, set[tuple[str, str, str, str]]] = {}
    for agent in domain.agents.values():
        wiring = plan_agent(agent, domain).wiring
        for entry in wiring.channels if wiring is not None else ():
            channel = domain.channels[entry.declared]
            declared = next((item.role for item in agent.spec.channels if entry.alias in (item.alias, item.alias + INWARD)), "Push")
            assert entry.bind == (channel.binder == declared)
            assert (declared == entry.role) == (channel.spec.pattern not in TWO_WAY)
            assert {entry.role, entry.peer_role} == set(CHANNEL_ROLES[entry.pattern])
            seen.setdefault(entry.channel, set()).add((entry.pattern, entry.carrier, entry.frames, entry.codec))
    assert all(len(decisions) == 1 for decisions in seen.values())


CHANNEL_ROLES = {"PushPull": ("Push", "Pull"), "PubSub": ("Pub", "Sub"), "RequestReply": ("Req", "Rep")}
