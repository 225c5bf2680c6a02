"""The main job on a real cluster: install the chart, apply the example, break things, and read an exact report."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from functools import partial

import pytest

from tests.e2e.faults import kill_container
from tests.e2e.wordcount import WordCount
from tests.support.cluster import KindCluster
from tests.support.wait import wait_for

PROOF = "PROOF: equal to the plain single-process count"


@pytest.fixture
def namespace(operator: KindCluster) -> Iterator[str]:
    with operator.namespace("wordcount") as name:
        yield name


def _beyond(run: WordCount, progress: int) -> bool:
    return run.accepted() > progress


def finish(run: WordCount, timeout: float = 300.0) -> str:
    """Wait for the report and return it; a failure shows the state of everything."""
    try:
        run.wait_complete(timeout)
        report = run.report()
        assert PROOF in report, report
    except (TimeoutError, AssertionError, subprocess.CalledProcessError) as error:
        error.add_note(run.diagnosis())
        raise
    return report


@pytest.mark.timeout(420)
def test_report_is_exact_and_columns_tell_the_truth(operator: KindCluster, namespace: str) -> None:
    run = WordCount(operator, namespace, passes=4)
    run.apply()
    wait_for(lambda: run.accepted() > 0, timeout=120, interval=0.5, what="work flows")
    table = run.kubectl("get", "zns,zch,zag")
    for word in ("READY", "REASON", "NAMESERVER", "ventilator", "worker", "sink", "tasks", "results", "PushPull", "AtLeastOnce"):
        assert word in table, table
    assert run.condition("zns", "wordcount", "Ready")["status"] == "True"
    assert run.condition("zch", "tasks", "Ready")["status"] == "True"
    finish(run)
    # What the status counts settles to what was really sent.
    tasks = wait_for(
        lambda: (status := run.get("zch", "tasks")["status"])["accepted"] == status["acked"] and status["accepted"] and status,
        timeout=60,
        interval=0.5,
        what="the ledger of tasks is at rest in the status",
    )
    assert tasks["inFlight"] == 0
    assert tasks["deadLettered"] == 0


@pytest.mark.timeout(600)
def test_scaling_and_edits_reach_running_pods_without_loss(operator: KindCluster, namespace: str) -> None:
    run = WordCount(operator, namespace, passes=30)
    run.apply()
    wait_for(lambda: run.accepted() > 100, timeout=120, interval=0.5, what="work flows")
    run.kubectl("scale", "agents.ganglion.dev/worker", "--replicas=6")
    wait_for(lambda: len(run.pods("worker", ready=True)) == 6, timeout=120, interval=0.5, what="six workers are ready")
    before = {pod["metadata"]["uid"] for pod in run.pods("worker")}
    edit = [{"op": "add", "path": "/spec/env", "value": [{"name": "EDITED", "value": "yes"}]}]
    run.kubectl("patch", "agents.ganglion.dev", "worker", "--type=json", "-p", json.dumps(edit))

    def rolled() -> bool:
        now = run.pods("worker", ready=True)
        return len(now) == 6 and not before & {pod["metadata"]["uid"] for pod in now}

    wait_for(rolled, timeout=240, interval=0.5, what="an edit of the environment replaced every worker")
    run.kubectl("scale", "agents.ganglion.dev/worker", "--replicas=1")
    wait_for(lambda: len(run.pods("worker")) == 1, timeout=120, interval=0.5, what="one worker is left")
    finish(run, timeout=400)


@pytest.mark.timeout(600)
def test_kills_lose_nothing(operator: KindCluster, namespace: str) -> None:
    """-9 to agents, sidecars, the name server and the operator, spread over pods, mid-run."""
    run = WordCount(operator, namespace, passes=30, patches={"worker": {"replicas": 3}})
    run.apply()
    wait_for(lambda: len(run.pods("worker", ready=True)) == 3, timeout=120, interval=0.5, what="workers are ready")
    victims = [
        ("worker-0", "agent"),
        ("worker-1", "runtime"),
        ("wordcount-0", "nameserver"),
        ("worker-2", "agent"),
        ("worker-0", "runtime"),
        ("worker-1", "agent"),
    ]
    for pod, container in victims:
        progress = run.accepted()
        kill_container(operator, namespace, pod, container)
        wait_for(partial(_beyond, run, progress), timeout=90, interval=0.5, what=f"work goes on after {pod}/{container} was killed")
    system = operator.get("pods", "-n", "ganglion-system", "-l", "app.kubernetes.io/component=operator")["items"]
    kill_container(operator, "ganglion-system", system[0]["metadata"]["name"], "operator")
    finish(run, timeout=400)
    wait_for(lambda: len(run.pods("worker", ready=True)) == 3, timeout=120, interval=0.5, what="all workers are ready again")


@pytest.mark.timeout(300)
def test_deleting_the_name_server_ends_everything(operator: KindCluster, namespace: str) -> None:
    run = WordCount(operator, namespace, passes=500)
    run.apply()
    wait_for(lambda: run.accepted() > 100, timeout=120, interval=0.5, what="work flows")
    timeout = run.get("zns", "wordcount")["spec"]["shutdown"]["timeoutSeconds"]
    run.kubectl("delete", "nameservers.ganglion.dev", "wordcount", "--wait=false")

    def gone() -> bool:
        left = run.kubectl("get", "zns,zag,pods,sts,jobs,secrets,services", "-o", "name", "-l", "!kubernetes.io/metadata.name").split()
        return not [name for name in left if "wordcount" in name or "worker" in name or "sink" in name or "ventilator" in name]

    wait_for(gone, timeout=timeout + 10, interval=0.5, what="everything that the NameServer owned is gone")
