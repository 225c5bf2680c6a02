"""The chart by the real helm: what `--wait` waits for, and `helm test`."""

from __future__ import annotations

import pytest

from tests.e2e.chart import install
from tests.support.cluster import KindCluster
from tests.support.wait import wait_for


@pytest.mark.timeout(300)
def test_helm_waits_for_the_operator_and_helm_test_reaches_it(operator: KindCluster) -> None:
    """A release of its own, which serves its own namespace and nothing else."""
    with operator.namespace("release") as namespace:
        only_here = f"watchNamespaces={{{namespace}}},crds.enabled=false,rbac.nodes=false,rbac.aggregate=false"
        install(operator, "second", namespace, "--set", only_here)
        [deployment] = operator.get("deployments", "-n", namespace)["items"]
        assert deployment["status"].get("readyReplicas") == 1, "helm returned before the operator was ready"
        # Without --logs: helm asks for them after it has deleted the pod of a test that succeeded.
        told = operator.helm("test", "second", "--namespace", namespace, "--timeout", "2m")
        assert "Succeeded" in told, told
        operator.helm("uninstall", "second", "--namespace", namespace, "--wait", "--timeout", "2m")
        # helm waits for the Deployment to be gone, its pod has a grace period.
        wait_for(lambda: not operator.get("all", "-n", namespace)["items"], timeout=60, interval=0.5, what="an empty namespace")
