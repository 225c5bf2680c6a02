"""`examples/pipeline`: workers that join, leave, stand still and die while it runs, and an account that is complete all the same."""

from __future__ import annotations

import os
import re
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.local.domain import Desk, desk
from tests.support.wait import wait_for

EXAMPLE = Path(__file__).parents[3] / "examples" / "pipeline"
HIGH_WATER_MARK = 32

pytestmark = pytest.mark.timeout(180)


@pytest.fixture
def user(tmp_path: Path) -> Iterator[Desk]:
    with desk(tmp_path / "home", "pipeline") as found:
        yield found


def settled(user: Desk) -> int:
    return int(user.status("Channel", "tasks").get("acked", 0))


def progress(user: Desk, why: str) -> None:
    """Wait for much more than what workers can hold."""
    mark = settled(user) + 4 * HIGH_WATER_MARK
    wait_for(lambda: settled(user) > mark, timeout=60, what=f"progress {why}")


def workers(user: Desk) -> dict[str, bool]:
    """Replicas of `worker` that run → whether they are ready."""
    return {name: row["ready"] for name, row in user.replicas().items() if name.startswith("worker-") and row["phase"] == "Running"}


def scale(user: Desk, replicas: int) -> None:
    done = user.command("scale", "worker", "--replicas", str(replicas))
    assert done.returncode == 0, done.stderr
    wanted = {f"worker-{number}": True for number in range(replicas)}
    wait_for(lambda: workers(user) == wanted, timeout=60, what=f"{replicas} workers")


def field(user: Desk, replica: str, name: str) -> Any:
    """What the status says of a replica; None while it says nothing."""
    return user.replicas().get(replica, {}).get(name)


def kill(user: Desk, replica: str, process: str) -> None:
    pid = wait_for(lambda: field(user, replica, process), what=f"the {process} of {replica}")
    os.kill(pid, signal.SIGKILL)
    wait_for(lambda: field(user, replica, process) not in (None, pid), what=f"another {process} of {replica}")


def test_nothing_is_lost_while_workers_come_and_go(user: Desk, tmp_path: Path) -> None:
    enough = tmp_path / "enough"
    folder = shutil.copytree(EXAMPLE, tmp_path / "app", ignore=shutil.ignore_patterns("__pycache__"))
    manifests = (folder / "pipeline.yaml").read_text()
    assert 'until: ""' in manifests
    assert f"highWaterMark: {HIGH_WATER_MARK}" in manifests
    (folder / "pipeline.yaml").write_text(manifests.replace('until: ""', f"until: {enough}"))

    process = user.up(folder)
    wait_for(lambda: settled(user) > 100, timeout=60, what="the first results")
    run = user.run
    scale(user, 4)
    progress(user, "with two workers more")

    kill(user, "worker-1", "pid")
    kill(user, "worker-2", "sidecarPid")
    progress(user, "after an agent and a sidecar were killed")

    # It holds what it was given; whatever comes goes to those that are less loaded.
    still = wait_for(lambda: field(user, "worker-3", "pid"), what="the process of worker-3")
    os.kill(still, signal.SIGSTOP)
    try:
        progress(user, "while a worker stands still")
    finally:
        os.kill(still, signal.SIGCONT)

    scale(user, 1)
    progress(user, "with one worker")
    wait_for(lambda: field(user, "helper-0", "phase") == "Succeeded", timeout=60, what="the helper has left by itself")
    assert process.poll() is None
    enough.touch()
    assert process.wait(60) == 0, user.output()

    output = user.output()
    counts = {name: int(count) for count, name in re.findall(r"collector-0 \| +(\d+)  (\S+)\n", output)}
    assert set(counts) == {"helper-0", "worker-0", "worker-1", "worker-2", "worker-3"}
    proof = re.search(r"PROOF: each of (\d+) .*: (\d+) analysed, (\d+) damaged, (\d+) skipped, 2 given up \[40, 60\]", output)
    assert proof is not None
    sent, analysed, damaged, skipped = map(int, proof.groups())
    assert analysed + damaged + skipped + 2 == sent
    assert min(damaged, skipped) > 0
    assert sum(counts.values()) == sent - 2
    user.assert_nothing_left(run)
