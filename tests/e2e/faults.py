"""Faults on the cluster: the kernel's own signals to one container of one pod."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.support.cluster import KindCluster


def signal_container(kind: KindCluster, namespace: str, pod: str, container: str, name: str) -> None:
    """Send a signal to a container's first process from its node.

    A process cannot kill or stop its own pid namespace's init from inside, so this asks the node's containerd.

    Arguments:
        name: `SIGKILL`, `SIGSTOP`, ...

    Raises:
        LookupError: the pod has no such running container.
    """
    found = kind.get("pod", pod, "-n", namespace)
    state = _state(found, container)
    if "running" not in state.get("state", {}):
        raise LookupError(f"pod {pod}: no running container {container!r}")
    identifier = state["containerID"].removeprefix("containerd://")
    kind.on_node(found["spec"]["nodeName"], "ctr", "--namespace", "k8s.io", "task", "kill", "--signal", name, identifier)


def kill_container(kind: KindCluster, namespace: str, pod: str, container: str) -> None:
    """SIGKILL a container's processes, as the out-of-memory killer would; see `signal_container`."""
    signal_container(kind, namespace, pod, container, "SIGKILL")


def _state(pod: dict[str, Any], container: str) -> dict[str, Any]:
    status = pod["status"]
    states = (*status.get("initContainerStatuses", ()), *status.get("containerStatuses", ()))
    return next((state for state in states if state["name"] == container), {})


def kill(kind: KindCluster, namespace: str, pod: str, container: str) -> Callable[[], bool]:
    """As `kill_container`; the answer tells whether the container has been started again since, and its pod is Ready."""
    restarts = _state(kind.get("pod", pod, "-n", namespace), container).get("restartCount", 0)
    kill_container(kind, namespace, pod, container)

    def ready_again() -> bool:
        found = kind.get("pod", pod, "-n", namespace)
        conditions = {condition["type"]: condition["status"] for condition in found["status"]["conditions"]}
        return _state(found, container).get("restartCount", 0) > restarts and conditions.get("Ready") == "True"

    return ready_again
