"""From what is observed to conditions: every reason of Ready, and transitions of time."""

from __future__ import annotations

from typing import Any

import pytest

from ganglion.api import AgentStatus, Condition
from ganglion.api.nameserver import ChannelCount
from ganglion.planner import (
    AgentObserved,
    ChannelObserved,
    NameServerObserved,
    Verdict,
    agent_status,
    channel_status,
    merge_conditions,
    name_server_status,
    plan_agent,
    plan_channel,
)
from ganglion.planner.reasons import CONDITIONS
from tests.support.manifests import agent, channel, link, name_server, with_metadata
from tests.unit.planner.test_verdicts import GONE, HEALTHY, view

NOW, LATER = "2026-01-01T00:00:00Z", "2026-01-01T00:01:00Z"


def conditions(observed: AgentObserved, server: bool = True, **spec: Any) -> dict[str, Condition]:
    documents = [name_server()] if server else []
    domain = view(*documents, channel(), with_metadata(agent(**spec), generation=4))
    status = agent_status(domain.agents["worker"], plan_agent(domain.agents["worker"], domain), observed, NOW)
    assert status.observed_generation == 4
    assert {condition.observed_generation for condition in status.conditions} == {4}
    for condition in status.conditions:
        assert condition.reason in CONDITIONS["Agent"][condition.type] or condition.type == "Ready"
    return {condition.type: condition for condition in status.conditions}


READY: dict[str, tuple[AgentObserved, dict[str, Any], str, str]] = {
    "all ready": (AgentObserved(replicas=2, ready=2, updated=2), {"replicas": 2}, "True", "Running"),
    "no pods yet": (AgentObserved(), {"replicas": 2}, "False", "Starting"),
    "one of two": (AgentObserved(replicas=2, ready=1, updated=2), {"replicas": 2}, "False", "Starting"),
    "old pods": (AgentObserved(replicas=2, ready=2, updated=1), {"replicas": 2}, "False", "RollingOut"),
    "too many pods": (AgentObserved(replicas=3, ready=3, updated=3), {"replicas": 2}, "True", "ScalingDown"),
    "no replicas wanted": (AgentObserved(), {"replicas": 0}, "True", "ScaledToZero"),
    "suspended": (AgentObserved(replicas=1, ready=1, updated=1), {"suspend": True}, "False", "Suspended"),
    "pod in trouble": (AgentObserved(replicas=1, problem=("ImagePullBackOff", "x")), {}, "False", "ImagePullBackOff"),
    "name taken": (AgentObserved(conflict="StatefulSet worker belongs to Helm"), {}, "False", "NameConflict"),
    "job runs": (AgentObserved(replicas=2, ready=1, succeeded=1), {"run": "Once", "replicas": 2}, "True", "Running"),
    "job starts": (AgentObserved(replicas=1), {"run": "Once"}, "False", "Starting"),
    "job done": (AgentObserved(succeeded=1, finished=True), {"run": "Once"}, "True", "Completed"),
    "job failed": (AgentObserved(failed=7, gave_up=True, problem=("Error", "boom")), {"run": "Once"}, "False", "Failed"),
}


@pytest.mark.parametrize(("observed", "spec", "status", "reason"), READY.values(), ids=READY)
def test_ready(observed: AgentObserved, spec: dict[str, Any], status: str, reason: str) -> None:
    ready = conditions(observed, **spec)["Ready"]
    assert (ready.status, ready.reason) == (status, reason)


def test_unresolved_reference_is_the_reason() -> None:
    ready = conditions(AgentObserved(replicas=1, ready=1, updated=1), server=False)["Ready"]
    assert (ready.status, ready.reason) == ("False", "NotFound")
    assert "NameServer 'demo' does not exist; create it" in ready.message


def test_failed_job_shows_its_last_trouble() -> None:
    found = conditions(AgentObserved(failed=7, gave_up=True, problem=("Error", "boom")), run="Once")
    assert found["Ready"].message == "gave up after 7 failures; last: Error: boom"
    assert (found["Complete"].status, found["Complete"].reason) == ("False", "Failed")


def test_edit_of_a_started_job_is_shown() -> None:
    found = conditions(AgentObserved(replicas=1, ready=1, spec_change_ignored="delete and create it"), run="Once")
    assert (found["SpecChangeIgnored"].status, found["SpecChangeIgnored"].reason) == ("True", "AlreadyStarted")
    assert found["Complete"].reason == "Running"
    assert "SpecChangeIgnored" not in conditions(AgentObserved(), run="Once")


@pytest.mark.parametrize(
    ("observed", "channels", "status", "reason"),
    [
        (AgentObserved(), [], "True", "NoChannels"),
        (AgentObserved(), [link()], "Unknown", "NotJoined"),
        (AgentObserved(joined=2, wired=1), [link()], "False", "WaitingForPeers"),
        (AgentObserved(joined=2, wired=2), [link()], "True", "Connected"),
    ],
)
def test_peers(observed: AgentObserved, channels: list[dict[str, Any]], status: str, reason: str) -> None:
    peers = conditions(observed, channels=channels)["PeersConnected"]
    assert (peers.status, peers.reason) == (status, reason)


def test_peers_of_a_finished_run() -> None:
    assert conditions(AgentObserved(finished=True, succeeded=1), run="Once", channels=[link()])["PeersConnected"].reason == "Completed"


def test_counts_are_copied_and_what_the_operator_set_is_kept() -> None:
    domain = view(*HEALTHY)
    old = AgentStatus(selector="a=b", runtime_image="i", runtime_generation=2, intent_hash="old")
    worker = domain.agents["worker"].model_copy(update={"status": old})
    plan = plan_agent(worker, domain)
    status = agent_status(worker, plan, AgentObserved(replicas=3, ready=2, updated=1, succeeded=4, failed=5, joined=2), NOW)
    assert (status.replicas, status.ready_replicas, status.updated_replicas, status.joined) == (3, 2, 1, 2)
    assert (status.succeeded, status.failed) == (4, 5)
    assert (status.selector, status.runtime_image, status.runtime_generation) == ("a=b", "i", 2)
    assert status.intent_hash == plan.intent
    lost = view(channel(), agent(channels=[link()]))
    unresolved = plan_agent(lost.agents["worker"], lost)
    assert agent_status(worker, unresolved, AgentObserved(), NOW).intent_hash == "old"


def test_channel_status_carries_traffic() -> None:
    domain = view(*HEALTHY)
    count = ChannelCount(name="tasks", accepted=9, acked=5, in_flight=2, dead_lettered=1, dropped=1, delivered=6)
    status = channel_status(domain.channels["tasks"], plan_channel(domain.channels["tasks"], domain), ChannelObserved(count), NOW)
    assert (status.accepted, status.acked, status.in_flight, status.dead_lettered, status.dropped) == (9, 5, 2, 1, 1)
    assert (status.bind, status.delivery, status.senders, status.receivers) == ("Push", "AtLeastOnce", 1, 1)
    assert (status.conditions[0].type, status.conditions[0].reason) == ("Ready", "Usable")
    alone = view(name_server(), channel())
    lonely = channel_status(alone.channels["tasks"], plan_channel(alone.channels["tasks"], alone), ChannelObserved(), NOW)
    assert (lonely.conditions[0].status, lonely.conditions[0].reason) == ("False", "NoPush")


@pytest.mark.parametrize(
    ("observed", "gone", "ready", "available"),
    [
        (NameServerObserved(ready=True), False, ("True", "Serving"), ("True", "Serving")),
        (NameServerObserved(), False, ("False", "Starting"), ("False", "Starting")),
        (NameServerObserved(problem=("ImagePullBackOff", "x")), False, ("False", "ImagePullBackOff"), ("False", "ImagePullBackOff")),
        (NameServerObserved(conflict="taken"), False, ("False", "NameConflict"), ("False", "NameConflict")),
        (NameServerObserved(ready=True), True, ("False", "ShuttingDown"), ("True", "ShuttingDown")),
        (NameServerObserved(), True, ("False", "ShuttingDown"), ("False", "ShuttingDown")),
    ],
)
def test_name_server(observed: NameServerObserved, gone: bool, ready: tuple[str, str], available: tuple[str, str]) -> None:
    server = view(with_metadata(name_server(), **GONE) if gone else name_server()).name_servers["demo"]
    found = {verdict.type: (verdict.status, verdict.reason) for verdict in name_server_status(server, observed, NOW)}
    assert found == {"Ready": ready, "Available": available}


@pytest.mark.parametrize(
    ("observed", "expected"),
    [
        (NameServerObserved(agents=4096, channels=1024), None),
        (NameServerObserved(agents=4097), ("False", "TooManyAgents", "found 4097 Agents that refer to it; status.agents counts 4096")),
        (
            NameServerObserved(channels=1025),
            ("False", "TooManyChannels", "found 1025 Channels that refer to it; status.channels counts 1024"),
        ),
    ],
)
def test_more_than_a_status_can_count_is_told(observed: NameServerObserved, expected: tuple[str, str, str] | None) -> None:
    verdicts = name_server_status(view(name_server()).name_servers["demo"], observed, NOW)
    found = next((verdict for verdict in verdicts if verdict.type == "Counted"), None)
    if expected is None:
        assert found is None
    else:
        assert found is not None
        assert (found.status, found.reason, found.message[: len(expected[2])]) == expected
        assert found.reason in CONDITIONS["NameServer"]["Counted"]


def test_one_is_no_plural() -> None:
    domain = view(*HEALTHY)
    worker = domain.agents["worker"]
    for extra, text in ((1, "1 replica is draining"), (2, "2 replicas are draining")):
        observed = AgentObserved(replicas=1 + extra, ready=1, updated=1 + extra)
        ready = agent_status(worker, plan_agent(worker, domain), observed, NOW).conditions[0]
        assert (ready.reason, ready.message) == ("ScalingDown", text)


def test_an_agent_that_is_not_counted_says_so() -> None:
    domain = view(*HEALTHY)
    worker = domain.agents["worker"]
    status = agent_status(worker, plan_agent(worker, domain), AgentObserved(replicas=1, ready=1, updated=1, counted=False), NOW)
    peers = next(condition for condition in status.conditions if condition.type == "PeersConnected")
    assert (peers.status, peers.reason) == ("Unknown", "NotCounted")


def test_time_moves_only_with_the_status() -> None:
    first = merge_conditions((), [Verdict("Ready", "False", "Starting"), Verdict("Accepted", "True", "Valid")], 1, NOW)
    same = merge_conditions(first, [Verdict("Ready", "False", "RollingOut", "new words")], 2, LATER)
    assert [(c.type, c.reason, c.last_transition_time, c.observed_generation) for c in same] == [("Ready", "RollingOut", NOW, 2)]
    changed = merge_conditions(same, [Verdict("Ready", "True", "Running")], 2, LATER)
    assert changed[0].last_transition_time == LATER


def test_endless_message_is_cut_to_what_the_schema_allows() -> None:
    assert len(merge_conditions((), [Verdict("Ready", "False", "Failed", "x" * 10_000)], 1, NOW)[0].message) == 4096
