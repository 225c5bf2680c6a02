"""`examples/scores` on the cluster: viewers join a stream of changes in its midst, and miss none."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.domain import Domain
from tests.support.cluster import KindCluster
from tests.support.wait import wait_for

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "scores"


@pytest.fixture
def namespace(operator: KindCluster) -> Iterator[str]:
    with operator.namespace("scores") as name:
        yield name


def test_viewers_have_a_snapshot_and_every_change(operator: KindCluster, namespace: str) -> None:
    run = Domain(operator, namespace)
    run.kubectl("apply", "-k", str(EXAMPLE))

    def complete() -> bool:
        conditions = {agent: run.condition("agents.ganglion.dev", agent, "Complete") for agent in ("board", "viewer")}
        failed = [agent for agent, condition in conditions.items() if condition.get("reason") == "Failed"]
        assert not failed, run.log(failed[0])
        return all(condition.get("status") == "True" for condition in conditions.values())

    try:
        wait_for(complete, timeout=180, interval=1.0, what="all completed")
        lines = [line for line in run.log("viewer").splitlines() if "the snapshot and " in line]
        assert len(lines) == 2
        assert all(line.endswith(": right") for line in lines), lines
    except (TimeoutError, AssertionError) as error:
        error.add_note(run.diagnosis())
        raise
