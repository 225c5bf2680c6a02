"""`examples/guess` on the cluster: two agents talk over one Pair until both have what they want."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.domain import Domain
from tests.support.cluster import KindCluster
from tests.support.wait import wait_for

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "guess"


@pytest.fixture
def namespace(operator: KindCluster) -> Iterator[str]:
    with operator.namespace("guess") as name:
        yield name


def test_both_of_a_pair_complete(operator: KindCluster, namespace: str) -> None:
    run = Domain(operator, namespace)
    run.kubectl("apply", "-k", str(EXAMPLE))

    def complete() -> bool:
        conditions = {agent: run.condition("agents.ganglion.dev", agent, "Complete") for agent in ("guesser", "keeper")}
        failed = [agent for agent, condition in conditions.items() if condition.get("reason") == "Failed"]
        assert not failed, run.log(failed[0])
        return all(condition.get("status") == "True" for condition in conditions.values())

    try:
        wait_for(complete, timeout=180, interval=1.0, what="both completed")
        assert "it is 6174, found with 13 guesses" in run.log("guesser")
    except (TimeoutError, AssertionError) as error:
        error.add_note(run.diagnosis())
        raise
