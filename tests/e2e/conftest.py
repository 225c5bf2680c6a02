"""One kind cluster for the tier, also when several processes run it side by side (`pytest -n 4`)."""

from __future__ import annotations

import fcntl
import math
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path

import pytest

from tests.e2e.chart import SYSTEM, install
from tests.e2e.sharing import cluster, held, node_count, once
from tests.support.cluster import KindCluster, kept, kind_cluster

HERE = Path(__file__).parent


def pytest_configure(config: pytest.Config) -> None:
    """Register the tier's own marker."""
    config.addinivalue_line("markers", "alone: disturbs everybody on the cluster, in `by_itself`, so that nothing runs beside it")
    config.addinivalue_line("markers", "spare: breaks the spare node, so that nothing else that does may run beside it")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark every test of this folder, so that no file can forget it.

    What takes longest comes first, so that all processes end at about the same time: the long ones that break the spare node before all
    others, as the first two tests go to one process, and in two they would only wait for each other. Those that need the cluster for
    themselves come last.
    """
    bounds: dict[pytest.Item, float] = {}
    for item in items:
        own = item.get_closest_marker("timeout")
        first = own is not None and item.get_closest_marker("spare") is not None
        bounds[item] = math.inf if first else own.args[0] if own else 0.0
        if item.path.is_relative_to(HERE):
            item.add_marker(pytest.mark.e2e)
            # Of the test alone: the cluster and the images that the first tests wait for have bounds of their own.
            item.add_marker(pytest.mark.timeout(own.args[0] if own else 300, func_only=True), append=False)
    items.sort(key=lambda item: (item.get_closest_marker("alone") is not None, -bounds[item]))


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Delete the cluster that side-by-side processes left to the one that started them."""
    if session.config.getoption("numprocesses", None) and not hasattr(session.config, "workerinput") and not kept():
        cluster().delete()


@pytest.fixture(scope="session")
def kind(request: pytest.FixtureRequest, testrun_uid: str) -> Iterator[KindCluster]:
    """A cluster of GANGLION_KIND_NODES nodes (default three) with the project's images on it."""
    beside = hasattr(request.config, "workerinput")
    with ExitStack() as stack:
        with once("cluster", testrun_uid) as first:
            made = stack.enter_context(kind_cluster(nodes=node_count(), keep=beside or kept())) if first else KindCluster(cluster())
        yield made


@pytest.fixture(scope="session")
def operator(kind: KindCluster, testrun_uid: str) -> KindCluster:
    """The cluster with the chart installed."""
    with once("operator", testrun_uid) as first:
        if first:
            install(kind, "ganglion", SYSTEM)
    return kind


@pytest.fixture(autouse=True)
def turn(request: pytest.FixtureRequest) -> Iterator[None]:
    """Tests run beside each other; one that is marked `alone` waits for the others, and they for it, while it is in `by_itself`."""
    with ExitStack() as stack:
        if request.node.get_closest_marker("spare"):
            stack.enter_context(held("spare"))
        if not request.node.get_closest_marker("alone"):
            stack.enter_context(held("turn", fcntl.LOCK_SH))
        yield


@pytest.fixture
def by_itself() -> Callable[[], AbstractContextManager[None]]:
    """For a test that is marked `alone`: in `with by_itself():` no other test runs."""
    return lambda: held("turn")
