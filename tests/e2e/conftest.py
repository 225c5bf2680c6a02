"""One kind cluster for the tier."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.cluster import KindCluster, kind_cluster

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark every test of this folder, so that no file can forget it."""
    for item in items:
        if item.path.is_relative_to(HERE):
            item.add_marker(pytest.mark.e2e)
            if item.get_closest_marker("timeout") is None:
                # The first test pays for the cluster and the images: a minute when both are cached.
                item.add_marker(pytest.mark.timeout(900))


@pytest.fixture(scope="session")
def kind() -> Iterator[KindCluster]:
    """A cluster of GANGLION_KIND_NODES nodes (default one) with the project's images on it."""
    with kind_cluster(nodes=int(os.environ.get("GANGLION_KIND_NODES", "1"))) as cluster:
        yield cluster


@pytest.fixture(scope="session")
def operator(kind: KindCluster) -> KindCluster:
    """The cluster with the chart installed as a user would."""
    kind.helm(
        *(
            "upgrade",
            "--install",
            "ganglion",
            str(HERE.parents[1] / "charts" / "ganglion"),
            "--namespace",
            "ganglion-system",
            "--create-namespace",
        ),
        *(
            "--set",
            f"image.operator.repository={kind.operator_image.rsplit(':', 1)[0]},image.operator.tag={kind.operator_image.rsplit(':', 1)[1]}",
        ),
        *("--set", f"image.agent.repository={kind.agent_image.rsplit(':', 1)[0]},image.agent.tag={kind.agent_image.rsplit(':', 1)[1]}"),
        *("--wait", "--timeout", "3m"),
    )
    kind.kubectl(
        "rollout", "status", "deployment", "-n", "ganglion-system", "-l", "app.kubernetes.io/component=operator", "--timeout", "120s"
    )
    return kind
