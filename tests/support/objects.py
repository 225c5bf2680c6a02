"""Objects of the three kinds, and their workloads and pods as an API server stores them."""

from __future__ import annotations

import itertools
from typing import Any

from ganglion.api.names import ANNOTATION_INTENT, LABEL_AGENT, LABEL_NAMESERVER, MANAGED_BY

_versions = itertools.count(1)
NOW = "2026-01-01T00:00:00Z"


def custom(kind: str, name: str, spec: dict[str, Any] | None = None, *, namespace: str = "default", **metadata: Any) -> dict[str, Any]:
    """A stored object of ganglion.dev; `status` goes beside `metadata` fields."""
    status = metadata.pop("status", {})
    return {
        "apiVersion": "ganglion.dev/v1alpha1",
        "kind": kind,
        "metadata": {
            "name": name, "namespace": namespace, "uid": f"uid-{kind}-{name}", "generation": 1,
            "resourceVersion": str(next(_versions)), "creationTimestamp": NOW, **metadata,
        },
        "spec": spec or {},
        "status": status,
    }  # fmt: skip


def name_server(name: str = "zoo", spec: dict[str, Any] | None = None, *, keys: bool = True, **metadata: Any) -> dict[str, Any]:
    """A NameServer, by default one whose keys are made."""
    status = (
        {"endpoint": f"tcp://{name}.default.svc.cluster.local.:7500", "publicKey": "k" * 40, "keySecret": f"{name}-key-0"} if keys else {}
    )
    return custom("NameServer", name, spec, **{"status": status, **metadata})


def channel(name: str = "tasks", spec: dict[str, Any] | None = None, **metadata: Any) -> dict[str, Any]:
    """A PushPull channel of NameServer zoo."""
    return custom("Channel", name, {"nameServerRef": {"name": "zoo"}, "pattern": "PushPull", **(spec or {})}, **metadata)


def agent(name: str = "worker", spec: dict[str, Any] | None = None, **metadata: Any) -> dict[str, Any]:
    """A worker that pulls from channel tasks."""
    channels = [{"alias": "in", "channelRef": {"name": "tasks"}, "role": "Pull", "handler": "work"}]
    return custom(
        "Agent", name, {"nameServerRef": {"name": "zoo"}, "class": "demo:Worker", "channels": channels, **(spec or {})}, **metadata
    )


def pod(
    name: str,
    *,
    owner: str = "worker",
    workload_uid: str = "uid-workload",
    intent: str = "now",
    ready: bool = True,
    phase: str = "Running",
    labels: dict[str, str] | None = None,
    status: dict[str, Any] | None = None,
    **metadata: Any,
) -> dict[str, Any]:
    """A pod of an agent's workload."""
    conditions = [{"type": "Ready", "status": "True" if ready else "False"}]
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name, "namespace": "default", "uid": f"uid-{name}", "resourceVersion": str(next(_versions)), "creationTimestamp": NOW,
            "labels": {
                "app.kubernetes.io/managed-by": MANAGED_BY, LABEL_AGENT: owner, LABEL_NAMESERVER: "zoo", **(labels or {}),
            },
            "annotations": {ANNOTATION_INTENT: intent},
            "ownerReferences": [{"kind": "StatefulSet", "name": owner, "uid": workload_uid, "controller": True}],
            **metadata,
        },
        "spec": {"nodeName": "node-1"},
        "status": {"phase": phase, "conditions": conditions, **(status or {})},
    }  # fmt: skip
