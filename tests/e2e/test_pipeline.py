"""`examples/pipeline` on the cluster: workers join, leave and are killed while it runs, and its account is complete."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.domain import API, Domain
from tests.e2e.faults import kill_container
from tests.support.cluster import KindCluster
from tests.support.wait import wait_for

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "pipeline"
ENOUGH = "/tmp/enough"  # in the source's own container


@pytest.fixture
def namespace(operator: KindCluster) -> Iterator[str]:
    with operator.namespace("pipeline") as name:
        yield name


def apply(run: Domain, folder: Path) -> None:
    """`kubectl apply -k` of the example, with a source that goes on until it is told."""
    shutil.copytree(EXAMPLE, folder / "base", ignore=shutil.ignore_patterns("__pycache__"))
    patch = {"apiVersion": API, "kind": "Agent", "metadata": {"name": "source"}, "spec": {"attributes": {"until": ENOUGH}}}
    overlay = {"resources": ["base"], "patches": [{"target": {"kind": "Agent", "name": "source"}, "patch": json.dumps(patch)}]}
    (folder / "kustomization.yaml").write_text(json.dumps(overlay), encoding="utf-8")
    run.kubectl("apply", "-k", str(folder))


def progress(run: Domain, why: str) -> None:
    """Wait until much more was sent than workers can hold."""
    mark = run.accepted() + 200
    wait_for(lambda: run.accepted() > mark, timeout=120, interval=0.5, what=f"progress {why}")


@pytest.mark.timeout(600)
def test_nothing_is_lost_while_workers_come_and_go(operator: KindCluster, namespace: str, tmp_path: Path) -> None:
    run = Domain(operator, namespace)
    apply(run, tmp_path)
    wait_for(lambda: run.accepted() > 0, timeout=120, interval=0.5, what="work flows")
    run.kubectl("scale", "agents.ganglion.dev/worker", "--replicas=4")
    for pod, container in (("worker-1", "agent"), ("worker-2", "runtime")):
        run.wait_replicas("worker", 4)
        kill_container(operator, namespace, pod, container)
        progress(run, f"after {pod}/{container} was killed")
    run.wait_replicas("worker", 4)
    progress(run, "with four workers")
    run.kubectl("scale", "agents.ganglion.dev/worker", "--replicas=1")
    wait_for(lambda: len(run.pods("worker")) == 1, timeout=120, interval=0.5, what="one worker is left")
    progress(run, "with one worker")
    [source] = run.pods("source")
    run.kubectl("exec", source["metadata"]["name"], "-c", "agent", "--", "touch", ENOUGH)

    def done() -> bool:
        complete = run.condition("agents.ganglion.dev", "collector", "Complete")
        assert complete.get("reason") != "Failed", run.log("collector")
        return complete.get("status") == "True"

    try:
        wait_for(done, timeout=180, interval=1.0, what="the collector completed")
        report = run.log("collector")
        proof = re.search(r"PROOF: each of (\d+) .*: (\d+) analysed, (\d+) damaged, (\d+) skipped, 2 given up \[40, 60\]", report)
        assert proof is not None, report[-4000:]
        sent, *outcomes = map(int, proof.groups())
        assert sum(outcomes) + 2 == sent
        counts = dict(reversed(pair) for pair in re.findall(r"^ +(\d+)  (\S+)$", report, re.MULTILINE))
        assert {name for name in counts if name.startswith("worker-")} == {"worker-0", "worker-1", "worker-2", "worker-3"}
        assert any(name.startswith("helper-") for name in counts), counts
    except (TimeoutError, AssertionError) as error:
        error.add_note(run.diagnosis())
        raise
