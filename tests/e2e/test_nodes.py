"""Faults of nodes and kubelets: a node that hangs for good, and restarts at kubelet's own pace."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import pytest

from tests.e2e.faults import kill_container
from tests.e2e.wordcount import WordCount
from tests.support.cluster import SPARE, KindCluster
from tests.support.wait import wait_for

HOST = "kubernetes.io/hostname"
KUBELET = "/var/lib/kubelet/config.yaml"


def _on(*nodes: str, **spec: Any) -> dict[str, Any]:
    terms = [{"matchExpressions": [{"key": HOST, "operator": "In", "values": list(nodes)}]}]
    affinity = {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}}
    return {"affinity": affinity, "tolerations": [{"key": SPARE, "operator": "Exists"}], **spec}


@pytest.mark.spare
@pytest.mark.timeout(600, func_only=True)
def test_a_node_that_hangs_for_good_costs_nothing(operator: KindCluster) -> None:
    lost = operator.spare
    # A Job's pod holds its work in memory, so it must not hang. Everything but some of the workers runs elsewhere.
    kept = operator.nodes[1]
    spread = {"maxSkew": 1, "topologyKey": HOST, "whenUnsatisfiable": "ScheduleAnyway"}
    patches = {"worker": _on(kept, lost, replicas=4, topologySpreadConstraints=[spread])}
    with operator.namespace("node") as namespace:
        run = WordCount(operator, namespace, patches=patches)
        run.apply()
        run.wait_replicas("worker", 4)
        wait_for(lambda: run.accepted() > 300, timeout=60, interval=0.5, what="work flows")
        before = {pod["metadata"]["uid"] for pod in run.pods("worker") if pod["spec"]["nodeName"] == lost}
        assert before, f"no worker runs on {lost}"
        with operator.paused(lost):

            def healed() -> bool:
                now = run.pods("worker", ready=True)
                elsewhere = all(pod["spec"]["nodeName"] == kept for pod in now)
                return len(now) == 4 and elsewhere and run.condition("zag", "worker", "Ready").get("status") == "True"

            try:
                wait_for(healed, timeout=240, interval=1.0, what="four workers on the other node")
            except TimeoutError as error:
                error.add_note(run.diagnosis())
                raise
            assert not before & {pod["metadata"]["uid"] for pod in run.pods("worker")}
            assert run.condition("zns", "wordcount", "Ready")["status"] == "True"
            run.finish(timeout=300)
        wait_for(lambda: lost in _ready(operator), timeout=120, interval=1.0, what=f"{lost} to be Ready again")


def _ready(kind: KindCluster) -> set[str]:
    return {
        node["metadata"]["name"]
        for node in kind.get("nodes")["items"]
        for condition in node["status"]["conditions"]
        if condition["type"] == "Ready" and condition["status"] == "True"
    }


@contextmanager
def default_back_off(kind: KindCluster, node: str) -> Iterator[None]:
    """A node's kubelet restarts containers as it does by default in the block: after 10 s, 20 s, ..., 5 min."""

    def served() -> str:
        with contextlib.suppress(subprocess.CalledProcessError):
            return kind.kubectl("get", "--raw", f"/api/v1/nodes/{node}/proxy/configz")
        # It is on its way.
        return ""

    def restart(script: str, *, lowered: bool) -> None:
        kind.on_node(node, "sh", "-c", f"{script} && systemctl restart kubelet")
        wait_for(
            lambda: (text := served()) and ("maxContainerRestartPeriod" in text) == lowered,
            timeout=60,
            interval=0.5,
            what=f"kubelet of {node} with its new configuration",
        )

    kind.on_node(node, "cp", KUBELET, f"{KUBELET}.fast")
    try:
        restart(f"sed -i '/^crashLoopBackOff:/,+1d; /KubeletCrashLoopBackOffMax/d' {KUBELET}", lowered=False)
        yield
    finally:
        restart(f"mv {KUBELET}.fast {KUBELET}", lowered=True)


@pytest.mark.spare
@pytest.mark.timeout(500, func_only=True)
def test_kills_at_the_default_back_off_lose_nothing(operator: KindCluster) -> None:
    node = operator.spare
    with default_back_off(operator, node), operator.namespace("backoff") as namespace:
        run = WordCount(operator, namespace, patches={"worker": _on(node, replicas=2)})
        run.apply()
        run.wait_replicas("worker", 2)
        for kills in (1, 2, 3):
            run.wait_replicas("worker", 2)
            progress = run.accepted()
            kill_container(operator, namespace, "worker-0", "agent")
            wait_for(partial(_beyond, run, progress), timeout=60, interval=0.5, what="the other one works on")
            wait_for(partial(_restarted, run, kills), timeout=90, interval=0.5, what=f"restart number {kills}")
        run.finish(timeout=300)


def _beyond(run: WordCount, progress: int) -> bool:
    return run.accepted() > progress


def _restarted(run: WordCount, times: int) -> bool:
    """Whether worker-0's agent was started again so often."""
    statuses = run.get("pod", "worker-0")["status"]["containerStatuses"]
    return any(status["name"] == "agent" and status["restartCount"] >= times for status in statuses)
