"""kwok: fake nodes beside the real ones, whose pods become Ready at once; for benches of the operator at scale."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
from pathlib import Path
from typing import Any

from hack.kind.provider import Provider
from hack.kind.steps import HERE, KindError, run, wait_until

STAGES = ("node/fast", "node/heartbeat-with-lease", "pod/fast")
PODS_PER_NODE = 250
STOP_SECONDS = 10


def start(provider: Provider, kubeconfig: Path, state: Path, count: int, *, guarded: bool = False) -> None:
    """Start kwok on this machine against the cluster and register `count` fake nodes, then wait until they are Ready.

    Arguments:
        state: directory for its pid, log and stages; `stop` finds it there.
        guarded: kwok ends with the calling thread's process, however that dies; else it outlives it, as a kind cluster does.
    """
    stop(state)
    stages = state / "kwok-stages.yaml"
    stages.write_text("---\n".join(path.read_text() for path in _stage_files()))
    command = [
        *(["setpriv", "--pdeathsig", "KILL", "--"] if guarded else []),
        str(provider.tool("kwok")),
        f"--kubeconfig={kubeconfig}",
        f"--config={stages}",
        "--manage-all-nodes=false",
        "--manage-nodes-with-annotation-selector=kwok.x-k8s.io/node=fake",
        "--node-lease-duration-seconds=40",
    ]
    with (state / "kwok.log").open("wb") as log:
        child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, start_new_session=not guarded)
    (state / "kwok.pid").write_text(f"{child.pid} {_started(child.pid)}")
    kubectl = [str(provider.tool("kubectl")), "--kubeconfig", str(kubeconfig)]
    nodes = {"apiVersion": "v1", "kind": "List", "items": [_node(number) for number in range(count)]}
    run([*kubectl, "apply", "--server-side", "-f", "-"], stdin=json.dumps(nodes), timeout=120)

    def ready() -> bool:
        if child.poll() is not None:
            raise KindError(f"kwok ended with status {child.returncode}; its log: {state / 'kwok.log'}")
        listed = json.loads(run([*kubectl, "get", "nodes", "-l", "type=kwok", "-o", "json"], timeout=60))["items"]
        up = {item["metadata"]["name"] for item in listed if _is_ready(item)}
        return up >= {f"kwok-{number}" for number in range(count)}

    wait_until(f"{count} fake nodes Ready", ready, timeout=120)


def stop(state: Path) -> None:
    """End the kwok that `start` left in this state directory; absence is fine."""
    record = state / "kwok.pid"
    if not record.exists():
        return
    pid, started = record.read_text().split()
    # The start time tells our process from a stranger that got its number later.
    if _started(int(pid)) == started:
        with contextlib.suppress(ProcessLookupError):
            _end(int(pid))
    record.unlink()


def _end(pid: int) -> None:
    handle = os.pidfd_open(pid)
    try:
        signal.pidfd_send_signal(handle, signal.SIGTERM)
        if not select.select([handle], [], [], STOP_SECONDS)[0]:
            signal.pidfd_send_signal(handle, signal.SIGKILL)
    finally:
        os.close(handle)


def _started(pid: int) -> str:
    try:
        # Field 22, counted behind the program's name, which may hold blanks.
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except OSError:
        return "gone"


def _is_ready(node: dict[str, Any]) -> bool:
    return any(c["type"] == "Ready" and c["status"] == "True" for c in node["status"].get("conditions", []))


def _stage_files() -> list[Path]:
    module = run(["go", "mod", "download", "-json", "sigs.k8s.io/kwok"], cwd=HERE / "go" / "kwok", timeout=120)
    base = Path(json.loads(module)["Dir"]) / "kustomize" / "stage"
    return [path for stage in STAGES for path in sorted((base / stage).glob("*.yaml")) if path.stem != "kustomization"]


def _node(number: int) -> dict[str, object]:
    capacity = {"cpu": "32", "memory": "256Gi", "pods": str(PODS_PER_NODE)}
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": f"kwok-{number}",
            "annotations": {"kwok.x-k8s.io/node": "fake"},
            "labels": {"type": "kwok", "kubernetes.io/os": "linux"},
        },
        "spec": {"taints": [{"key": "kwok", "effect": "NoSchedule"}]},
        "status": {"allocatable": capacity, "capacity": capacity},
    }
