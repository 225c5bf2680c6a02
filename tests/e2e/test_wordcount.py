"""The main job on a real cluster: install the chart, apply the example, break things, and read an exact report."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from functools import partial

import pytest

from tests.e2e.chart import SYSTEM
from tests.e2e.faults import kill, kill_container
from tests.e2e.sharing import held
from tests.e2e.wordcount import WordCount
from tests.support.cluster import KindCluster
from tests.support.wait import wait_for


@pytest.fixture
def namespace(operator: KindCluster) -> Iterator[str]:
    with operator.namespace("wordcount") as name:
        yield name


def _beyond(run: WordCount, progress: int) -> bool:
    return run.accepted() > progress


@pytest.mark.timeout(420)
def test_report_is_exact_and_so_is_the_ledger(operator: KindCluster, namespace: str) -> None:
    run = WordCount(operator, namespace, passes=4)
    run.apply()
    run.finish()
    # What the status counts settles to what was really sent.
    tasks = wait_for(
        lambda: (status := run.get("zch", "tasks")["status"])["accepted"] == status["acked"] and status["accepted"] and status,
        timeout=60,
        interval=0.5,
        what="the ledger of tasks is at rest in the status",
    )
    assert tasks["inFlight"] == 0
    assert tasks["deadLettered"] == 0


def _show(run: WordCount, workers: int) -> None:
    """While it runs, the columns of `kubectl get zns,zch,zag` become true: of so many workers, and of messages that are on their way."""
    least = run.accepted("results")

    def true() -> bool:
        shown = run.columns()
        print(json.dumps(shown))
        server = shown["nameserver.ganglion.dev/wordcount"]
        agents = {name: shown[f"agent.ganglion.dev/{name}"] for name in ("ventilator", "worker", "sink")}
        channels = {name: shown[f"channel.ganglion.dev/{name}"] for name in ("tasks", "results")}
        for fixed in channels.values():
            assert (fixed["PATTERN"], fixed["DELIVERY"]) == ("PushPull", "AtLeastOnce"), fixed
        assert {row["NAMESERVER"] for row in (*agents.values(), *channels.values())} == {"wordcount"}
        return (
            {row["READY"] for row in (server, *agents.values(), *channels.values())} == {"True"}
            and server["MEMBERS"] == str(workers + 2)
            and (agents["worker"]["PODS"], agents["worker"]["DESIRED"]) == (str(workers), str(workers))
            and int(channels["tasks"]["ACCEPTED"]) >= int(channels["results"]["ACCEPTED"]) > least
            and int(channels["tasks"]["INFLIGHT"]) > 0
        )

    wait_for(true, timeout=30, interval=0.5, what=f"columns that tell of {workers} workers")


def _tell_more(run: WordCount) -> None:
    """A log level reaches the workers that run, and replaces none. At the end it is taken back."""
    before = {pod["metadata"]["name"]: pod["metadata"]["uid"] for pod in run.pods("worker")}
    patch = ["patch", "agents.ganglion.dev", "worker", "--type=merge", "-p"]
    log = ["logs", next(iter(before)), "-c", "agent", "--tail=10", "--ignore-errors"]
    assert "counting" not in run.kubectl(*log)
    run.kubectl(*patch, json.dumps({"spec": {"logLevel": "Debug"}}))
    wait_for(lambda: "counting" in run.kubectl(*log), timeout=60, interval=0.5, what="debug lines of a worker that ran before")
    assert {pod["metadata"]["name"]: pod["metadata"]["uid"] for pod in run.pods("worker")} == before
    run.kubectl(*patch, json.dumps({"spec": {"logLevel": None}}))


def _rolled(run: WordCount, before: set[str], replicas: int) -> Callable[[], bool]:
    def rolled() -> bool:
        now = run.pods("worker", ready=True)
        return len(now) == replicas and not before & {pod["metadata"]["uid"] for pod in now}

    return rolled


@pytest.mark.timeout(600)
def test_scaling_and_edits_reach_running_pods_without_loss(operator: KindCluster, namespace: str) -> None:
    run = WordCount(operator, namespace)
    run.apply()
    wait_for(lambda: run.accepted() > 100, timeout=120, interval=0.5, what="work flows")
    run.kubectl("scale", "agents.ganglion.dev/worker", "--replicas=6")
    run.wait_replicas("worker", 6)
    _show(run, 6)
    _tell_more(run)
    before = {pod["metadata"]["uid"] for pod in run.pods("worker")}
    edit = [{"op": "add", "path": "/spec/env", "value": [{"name": "EDITED", "value": "yes"}]}]
    run.kubectl("patch", "agents.ganglion.dev", "worker", "--type=json", "-p", json.dumps(edit))
    wait_for(_rolled(run, before, 6), timeout=240, interval=0.5, what="an edit of the environment replaced every worker")
    run.kubectl("scale", "agents.ganglion.dev/worker", "--replicas=1")
    wait_for(lambda: len(run.pods("worker")) == 1, timeout=120, interval=0.5, what="one worker is left")
    _show(run, 1)
    run.finish(timeout=400)


@pytest.mark.timeout(420)
def test_an_edit_of_the_code_rolls_the_workers_without_loss(operator: KindCluster, namespace: str) -> None:
    run = WordCount(operator, namespace, patches={"worker": {"replicas": 3}})
    run.apply()
    run.wait_replicas("worker", 3)
    wait_for(lambda: run.accepted() > 100, timeout=120, interval=0.5, what="work flows")
    before = {pod["metadata"]["uid"] for pod in run.pods("worker")}
    [code] = run.get("configmaps", "-l", "ganglion.dev/code=true")["items"]
    edited = code["data"]["wordcount.py"] + '\n\nprint("EDITED", flush=True)\n'
    patch = json.dumps({"data": {"wordcount.py": edited}})
    run.kubectl("patch", "configmap", code["metadata"]["name"], "--type=merge", "-p", patch)
    wait_for(_rolled(run, before, 3), timeout=120, interval=0.5, what="an edit of the code replaced every worker")
    # The kubelet's copy of what a container says may be behind.
    wait_for(lambda: run.log("worker").count("EDITED") == 3, timeout=30, interval=0.5, what="every new pod runs the new code")
    report = run.finish(timeout=300)
    # A Job's pod is never replaced, whatever changes: its work would begin again.
    assert "EDITED" not in report
    assert run.condition("agents.ganglion.dev", "sink", "SpecChangeIgnored")["status"] == "True"


@pytest.mark.timeout(900)
@pytest.mark.parametrize("plane", ["Sidecar", "InProcess"])
def test_kills_lose_nothing(operator: KindCluster, namespace: str, plane: str) -> None:
    """-9 to agents, sidecars, the name server and the operator, spread over pods, mid-run."""
    planes = {name: {"dataPlane": plane} for name in ("ventilator", "worker", "sink")}
    run = WordCount(operator, namespace, patches={**planes, "worker": {"replicas": 3, "dataPlane": plane}})
    run.apply()
    run.wait_replicas("worker", 3)
    [manager] = operator.get("pods", "-n", SYSTEM, "-l", "app.kubernetes.io/component=operator")["items"]
    victims = [
        (namespace, "worker-0", "agent"),
        (namespace, "worker-1", "runtime"),
        (namespace, "wordcount-0", "nameserver"),
        (SYSTEM, manager["metadata"]["name"], "operator"),
        (namespace, "worker-2", "agent"),
        (namespace, "worker-0", "runtime"),
        (namespace, "wordcount-0", "nameserver"),
        (namespace, "worker-1", "agent"),
        (SYSTEM, manager["metadata"]["name"], "operator"),
    ]
    for where, pod, container in victims:
        progress = run.accepted()
        # The other plane's test kills the same operator: not while it is down.
        with held("kill") if where == SYSTEM else nullcontext():
            ready_again = kill(operator, where, pod, container)
            wait_for(ready_again, timeout=90, interval=0.5, what=f"{pod} is Ready again after its {container} was killed")
        wait_for(partial(_beyond, run, progress), timeout=90, interval=0.5, what=f"work goes on after {pod}/{container} was killed")
    for kind, name in (("zns", "wordcount"), ("zag", "worker")):
        wait_for(partial(_ready, run, kind, name), timeout=60, interval=0.5, what=f"{name} is Ready again")
    run.finish(timeout=400)
    run.wait_replicas("worker", 3)


def _ready(run: WordCount, kind: str, name: str) -> bool:
    return run.condition(kind, name, "Ready").get("status") == "True"


@pytest.mark.timeout(420)
def test_best_effort_never_hides_a_loss(operator: KindCluster, namespace: str) -> None:
    """Kills lose messages here; `unaccounted` is never below what was lost."""
    quick = {"delivery": "BestEffort"}
    patches = {"worker": {"replicas": 3}, "sink": {"attributes": {"verify": False}}}
    run = WordCount(operator, namespace, patches=patches, channels={"tasks": quick, "results": quick})
    run.apply()
    run.wait_replicas("worker", 3)
    for pod, container in [("worker-0", "agent"), ("worker-1", "runtime"), ("worker-2", "agent")]:
        progress = run.accepted()
        wait_for(partial(_beyond, run, progress), timeout=90, interval=0.5, what=f"work goes on before {pod}/{container} is killed")
        kill_container(operator, namespace, pod, container)
    run.enough()
    run.wait_complete(300)
    [arrived] = re.findall(r"(\d+) files, \d+ words", run.report())
    lost = run.sent() - int(arrived)
    assert lost > 0, "no kill lost anything: nothing was tested"
    channels = {name: run.get("zch", name)["status"] for name in ("tasks", "results")}
    unaccounted = sum(status["unaccounted"] for status in channels.values())
    assert unaccounted >= lost, f"{lost} lost, {unaccounted} unaccounted for: {channels}"
