"""The operator beside the cluster's own controllers: roll-outs, Jobs, deletion cascades, lost nodes."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
import yaml

from tests.support import kubelet
from tests.support.apiserver import ApiServer
from tests.support.domain import DOMAIN, Cluster, install_definitions, settle
from tests.support.operator import OperatorProcess
from tests.support.wait import wait_for

OWNED = ("agents", "statefulsets", "jobs", "pods", "services", "secrets", "roles", "rolebindings")


@pytest.fixture
def cluster(apiserver_with_controllers: ApiServer) -> Iterator[Cluster]:
    install_definitions(apiserver_with_controllers)
    with apiserver_with_controllers.namespace() as name:
        yield Cluster(apiserver_with_controllers, name)


@pytest.fixture
def operator(cluster: Cluster) -> Iterator[OperatorProcess]:
    with OperatorProcess(cluster.server.kubeconfig, (cluster.namespace,)) as process:
        process.wait_ready()
        yield process


def once(name: str = "once", **spec: object) -> str:
    body = {
        "apiVersion": "ganglion.dev/v1alpha1",
        "kind": "Agent",
        "metadata": {"name": name},
        "spec": {"nameServerRef": {"name": "zoo"}, "run": "Once", "class": "demo:main", **spec},
    }
    return "---\n" + yaml.safe_dump(body)


def test_an_agent_becomes_ready_and_its_edit_rolls_pod_by_pod(cluster: Cluster, operator: OperatorProcess) -> None:
    cluster.apply(DOMAIN)
    kubelet.make_all_ready(cluster, "worker", 3)
    cluster.await_reason("agents", "worker", "Running")
    status = cluster.need("agents", "worker")["status"]
    assert (status["replicas"], status["readyReplicas"], status["updatedReplicas"]) == (3, 3, 3)
    before = {name: pod["metadata"]["uid"] for name, pod in kubelet.pods(cluster, "worker").items()}
    cluster.patch("agents", "worker", {"spec": {"env": [{"name": "MODE", "value": "fast"}]}})
    least = 3

    def rolled() -> bool:
        nonlocal least
        found = kubelet.pods(cluster, "worker")
        ready = [
            n for n, p in found.items() if any(c["type"] == "Ready" and c["status"] == "True" for c in p["status"].get("conditions", ()))
        ]
        least = min(least, len(ready))
        replaced = [n for n, p in found.items() if p["metadata"]["uid"] != before[n]]
        for name in set(replaced) - set(ready):
            # Only when the step has been seen: the next one must wait for this.
            kubelet.make_ready(cluster, name)
        return len(found) == 3 and len(replaced) == 3

    wait_for(rolled, timeout=90, what="all pods replaced")
    assert least == 2, "a quarter of three pods, at least one, may be away at a time"
    cluster.await_reason("agents", "worker", "Running")
    environments = [pod["spec"]["containers"][0]["env"] for pod in kubelet.pods(cluster, "worker").values()]
    assert all({"name": "MODE", "value": "fast"} in env for env in environments)


def test_scaling_counts_follow_to_zero_and_back(cluster: Cluster, operator: OperatorProcess) -> None:
    cluster.apply(DOMAIN)
    kubelet.make_all_ready(cluster, "worker", 3)
    cluster.server.kubectl("scale", "agent", "worker", "-n", cluster.namespace, "--replicas=0")
    cluster.await_reason("agents", "worker", "ScaledToZero")
    wait_for(lambda: cluster.need("agents", "worker")["status"]["replicas"] == 0, what="no pods counted")
    cluster.server.kubectl("scale", "agent", "worker", "-n", cluster.namespace, "--replicas=2")
    kubelet.make_all_ready(cluster, "worker", 2)
    cluster.await_reason("agents", "worker", "Running")
    assert cluster.need("channels", "tasks")["status"]["receivers"] == 2


def test_an_image_that_cannot_be_pulled_is_a_condition(cluster: Cluster, operator: OperatorProcess) -> None:
    cluster.apply(DOMAIN)
    wait_for(lambda: "worker-0" in kubelet.pods(cluster, "worker"), what="pod")
    waiting = {"reason": "ImagePullBackOff", "message": 'Back-off pulling image "nope"'}
    container = {"name": "agent", "image": "nope", "imageID": "", "ready": False, "restartCount": 0, "state": {"waiting": waiting}}
    cluster.patch("pods", "worker-0", {"status": {"phase": "Pending", "containerStatuses": [container]}}, "status")
    assert "nope" in cluster.await_reason("agents", "worker", "ImagePullBackOff")["message"]
    # An edit replaces the pod that hangs without waiting for it; the others were not ready either.
    wait_for(lambda: len(kubelet.pods(cluster, "worker")) == 3, what="three pods")
    before = {pod["metadata"]["uid"] for pod in kubelet.pods(cluster, "worker").values()}
    cluster.patch("agents", "worker", {"spec": {"image": "better"}})

    def replaced() -> bool:
        now = {pod["metadata"]["uid"] for pod in kubelet.pods(cluster, "worker").values()}
        return len(now) == 3 and not now & before

    wait_for(replaced, what="all pods are replaced")
    kubelet.make_all_ready(cluster, "worker", 3)
    cluster.await_reason("agents", "worker", "Running", timeout=60)


def test_an_agent_that_runs_once_completes(cluster: Cluster, operator: OperatorProcess) -> None:
    cluster.apply(DOMAIN + once(replicas=2))
    wait_for(lambda: len(kubelet.pods(cluster, "once")) == 2, what="two pods")
    for name in kubelet.pods(cluster, "once"):
        kubelet.make_ready(cluster, name)
    cluster.await_reason("agents", "once", "Running")
    for name in kubelet.pods(cluster, "once"):
        kubelet.end(cluster, name, 0)
    cluster.await_reason("agents", "once", "Completed")
    assert cluster.need("agents", "once")["status"]["succeeded"] == 2


def test_a_wrong_class_fails_once_and_for_all(cluster: Cluster, operator: OperatorProcess) -> None:
    cluster.apply(DOMAIN + once())
    wait_for(lambda: len(kubelet.pods(cluster, "once")) == 1, what="a pod")
    (name,) = kubelet.pods(cluster, "once")
    kubelet.end(cluster, name, 78, 'class: "demo:main": module demo has no main')
    assert "no main" in cluster.await_reason("agents", "once", "Failed")["message"]
    settle(operator)
    assert len(kubelet.pods(cluster, "once")) == 1


def test_a_started_job_is_resized_but_not_changed(cluster: Cluster, operator: OperatorProcess) -> None:
    cluster.apply(DOMAIN + once(replicas=1))
    wait_for(lambda: len(kubelet.pods(cluster, "once")) == 1, what="a pod")
    job = cluster.need("jobs", "once")
    cluster.patch("agents", "once", {"spec": {"replicas": 3}})
    wait_for(lambda: len(kubelet.pods(cluster, "once")) == 3, what="three pods")
    cluster.patch("agents", "once", {"spec": {"env": [{"name": "A", "value": "1"}]}})
    cluster.await_reason("agents", "once", "AlreadyStarted", "SpecChangeIgnored")
    assert cluster.need("jobs", "once")["metadata"]["uid"] == job["metadata"]["uid"]


@pytest.mark.parametrize("up", [True, False], ids=["operator-up", "operator-down"])
@pytest.mark.parametrize("cascade", ["background", "foreground"])
def test_deleting_the_name_server_deletes_everything(cluster: Cluster, operator: OperatorProcess, up: bool, cascade: str) -> None:
    cluster.apply(DOMAIN + once())
    for agent, count in (("worker", 3), ("source", 1), ("once", 1)):
        kubelet.make_all_ready(cluster, agent, count)
    if not up:
        operator.kill()
    cluster.server.kubectl("delete", "nameserver", "zoo", "-n", cluster.namespace, f"--cascade={cascade}", "--timeout=60s")
    wait_for(lambda: not any(cluster.names(plural) for plural in OWNED), timeout=60, what="nothing left")
    assert cluster.names("channels") == ["tasks"]
    if up:
        settle(operator)
        assert not any(cluster.names(plural) for plural in OWNED)
        cluster.await_reason("channels", "tasks", "NotFound")
        # The folder brings all back.
        cluster.apply(DOMAIN)
        kubelet.make_all_ready(cluster, "worker", 3)
        cluster.await_reason("agents", "worker", "Running")


def test_orphaned_agents_outlive_their_name_server(cluster: Cluster, operator: OperatorProcess) -> None:
    cluster.apply(DOMAIN)
    cluster.patch("nameservers", "zoo", {"spec": {"deletionPolicy": "Orphan"}})
    cluster.need("statefulsets", "worker")
    wait_for(lambda: not cluster.need("agents", "worker")["metadata"].get("ownerReferences"), what="no owner")
    wait_for(lambda: not cluster.need("agents", "source")["metadata"].get("ownerReferences"), what="no owner")
    cluster.server.kubectl("delete", "nameserver", "zoo", "-n", cluster.namespace, "--timeout=60s")
    cluster.await_reason("agents", "worker", "NotFound")
    wait_for(lambda: "zoo" not in cluster.names("statefulsets"), timeout=60, what="name server gone")
    assert cluster.names("statefulsets") == ["source", "worker"]


def test_a_namespace_ends_although_the_operator_is_down(cluster: Cluster, operator: OperatorProcess) -> None:
    cluster.apply(DOMAIN)
    kubelet.make_all_ready(cluster, "worker", 3)
    operator.kill()
    cluster.server.kubectl("delete", "namespace", cluster.namespace, "--timeout=90s", timeout=120)
    assert cluster.server.request("GET", f"/api/v1/namespaces/{cluster.namespace}")[0] == 404


@pytest.mark.timeout(180)  # waits a minute for a kubelet that is gone
def test_a_pod_on_a_lost_node_is_replaced(cluster: Cluster, operator: OperatorProcess) -> None:
    cluster.apply(DOMAIN.replace("replicas: 3", "replicas: 2\n  terminationGracePeriodSeconds: 5"))
    kubelet.make_all_ready(cluster, "worker", 2)
    cluster.await_reason("agents", "worker", "Running")
    first = kubelet.pods(cluster, "worker")
    kubelet.bind(cluster, "worker-0", f"dead-{cluster.namespace}", ready=False)
    kubelet.bind(cluster, "worker-1", f"alive-{cluster.namespace}", ready=True)
    for name in first:
        # The node lifecycle controller would evict it; the kubelet that must confirm is gone.
        cluster.server.kubectl("delete", "pod", name, "-n", cluster.namespace, "--wait=false")

    def replaced() -> bool:
        found = kubelet.pods(cluster, "worker").get("worker-0")
        return found is not None and found["metadata"]["uid"] != first["worker-0"]["metadata"]["uid"]

    wait_for(replaced, timeout=90, what="pod of the lost node replaced", interval=0.2)
    # A node that is ready will confirm by itself: its pod is left alone.
    assert kubelet.pods(cluster, "worker")["worker-1"]["metadata"]["uid"] == first["worker-1"]["metadata"]["uid"]
    assert "is lost" in operator.text()


def test_events_tell_what_conditions_tell(cluster: Cluster, operator: OperatorProcess) -> None:
    parts = [yaml.safe_dump(part) for part in yaml.safe_load_all(DOMAIN)]
    cluster.apply(parts[3])
    cluster.await_reason("agents", "worker", "NotFound")

    def told() -> list[dict[str, object]]:
        found = json.loads(cluster.server.kubectl("get", "events.events.k8s.io", "-n", cluster.namespace, "-o", "json"))
        return [e for e in found["items"] if e["regarding"]["kind"] == "Agent" and e["reason"] == "NotFound"]

    events = wait_for(told, what="an Event")
    assert len(events) == 1
    assert events[0]["type"] == "Warning"
