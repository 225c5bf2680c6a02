"""One real API server for the tier, and one with controllers for the tests that need them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.crds import install
from tests.support.apiserver import ApiServer

HERE = Path(__file__).parent


# After the order of all tiers, which has property tests first: here others take longer.
@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark every test of this folder, so that no file can forget it, and begin with what takes longest: the others run beside it."""
    for item in items:
        if item.path.is_relative_to(HERE):
            item.add_marker(pytest.mark.cluster)
    items.sort(key=lambda item: item.get_closest_marker("timeout") is None)


@pytest.fixture(scope="session")
def apiserver() -> Iterator[ApiServer]:
    """etcd and kube-apiserver, no controllers: objects stay as they are written."""
    with ApiServer() as server:
        yield server


@pytest.fixture(scope="session")
def apiserver_with_controllers() -> Iterator[ApiServer]:
    """etcd, kube-apiserver and kube-controller-manager: garbage collection, workload controllers, namespaces end."""
    with ApiServer(controllers=True) as server:
        yield server


@pytest.fixture
def namespace(apiserver: ApiServer) -> Iterator[str]:
    """A fresh namespace on `apiserver`."""
    with apiserver.namespace() as name:
        yield name


@pytest.fixture(scope="session")
def crds(apiserver: ApiServer) -> None:
    """The three kinds on `apiserver`."""
    install(apiserver)
