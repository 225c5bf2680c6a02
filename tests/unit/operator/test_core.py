"""Pure decisions of the operator."""

from __future__ import annotations

import base64
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import zmq
from hypothesis import given
from hypothesis import strategies as st
from zmq.utils import z85 as reference

from ganglion.api import Agent
from ganglion_operator.core.curve import fingerprint, key_pair, z85
from ganglion_operator.core.drift import contains, drifted, stamp
from ganglion_operator.core.kinds import AGENT, CHANNEL, CONFIGMAP, POD, SERVICE, STATEFULSET
from ganglion_operator.core.ownership import ensure
from ganglion_operator.core.rollout import lost, outdated, overdue
from ganglion_operator.core.trim import trim
from ganglion_operator.core.trouble import no_pods, trouble
from tests.support.objects import agent, pod

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)


def seen(raw: dict[str, Any]) -> dict[str, Any]:
    return trim(POD, raw)


# ---------------------------------------------------------------- keys


@given(st.binary(min_size=32, max_size=32))
def test_keys_are_those_of_libzmq(seed: bytes) -> None:
    pair = key_pair(seed)
    assert pair.secret.encode() == reference.encode(seed)
    assert pair.public.encode() == zmq.curve_public(pair.secret.encode())


def test_z85_of_the_specification() -> None:
    assert z85(bytes.fromhex("864FD26FB559F75B")) == "HelloWorld"
    with pytest.raises(ValueError, match="5 bytes"):
        z85(b"12345")


def test_fingerprints_are_names() -> None:
    assert fingerprint("a" * 40).isalnum()
    assert fingerprint("a" * 40) != fingerprint("b" * 40)


# ---------------------------------------------------------------- drift


@pytest.mark.parametrize(
    ("desired", "actual", "same"),
    [
        ({"a": 1}, {"a": 1, "defaulted": 2}, True),
        ({"a": 1}, {"a": 2}, False),
        ({"cpu": "0.5"}, {"cpu": "500m"}, True),
        ({"cpu": 1}, {"cpu": "1"}, True),
        ({"memory": "1Gi"}, {"memory": "1024Mi"}, True),
        ({"memory": "1G"}, {"memory": "1Gi"}, False),
        ({"a": [1, 2]}, {"a": [1]}, False),
        ({"a": [{"b": 1}]}, {"a": [{"b": 1, "c": 2}]}, True),
        ({"a": []}, {}, True),
        ({"a": {}}, {}, True),
        ({"a": ""}, {}, True),
        ({"a": True}, {"a": "True"}, False),
        ({"a": "x"}, {}, False),
    ],
)
def test_contains(desired: Any, actual: Any, same: bool) -> None:
    assert contains(desired, actual) is same


def _statefulset(**metadata: Any) -> dict[str, Any]:
    return {
        "metadata": {"name": "worker", "namespace": "default", "labels": {"a": "b"}, **metadata},
        "spec": {"replicas": 2, "template": {"spec": {"nodeSelector": {"disk": "ssd"}}}},
    }


def test_a_removed_field_is_drift_although_what_exists_contains_the_rest() -> None:
    stored = trim(STATEFULSET, stamp(_statefulset()))
    assert not drifted(stamp(_statefulset()), stored)
    wanted = _statefulset()
    del wanted["spec"]["template"]["spec"]["nodeSelector"]
    assert drifted(stamp(wanted), stored)


def test_an_edit_by_hand_is_drift_although_the_stamp_is_the_same() -> None:
    edited = stamp(_statefulset())
    edited["spec"] = {**edited["spec"], "replicas": 9}
    assert drifted(stamp(_statefulset()), trim(STATEFULSET, edited))


def test_a_configmap_is_compared_by_content() -> None:
    body = {"metadata": {"name": "c", "namespace": "default"}, "data": {"jwks.json": "{}"}}
    stored = trim(CONFIGMAP, stamp(body))
    assert "data" not in stored
    assert not drifted(stamp(body), stored)
    assert drifted(stamp({**body, "data": {"jwks.json": "[]"}}), stored)


# ---------------------------------------------------------------- ownership


def _owner() -> Agent:
    return Agent.parse(agent())


@pytest.mark.parametrize(
    ("reference", "alive", "action", "conflict", "waiting"),
    [
        ("missing", True, "Create", False, False),
        (None, True, None, True, False),
        ({"kind": "Agent", "name": "worker", "uid": "uid-Agent-worker", "controller": True}, True, "Apply", False, False),
        ({"kind": "Agent", "name": "worker", "uid": "former life", "controller": True}, False, None, False, True),
        ({"kind": "Agent", "name": "other", "uid": "other", "controller": True}, True, None, True, False),
        ({"kind": "Rollout", "name": "x", "uid": "x", "controller": True}, True, None, True, False),
    ],
)
def test_create_adopt_or_refuse(reference: Any, alive: bool, action: str | None, conflict: bool, waiting: bool) -> None:
    existing = None
    if reference != "missing":
        body = _statefulset(uid="u", ownerReferences=[reference] if reference else [])
        existing = trim(STATEFULSET, body)
    result = ensure(STATEFULSET, _statefulset(), _owner(), existing, lambda _: alive)
    assert (type(result.action).__name__ if result.action else None, bool(result.conflict), result.waiting) == (action, conflict, waiting)


def test_an_apply_names_the_life_that_it_means() -> None:
    reference = {"kind": "Agent", "name": "worker", "uid": "uid-Agent-worker", "controller": True}
    existing = trim(STATEFULSET, _statefulset(uid="u", ownerReferences=[reference]))
    result = ensure(STATEFULSET, _statefulset(), _owner(), existing, lambda _: True)
    assert result.action is not None
    assert result.action.body["metadata"]["uid"] == "u"  # type: ignore[union-attr]


# ---------------------------------------------------------------- rollout


def _pods(*states: str) -> list[dict[str, Any]]:
    """`n` new, `o` old; upper case is ready; `x` old and leaving."""
    out = []
    for number, state in enumerate(states):
        more: dict[str, Any] = {"deletionTimestamp": "2026-01-01T11:00:00Z"} if state == "x" else {}
        out.append(seen(pod(f"worker-{number}", intent="now" if state in "nN" else "old", ready=state.isupper(), **more)))
    return out


@pytest.mark.parametrize(
    ("states", "desired", "replaced"),
    [
        ("NNNN", 4, []),
        ("OOOO", 4, [3]),
        ("OOOOOOOO", 8, [7, 6]),
        ("O", 1, [0]),
        ("OOOn", 4, []),  # one is down already
        ("OOON", 4, [2]),
        ("ooOO", 4, [0, 1]),  # pods that serve nobody go at once, and use up the allowance
        ("xOOO", 4, []),
        ("OOOO", 2, [1]),  # ordinals 2 and 3 leave by themselves
        ("OO", 4, []),
    ],
)
def test_rollout_keeps_three_quarters_serving(states: str, desired: int, replaced: list[int]) -> None:
    found = outdated(_pods(*states), "now", desired)
    assert [int(p["metadata"]["name"][-1]) for p in found] == replaced


def test_min_available_narrows_the_rollout() -> None:
    assert len(outdated(_pods(*"OOOOOOOO"), "now", 8, 7)) == 1


@given(st.text(alphabet="nNoOx", max_size=12), st.integers(0, 12))
def test_rollout_never_takes_more_than_allowed(states: str, desired: int) -> None:
    pods = _pods(*states)
    serving = sum(s.isupper() for s in states[:desired])
    taken = [p for p in outdated(pods, "now", desired) if states[int(p["metadata"]["name"].rpartition("-")[2])].isupper()]
    assert serving - len(taken) >= min(serving, desired - max(1, desired // 4))


@pytest.mark.parametrize(
    ("seconds", "node", "gone"),
    [
        (-5, False, False),
        (5, False, False),
        (20, False, True),
        (20, True, False),
        (9999, True, False),
        (20, None, False),
        (200, None, True),
    ],
)
def test_pods_on_lost_nodes_are_removed_after_their_deadline(seconds: int, node: bool | None, gone: bool) -> None:
    deadline = (NOW - timedelta(seconds=seconds)).isoformat().replace("+00:00", "Z")
    leaving = seen(pod("worker-0", deletionTimestamp=deadline))
    due, wait = lost([leaving, seen(pod("worker-1"))], {"node-1": node}, NOW)
    assert bool(due) is gone
    assert (wait is None) is gone
    assert overdue([leaving], NOW) == ({"node-1"} if seconds >= 0 else set())


# ---------------------------------------------------------------- trouble


def _status(container: dict[str, Any], *, init: bool = False) -> dict[str, Any]:
    return {
        "initContainerStatuses" if init else "containerStatuses": [{"name": "runtime" if init else "agent", "restartCount": 3, **container}]
    }


@pytest.mark.parametrize(
    ("status", "reason", "says"),
    [
        (_status({"state": {"waiting": {"reason": "ErrImagePull", "message": "no such image"}}}), "ImagePullBackOff", "no such image"),
        (_status({"state": {"waiting": {"reason": "ImagePullBackOff"}}}, init=True), "ImagePullBackOff", "runtime"),
        (_status({"state": {"waiting": {"reason": "InvalidImageName", "message": "bad"}}}), "InvalidImageName", "bad"),
        (
            _status({
                "state": {"waiting": {"reason": "CrashLoopBackOff"}},
                "lastState": {"terminated": {"exitCode": 78, "message": 'class: "demo:Nope": no such class'}},
            }),
            "ClassNotLoadable",
            "demo:Nope",
        ),
        (
            _status({
                "state": {"waiting": {"reason": "CrashLoopBackOff"}},
                "lastState": {"terminated": {"exitCode": 1, "message": "Traceback\n  x\nValueError: no"}},
            }),
            "CrashLoopBackOff",
            "exited with 1: ValueError: no (3 restarts)",
        ),
        (_status({"state": {"running": {}}, "lastState": {"terminated": {"exitCode": 137, "reason": "OOMKilled"}}}), "OOMKilled", "memory"),
        (_status({"state": {"terminated": {"exitCode": 2, "reason": "Error"}}}), "Failing", "exited with 2: Error"),
        ({"conditions": [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/3 nodes"}]}, "Unschedulable", "0/3"),
        ({"phase": "Failed", "reason": "Evicted", "message": "low on memory"}, "Evicted", "low on memory"),
    ],
)  # fmt: skip
def test_trouble_in_words(status: dict[str, Any], reason: str, says: str) -> None:
    found = trouble([seen(pod("worker-0")), seen(pod("worker-1", ready=False, status=status))])
    assert found is not None
    assert found[0] == reason
    assert says in found[1]
    assert "worker-1" in found[1]


def test_a_ready_or_leaving_pod_is_no_trouble() -> None:
    status = _status({"state": {"running": {}}, "lastState": {"terminated": {"exitCode": 1}}})
    well = seen(pod("worker-0", status=status))
    well["status"]["conditions"] = [{"type": "Ready", "status": "True"}]
    leaving = seen(pod("worker-1", ready=False, status=status, deletionTimestamp="2026-01-01T11:00:00Z"))
    assert trouble([well, leaving]) is None


def test_a_cluster_that_makes_no_pods_is_told_after_a_while() -> None:
    body = {"metadata": {"name": "worker", "creationTimestamp": "2026-01-01T11:59:50Z"}}
    assert no_pods(body, 2, [], NOW) == (None, 20.0)
    later, _ = no_pods(body, 2, [], NOW + timedelta(seconds=30))
    assert later is not None
    assert later[0] == "PodsNotCreated"
    assert no_pods(body, 2, [seen(pod("worker-0"))], NOW + timedelta(hours=1)) == (None, None)


# ---------------------------------------------------------------- kinds


def test_paths() -> None:
    assert POD.path() == "/api/v1/pods"
    assert AGENT.path("a", "b", "status") == "/apis/ganglion.dev/v1alpha1/namespaces/a/agents/b/status"
    assert SERVICE.api_version == "v1"
    assert CHANNEL.api_version == "ganglion.dev/v1alpha1"


def test_a_secret_half_never_enters_the_cache() -> None:
    from ganglion_operator.core.kinds import SECRET

    body = {"metadata": {"name": "k"}, "data": {"public": base64.b64encode(b"p").decode(), "secret": "c2VjcmV0"}}
    assert "c2VjcmV0" not in str(trim(SECRET, body))
