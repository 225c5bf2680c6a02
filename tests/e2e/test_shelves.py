"""`examples/shelves` on the cluster: a Router gives each title to the Dealer that it belongs to."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.domain import Domain
from tests.support.cluster import KindCluster
from tests.support.wait import wait_for

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "shelves"


@pytest.fixture
def namespace(operator: KindCluster) -> Iterator[str]:
    with operator.namespace("shelves") as name:
        yield name


def test_each_title_is_kept_at_one_place(operator: KindCluster, namespace: str) -> None:
    run = Domain(operator, namespace)
    run.kubectl("apply", "-k", str(EXAMPLE))

    def complete() -> bool:
        condition = run.condition("agents.ganglion.dev", "librarian", "Complete")
        assert condition.get("reason") != "Failed", run.log("librarian")
        return condition.get("status") == "True"

    try:
        wait_for(complete, timeout=180, interval=1.0, what="the librarian completed")
        assert "Emma: 4 on shelf-2" in run.log("librarian")
    except (TimeoutError, AssertionError) as error:
        error.add_note(run.diagnosis())
        raise
