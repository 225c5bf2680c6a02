"""Which pods to replace now: those of an older intent, and those on nodes that will not come back."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime

from ganglion.api.names import ANNOTATION_INTENT
from ganglion_operator.core.kinds import Body

MAX_UNAVAILABLE_PERCENT = 25
LOST_NODE_SECONDS = 15.0
"""Beyond a pod's own deadline, on a node that is known not to be ready."""
LOST_UNKNOWN_SECONDS = 120.0
"""The same when nothing is known about the node (an operator without the right to read nodes)."""


def intent_of(pod: Body) -> str | None:
    """Intent hash that a pod was made with."""
    annotations = pod["metadata"].get("annotations") or {}
    found = annotations.get(ANNOTATION_INTENT)
    return found if isinstance(found, str) else None


def deleting(pod: Body) -> bool:
    """Whether its deletion has begun."""
    return bool(pod["metadata"].get("deletionTimestamp"))


def ready(pod: Body) -> bool:
    """Whether a pod serves: Ready and not leaving."""
    if deleting(pod):
        return False
    return any(c.get("type") == "Ready" and c.get("status") == "True" for c in pod["status"].get("conditions") or ())


def active(pod: Body) -> bool:
    """Whether a pod exists and has not ended."""
    return pod["status"].get("phase") not in ("Succeeded", "Failed")


def ordinal(pod: Body) -> int:
    """Number at the end of a StatefulSet pod's name; -1 when there is none."""
    tail = str(pod["metadata"]["name"]).rpartition("-")[2]
    return int(tail) if tail.isascii() and tail.isdigit() else -1


def outdated(pods: Iterable[Body], intent: str, desired: int, min_available: int | None = None) -> list[Body]:
    """Pods to delete now so that they come back with `intent`.

    Pods that serve nobody go at once; of those that serve, as many as keeps 75 % of `desired` serving (at least one goes).

    Args:
        desired: pods wanted; those with a higher ordinal leave by themselves.
        min_available: pods that must stay, if the user said so.
    """
    mine = [pod for pod in pods if not deleting(pod) and active(pod) and 0 <= ordinal(pod) < desired]
    old = [pod for pod in mine if intent_of(pod) != intent]
    serving = sum(ready(pod) for pod in mine)
    allowed = max(1, desired * MAX_UNAVAILABLE_PERCENT // 100)
    if min_available is not None:
        allowed = max(1, min(allowed, desired - min_available))
    budget = max(0, allowed - (desired - serving))
    idle = [pod for pod in old if not ready(pod)]
    busy = sorted((pod for pod in old if ready(pod)), key=ordinal, reverse=True)
    return idle + busy[:budget]


def lost(pods: Iterable[Body], nodes: Mapping[str, bool | None], now: datetime) -> tuple[list[Body], float | None]:
    """Pods to remove by force, and seconds until one of the others may be due.

    A pod whose node is gone never finishes its deletion, and a StatefulSet never replaces it. Fencing by incarnation makes the
    replacement safe even if the node still runs.

    Args:
        nodes: node name → ready, False (not ready or gone), or None when it cannot be told.
    """
    due, wait = [], None
    for pod in pods:
        deadline = pod["metadata"].get("deletionTimestamp")
        if not deadline:
            continue
        node = pod["spec"].get("nodeName")
        state = nodes.get(node) if node else False
        bound = LOST_UNKNOWN_SECONDS if state is None else LOST_NODE_SECONDS
        left = bound - (now - parse_time(deadline)).total_seconds()
        if not state and left <= 0:
            due.append(pod)
        else:
            # A node that is ready now may not be in a while: look again.
            wait = min(wait if wait is not None else 60.0, max(left, 5.0))
    return due, wait


def overdue(pods: Iterable[Body], now: datetime) -> set[str]:
    """Nodes whose state matters: they hold pods past the end of their deletion."""
    return {
        str(pod["spec"]["nodeName"])
        for pod in pods
        if pod["metadata"].get("deletionTimestamp")
        and pod["spec"].get("nodeName")
        and parse_time(pod["metadata"]["deletionTimestamp"]) <= now
    }


def parse_time(text: str) -> datetime:
    """An RFC 3339 time of the API."""
    return datetime.fromisoformat(text)
