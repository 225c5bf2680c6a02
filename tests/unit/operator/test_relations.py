"""Which changes of what an owner owns it must look at, and how soon."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from ganglion_operator.core.kinds import POD, STATEFULSET, Kind
from ganglion_operator.core.trim import Trimmed
from ganglion_operator.engine.relations import CHILD_SECONDS, NUMBERS_SECONDS, owner_delay
from ganglion_operator.engine.store import Store
from tests.support.objects import pod


def delay(kind: Kind, before: dict[str, Any] | None, after: dict[str, Any]) -> float | None:
    store = Store()
    if before is not None:
        store.apply(kind, before)
    change = store.apply(kind, after)
    assert change is not None
    assert not isinstance(after, Trimmed)
    return owner_delay(change)


def changed(body: dict[str, Any], **parts: Any) -> dict[str, Any]:
    """The next picture of `body`; `a__b=1` sets body["a"]["b"]."""
    out = copy.deepcopy(body)
    out["metadata"]["resourceVersion"] = str(int(body["metadata"]["resourceVersion"]) + 1)
    for path, value in parts.items():
        *parents, last = path.split("__")
        holder = out
        for part in parents:
            holder = holder[part]
        holder[last] = value
    return out


WAITING = pod("worker-0", ready=False, phase="Pending")
TROUBLE = [{"name": "agent", "state": {"waiting": {"reason": "ImagePullBackOff", "message": "no"}}}]


@pytest.mark.parametrize(
    ("after", "expected"),
    [
        (changed(WAITING, spec__nodeName="node-2"), None),
        (changed(WAITING, status__phase="Running"), None),
        (changed(WAITING, status__conditions=[{"type": "Ready", "status": "True"}]), CHILD_SECONDS),
        (changed(WAITING, status__containerStatuses=TROUBLE), CHILD_SECONDS),
        (changed(WAITING, metadata__deletionTimestamp="2026-01-01T00:00:00Z"), CHILD_SECONDS),
        (changed(WAITING, metadata__uid="another-life"), CHILD_SECONDS),
        (changed(WAITING, status__phase="Failed"), NUMBERS_SECONDS),
        (changed(WAITING, metadata__annotations={"ganglion.dev/intent-hash": "other"}), NUMBERS_SECONDS),
    ],
)
def test_pods(after: dict[str, Any], expected: float | None) -> None:
    assert delay(POD, WAITING, after) == expected


def test_a_new_pod_is_news_when_it_says_something() -> None:
    assert delay(POD, None, WAITING) == NUMBERS_SECONDS
    assert delay(POD, None, pod("worker-0")) == CHILD_SECONDS


SET = {
    "metadata": {
        "name": "worker", "namespace": "default", "uid": "u", "resourceVersion": "10", "generation": 2, "labels": pod("x")["metadata"]["labels"],
    },
    "spec": {"replicas": 1},
    "status": {"observedGeneration": 1},
}  # fmt: skip


@pytest.mark.parametrize(
    ("after", "expected"),
    [
        (changed(SET, status__replicas=1), None),
        (changed(SET, status__observedGeneration=2), CHILD_SECONDS),
        (changed(SET, metadata__generation=3), CHILD_SECONDS),
        (changed(SET, metadata__annotations={"a": "by hand"}), CHILD_SECONDS),
        (changed(SET, metadata__deletionTimestamp="2026-01-01T00:00:00Z"), CHILD_SECONDS),
    ],
)
def test_statefulsets(after: dict[str, Any], expected: float | None) -> None:
    assert delay(STATEFULSET, SET, after) == expected
