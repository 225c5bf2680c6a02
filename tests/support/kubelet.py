"""What a kubelet would say about pods, for clusters without nodes: tests decide which pods are ready, fail, or hang on a dead node."""

from __future__ import annotations

import json
from typing import Any

from tests.support.domain import Cluster
from tests.support.wait import wait_for


def pods(cluster: Cluster, agent: str) -> dict[str, dict[str, Any]]:
    """Pods of an agent by name."""
    _, body = cluster.server.request("GET", cluster.path("pods") + f"?labelSelector=ganglion.dev/agent%3D{agent}")
    return {item["metadata"]["name"]: item for item in body["items"]}


def intent(pod: dict[str, Any]) -> str:
    return str(pod["metadata"]["annotations"]["ganglion.dev/intent-hash"])


def make_ready(cluster: Cluster, name: str) -> None:
    """The pod runs and is Ready, unless it has gone meanwhile."""
    status, body = cluster.server.merge(
        cluster.path("pods", name) + "/status", {"status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}}
    )
    assert status in (200, 404), body


def make_all_ready(cluster: Cluster, agent: str, count: int) -> None:
    """Return when the agent has `count` pods and all are Ready."""

    def reached() -> bool:
        found = pods(cluster, agent)
        for name, pod in found.items():
            conditions = pod["status"].get("conditions", ())
            if not any(c["type"] == "Ready" and c["status"] == "True" for c in conditions):
                make_ready(cluster, name)
        return len(found) == count

    wait_for(reached, timeout=60, what=f"{count} pods of {agent}")


def end(cluster: Cluster, name: str, code: int, message: str = "") -> None:
    """The agent's container of a pod that is not restarted has ended."""
    terminated: dict[str, Any] = {"exitCode": code, "reason": "Error" if code else "Completed", "message": message}
    status: dict[str, Any] = {
        "phase": "Failed" if code else "Succeeded",
        "containerStatuses": [
            {"name": "agent", "image": "i", "imageID": "", "ready": False, "restartCount": 0, "state": {"terminated": terminated}}
        ],
    }
    cluster.patch("pods", name, {"status": status}, "status")


def bind(cluster: Cluster, name: str, node: str, *, ready: bool) -> None:
    """Put the pod on a node of that state; nothing runs there, so its deletion never ends by itself."""
    server = cluster.server
    server.request("POST", "/api/v1/nodes", {"metadata": {"name": node}})
    state = {"status": {"conditions": [{"type": "Ready", "status": "True" if ready else "Unknown", "reason": "Test"}]}}
    server.kubectl("patch", "node", node, "--subresource=status", "--type=merge", "-p", json.dumps(state))
    status, body = server.request(
        "POST",
        cluster.path("pods", name) + "/binding",
        {"metadata": {"name": name}, "target": {"apiVersion": "v1", "kind": "Node", "name": node}},
    )
    assert status == 201, body
