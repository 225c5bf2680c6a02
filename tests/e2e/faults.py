"""Faults on the cluster: the kernel's own signals to one container of one pod."""

from __future__ import annotations

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
    status = found["status"]
    for state in (*status.get("initContainerStatuses", ()), *status.get("containerStatuses", ())):
        if state["name"] == container and "running" in state["state"]:
            identifier = state["containerID"].removeprefix("containerd://")
            kind.on_node(found["spec"]["nodeName"], "ctr", "--namespace", "k8s.io", "task", "kill", "--signal", name, identifier)
            return
    raise LookupError(f"pod {pod}: no running container {container!r}")


def kill_container(kind: KindCluster, namespace: str, pod: str, container: str) -> None:
    """SIGKILL a container's processes, as the out-of-memory killer would; see `signal_container`."""
    signal_container(kind, namespace, pod, container, "SIGKILL")
