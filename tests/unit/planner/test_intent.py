"""The intent hash: what rolls the pods and what does not."""

from __future__ import annotations

from typing import Any

import pytest

from ganglion.api import Agent, AgentSpec
from ganglion.planner import plan_agent
from tests.support.manifests import agent, channel, link, name_server
from tests.unit.planner.test_verdicts import view

BASE: dict[str, Any] = {"channels": [link(handler="work")], "code": {"configMapRef": {"name": "code"}}}


def intent(
    spec: dict[str, Any] | None = None,
    *,
    server: dict[str, Any] | None = None,
    wire: dict[str, Any] | None = None,
    code: str = "1",
    more: tuple[dict[str, Any], ...] = (),
) -> str:
    documents = (name_server(**(server or {})), channel(**(wire or {})), agent(**{**BASE, **(spec or {})}), *more)
    domain = view(*documents, code={"code": code, "other": code})
    plan = plan_agent(domain.agents["worker"], domain)
    assert plan.intent is not None, plan.verdicts
    return plan.intent


SAME: dict[str, dict[str, Any]] = {
    "replicas": {"spec": {"replicas": 7}},
    "suspend": {"spec": {"suspend": True}},
    "disruption budget": {"spec": {"minAvailable": 1}},
    "backoff limit": {"spec": {"backoffLimit": 1}},
    "log level": {"spec": {"logLevel": "Debug"}},
    "a default written out": {"spec": {"dataPlane": "Sidecar", "onError": "Continue", "terminationGracePeriodSeconds": 30}},
    "a channel default written out": {"wire": {"highWaterMark": 1024, "ack": "Causal", "bind": "Push", "delivery": "AtLeastOnce"}},
    "peers": {"more": (agent("sender", replicas=4, channels=[link(role="Push")]),)},
    "binder limit": {"wire": {"maxBinders": 4}},
    "deletion policy": {"server": {"deletionPolicy": "Orphan"}},
}

OTHER: dict[str, dict[str, Any]] = {
    "environment": {"spec": {"env": [{"name": "A", "value": "1"}]}},
    "image": {"spec": {"image": "example.com/a:2"}},
    "code content": {"code": "2"},
    "code source": {"spec": {"code": {"configMapRef": {"name": "other"}}}},
    "inline code": {"spec": {"code": {"inline": {"workers.py": "x = 1"}}}},
    "class": {"spec": {"class_": "workers:Other"}},
    "attributes": {"spec": {"attributes": {"a": 1}}},
    "handler": {"spec": {"channels": [link(handler="other")]}},
    "timer": {"spec": {"timers": [{"name": "t", "method": "tick", "periodMilliseconds": 5}]}},
    "data plane": {"spec": {"dataPlane": "InProcess"}},
    "error policy": {"spec": {"onError": "Stop"}},
    "resources": {"spec": {"resources": {"limits": {"cpu": 1}}}},
    "node selector": {"spec": {"nodeSelector": {"a": "b"}}},
    "grace": {"spec": {"terminationGracePeriodSeconds": 60}},
    "agent defaults": {"server": {"agentDefaults": {"nodeSelector": {"c": "d"}}}},
    "who binds": {"wire": {"bind": "Pull"}},
    "codec": {"wire": {"codec": "Json"}},
    "message type": {"wire": {"codec": "Protobuf", "messageType": "shop.Order"}},
    "other message type": {"wire": {"codec": "Protobuf", "messageType": "shop.Item"}},
    "delivery": {"wire": {"delivery": "BestEffort"}},
    "window": {"wire": {"highWaterMark": 8}},
    "security": {"server": {"security": "None"}},
}


@pytest.mark.parametrize("change", SAME.values(), ids=SAME)
def test_what_does_not_roll(change: dict[str, Any]) -> None:
    assert intent(**change) == intent()


def test_a_log_level_is_in_the_wiring_of_those_that_start_later() -> None:
    documents = (name_server(), channel(), agent(**BASE, logLevel="Debug"))
    domain = view(*documents, code={"code": "1"})
    plan = plan_agent(domain.agents["worker"], domain)
    assert plan.wiring is not None
    assert plan.wiring.agent.log_level == "Debug"


@pytest.mark.parametrize("change", OTHER.values(), ids=OTHER)
def test_what_rolls(change: dict[str, Any]) -> None:
    assert intent(**change) != intent()


def test_each_change_has_a_hash_of_its_own() -> None:
    assert len({intent(**change) for change in OTHER.values()}) == len(OTHER)


def test_own_field_hides_the_default() -> None:
    own = {"nodeSelector": {"a": "b"}}
    assert intent(own, server={"agentDefaults": {"nodeSelector": {"c": "d"}}}) == intent(own)


def test_field_of_a_later_version_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """A newer operator knows one more field with a default; nobody has set it, so nothing may roll."""
    before = intent()

    class Newer(AgentSpec):
        novelty: int = 7

    parse = Agent.parse

    def newer(body: dict[str, Any]) -> Agent:
        found = parse(body)
        return found.model_copy(update={"spec": Newer.model_validate(body["spec"])})

    monkeypatch.setattr(Agent, "parse", newer)
    assert intent() == before


def test_bytes_of_the_hash_are_pinned() -> None:
    """A change of this value replaces every pod of every cluster at the next upgrade."""
    assert intent() == "00d79a35b55a2ce06fbb172cbbc04ba5"
