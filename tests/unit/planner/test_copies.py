"""Copies of templates: whatever a status asks for, only the NameServer's spec decides."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from ganglion.api import Agent, NameServer, load_object
from ganglion.api.names import LABEL_TEMPLATE
from ganglion.api.nameserver import Copy
from ganglion.planner import CopiesPlan, copy_of, plan_copies
from ganglion.wiring.copies import copy_name, is_copy_name
from tests.support.manifests import agent, container, link, name_server

SPEC: dict[str, Any] = {"adHoc": "Allowed", "templates": [{"name": "worker", "maxCopies": 2}, {"name": "plain"}, {"name": "strange"}]}


def model(document: dict[str, Any]) -> Any:
    return load_object(document)


SERVER: NameServer = model(name_server(**SPEC))
AGENTS: dict[str, Agent] = {
    "worker": model(agent(replicas=0)),
    "plain": model(container("plain")),
    "strange": model(agent("strange", nameServerRef={"name": "other"})),
    "unlisted": model(agent("unlisted")),
}
ALICE, BOB, CAROL = (copy_name("worker", name) for name in ("Alice", "Bob", "Carol"))


def plan(wanted: dict[str, str], copies: dict[str, str] | None = None, server: NameServer = SERVER) -> CopiesPlan:
    existing = {**AGENTS, **dict.fromkeys(copies or {}, AGENTS["worker"])}
    asked = [Copy(name=name, template=template) for name, template in wanted.items()]
    return plan_copies(server, asked, copies or {}, existing.get, existing.__contains__)


def made(found: CopiesPlan) -> list[str]:
    return [one.name for one in found.make]


def test_names_follow_from_both_names() -> None:
    assert copy_name("worker", "Alice") == ALICE != BOB
    assert copy_name("worker", "Alice") != copy_name("workera", "lice")
    assert is_copy_name(ALICE, "worker")
    assert not is_copy_name(ALICE, "work")
    assert not is_copy_name("worker", "worker")
    long = "x" * 38 + "-" + "y" * 13
    assert is_copy_name(copy_name(long, "ö\ud800"), long)
    assert len(copy_name(long, "a")) <= 52
    assert "--" not in copy_name(long, "a")


def test_a_copy_has_the_templates_pod_and_none_of_its_channels() -> None:
    limits = {"limits": {"memory": "64Mi"}}
    template: Agent = model(
        agent(
            replicas=3, resources=limits, minAvailable=1, suspend=True, attributes={"a": 1},
            channels=[link(handler="work")], timers=[{"name": "t", "method": "tick", "periodMilliseconds": 5}],
        )
    )  # fmt: skip
    found = copy_of(template, ALICE)
    assert found.metadata.labels == {LABEL_TEMPLATE: "worker"}
    spec = found.spec.to_dict()
    assert (spec["replicas"], spec["run"], spec["backoffLimit"], spec["suspend"]) == (1, "Once", 0, False)
    assert spec["class"] == "ganglion.imperative.copied:serve"
    assert spec["attributes"] == {"target": template.spec.class_, "attributes": {"a": 1}}
    assert spec["channels"] == spec["timers"] == []
    assert "minAvailable" not in spec
    assert spec["resources"] == limits
    # Manifests and the API server take it as it is.
    load_object({"apiVersion": "ganglion.dev/v1alpha1", "kind": "Agent", "metadata": {"name": ALICE}, "spec": spec})


def test_what_is_asked_for_is_made_once_and_ended_when_it_is_no_more() -> None:
    assert made(plan({ALICE: "worker"})) == [ALICE]
    assert plan({ALICE: "worker"}, {ALICE: "worker"}) == CopiesPlan()
    assert plan({}, {ALICE: "worker"}) == CopiesPlan(end=(ALICE,))


def test_refusals() -> None:
    for name, template, why in (
        (copy_name("unlisted", "A"), "unlisted", "is not in spec.templates"),
        ("sink", "worker", "no name of a copy"),
        (BOB, "unlisted", "is not in spec.templates"),
        (copy_name("plain", "A"), "plain", "must have a `class`"),
        (copy_name("strange", "A"), "strange", "of NameServer 'other'"),
    ):
        found = plan({name: template})
        assert not found.make
        assert why in found.refused[0], found
    forbidden = SERVER.model_copy(update={"spec": SERVER.spec.model_copy(update={"ad_hoc": "Forbidden"})})
    assert not plan({ALICE: "worker"}, server=forbidden).make
    assert plan({ALICE: "worker"}, {ALICE: "worker"}, forbidden).end == (ALICE,)


def test_no_more_than_allowed_and_what_runs_goes_first() -> None:
    found = plan({ALICE: "worker", BOB: "worker", CAROL: "worker"}, {CAROL: "worker"})
    assert made(found) == [ALICE]
    assert found.end == ()
    assert "found more than 2 of template 'worker'" in found.refused[0]


def test_a_copy_is_no_template_and_takes_nobodys_name() -> None:
    spec: dict[str, Any] = {"adHoc": "Allowed", "templates": [{"name": ALICE}, {"name": "worker"}]}
    server: NameServer = model(name_server(**spec))
    nested = copy_name(ALICE, "Eve")
    found = plan({ALICE: "worker", nested: ALICE}, {ALICE: "worker"}, server)
    assert not found.make
    assert "found a copy" in found.refused[0]
    mine = {**AGENTS, ALICE: AGENTS["unlisted"]}
    found = plan_copies(SERVER, [Copy(name=ALICE, template="worker")], {}, mine.get, mine.__contains__)
    assert not found.make
    assert "exists and is no copy" in found.refused[0]
    assert not found.end


_NAMES = st.sampled_from([ALICE, BOB, CAROL, "worker", "sink", copy_name("unlisted", "A"), copy_name("plain", "A")])
_TEMPLATES = st.sampled_from(["worker", "plain", "strange", "unlisted", ALICE, "nobody"])


@given(st.dictionaries(_NAMES, _TEMPLATES), st.dictionaries(st.sampled_from([ALICE, BOB, CAROL]), st.just("worker")))
def test_no_status_causes_more_than_the_spec_allows(wanted: dict[str, str], copies: dict[str, str]) -> None:
    found = plan(wanted, copies)
    left = {name: template for name, template in copies.items() if name not in found.end}
    left |= {one.name: one.metadata.labels[LABEL_TEMPLATE] for one in found.make}
    assert set(left.values()) <= {"worker"}
    assert len(left) <= 2
    assert all(wanted.get(name) == template and is_copy_name(name, template) for name, template in left.items())
    assert not set(made(found)) & (set(copies) | set(AGENTS))
    assert len(found.make) + len(found.refused) + len(set(copies) - set(found.end)) == len(wanted)
