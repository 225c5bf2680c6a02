"""The operator process against a real API server: manifests become objects, edits become changes, and what is missing heals."""

from __future__ import annotations

import asyncio
import json
import random
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from ganglion_operator.core.rbac import NAMESPACED_RULES, OWN_NAMESPACE_RULES
from ganglion_operator.core.settings import PodSettings
from ganglion_operator.engine.context import Engine
from ganglion_operator.engine.controller import Controller
from ganglion_operator.engine.reconcile import Reconciler
from ganglion_operator.engine.resync import Resync
from ganglion_operator.kube.access import load_configuration
from ganglion_operator.kube.client import KubernetesClient
from ganglion_operator.metrics import Metrics
from tests.support.apiserver import ApiServer
from tests.support.domain import DOMAIN, Cluster, install_definitions, settle
from tests.support.operator import OperatorProcess
from tests.support.wait import wait_for


@pytest.fixture
def cluster(apiserver: ApiServer, namespace: str) -> Cluster:
    install_definitions(apiserver)
    return Cluster(apiserver, namespace)


@pytest.fixture
def operator(cluster: Cluster) -> Iterator[OperatorProcess]:
    with OperatorProcess(cluster.server.kubeconfig, (cluster.namespace,)) as process:
        process.wait_ready()
        yield process


def test_manifests_become_objects(cluster: Cluster, operator: OperatorProcess) -> None:
    cluster.apply(DOMAIN)
    worker = cluster.need("statefulsets", "worker")
    cluster.need("statefulsets", "source")
    server = cluster.need("statefulsets", "zoo")
    zoo = cluster.need("nameservers", "zoo")

    spec = worker["spec"]
    assert (spec["replicas"], spec["podManagementPolicy"], spec["updateStrategy"]["type"]) == (3, "Parallel", "OnDelete")
    pod = spec["template"]["spec"]
    assert pod["automountServiceAccountToken"] is False
    sidecar = pod["initContainers"][0]
    assert (sidecar["name"], sidecar["restartPolicy"], sidecar["image"]) == ("runtime", "Always", operator.agent_image)
    assert [mount["name"] for mount in pod["containers"][0]["volumeMounts"]] == ["ganglion-run", "ganglion-wiring", "ganglion-tmp"]
    token = next(v for v in pod["volumes"] if v["name"] == "ganglion-token")["projected"]["sources"][0]["serviceAccountToken"]
    assert token["audience"] == f"ganglion:{cluster.namespace}/{zoo['metadata']['uid']}/worker"
    wiring = json.loads(spec["template"]["metadata"]["annotations"]["ganglion.dev/wiring"])
    assert wiring["nameServer"]["publicKey"] == zoo["status"]["publicKey"]
    assert wiring["channels"][0]["alias"] == "in"
    owner = worker["metadata"]["ownerReferences"][0]
    assert (owner["kind"], owner["name"], owner["blockOwnerDeletion"], owner["controller"]) == ("Agent", "worker", True, True)

    agent = cluster.need("agents", "worker")
    assert [(o["kind"], o["name"], o["uid"]) for o in agent["metadata"]["ownerReferences"]] == [
        ("NameServer", "zoo", zoo["metadata"]["uid"])
    ]
    assert "finalizers" not in agent["metadata"]
    assert agent["status"]["selector"] == "ganglion.dev/agent=worker"

    assert server["spec"]["replicas"] == 1
    environment = {e["name"]: e.get("value") for e in server["spec"]["template"]["spec"]["containers"][0]["env"]}
    assert environment["GANGLION_TOKEN_ISSUER"] == "https://kubernetes.default.svc"
    assert environment["GANGLION_NAMESERVER_UID"] == zoo["metadata"]["uid"]
    assert cluster.names("services") == ["zoo", "zoo-agents"]
    assert cluster.need("services", "zoo-agents")["spec"]["publishNotReadyAddresses"] is True
    assert cluster.names("roles") == cluster.names("rolebindings") == ["zoo-nameserver"]
    secret = cluster.need("secrets", zoo["status"]["keySecret"])
    assert secret["immutable"] is True
    assert cluster.names("secrets") == [zoo["status"]["keySecret"]]
    keys = json.loads(cluster.need("configmaps", "zoo-token-keys")["data"]["jwks.json"])
    assert keys["keys"]
    cluster.await_reason("channels", "tasks", "Usable")
    assert cluster.need("channels", "tasks")["status"]["receivers"] == 3
    cluster.await_reason("agents", "worker", "Starting")


def test_an_edit_reaches_the_workload(cluster: Cluster, operator: OperatorProcess) -> None:
    cluster.apply(DOMAIN)
    before = cluster.need("statefulsets", "worker")["spec"]["template"]["metadata"]["annotations"]["ganglion.dev/intent-hash"]
    cluster.server.kubectl("scale", "agent", "worker", "-n", cluster.namespace, "--replicas=5")
    wait_for(lambda: cluster.need("statefulsets", "worker")["spec"]["replicas"] == 5, what="scaled")
    assert cluster.need("statefulsets", "worker")["spec"]["template"]["metadata"]["annotations"]["ganglion.dev/intent-hash"] == before
    # A level replaces nothing: pods that start later have it in their wiring, those that run hear of it from the name server.
    cluster.patch("agents", "worker", {"spec": {"logLevel": "Debug"}})

    def leveled() -> bool:
        annotations = cluster.need("statefulsets", "worker")["spec"]["template"]["metadata"]["annotations"]
        assert annotations["ganglion.dev/intent-hash"] == before
        return bool(json.loads(annotations["ganglion.dev/wiring"])["agent"]["logLevel"] == "Debug")

    wait_for(leveled, what="level in the wiring")
    cluster.patch("agents", "worker", {"spec": {"env": [{"name": "MODE", "value": "fast"}]}})

    def edited() -> bool:
        template = cluster.need("statefulsets", "worker")["spec"]["template"]
        return {"name": "MODE", "value": "fast"} in template["spec"]["containers"][0]["env"]

    wait_for(edited, what="edit in the template")
    assert cluster.need("statefulsets", "worker")["spec"]["template"]["metadata"]["annotations"]["ganglion.dev/intent-hash"] != before


def test_a_missing_reference_heals(cluster: Cluster, operator: OperatorProcess) -> None:
    parts = [yaml.safe_dump(part) for part in yaml.safe_load_all(DOMAIN)]
    cluster.apply(parts[3])
    assert "NameServer 'zoo' does not exist" in cluster.await_reason("agents", "worker", "NotFound")["message"]
    assert cluster.names("statefulsets") == []
    cluster.apply(parts[0])
    cluster.await_reason("agents", "worker", "NotFound", "ChannelsResolved")
    cluster.await_reason("agents", "worker", "Resolved", "NameServerResolved")
    cluster.apply(parts[1])
    cluster.need("statefulsets", "worker")
    cluster.await_reason("agents", "worker", "Resolved", "ChannelsResolved")


PAIR = """
apiVersion: ganglion.dev/v1alpha1
kind: Channel
metadata: {name: talk}
spec: {nameServerRef: {name: zoo}, pattern: Pair}
"""
END_OF_A_PAIR = """
apiVersion: ganglion.dev/v1alpha1
kind: Agent
metadata: {name: NAME}
spec: {nameServerRef: {name: zoo}, class: "a:B", channels: [{alias: talk, channelRef: {name: talk}, role: ROLE, handler: heard}]}
"""


def test_a_third_in_a_pair_waits_until_there_are_two(cluster: Cluster, operator: OperatorProcess) -> None:
    ends = [("left", "Binder"), ("right", "Connector"), ("third", "Connector")]
    left, right, third = (END_OF_A_PAIR.replace("NAME", name).replace("ROLE", role) for name, role in ends)
    server = yaml.safe_dump(next(part for part in yaml.safe_load_all(DOMAIN) if part["kind"] == "NameServer"))
    cluster.apply("---\n".join([server, PAIR, left, right]))
    wiring = json.loads(cluster.need("statefulsets", "left")["spec"]["template"]["metadata"]["annotations"]["ganglion.dev/wiring"])
    assert [(entry["alias"], entry["channel"], entry["role"]) for entry in wiring["channels"]] == [
        ("talk", "talk", "Push"), ("talk.in", "talk/back", "Pull"),
    ]  # fmt: skip
    cluster.need("statefulsets", "right")
    cluster.await_reason("channels", "talk", "Usable")
    cluster.apply(third)
    assert "found 2 that take the role Connector" in cluster.await_reason("channels", "talk", "TooManyPeers", "Accepted")["message"]
    cluster.await_reason("agents", "third", "TooManyPeers", "ChannelsResolved")
    assert "third" not in cluster.names("statefulsets")
    cluster.server.kubectl("delete", "agent", "right", "-n", cluster.namespace, "--wait=false")
    cluster.need("statefulsets", "third")
    cluster.await_reason("channels", "talk", "Usable")


def test_a_strangers_object_is_never_touched(cluster: Cluster, operator: OperatorProcess) -> None:
    stranger = {
        "apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"name": "worker"},
        "spec": {"selector": {"matchLabels": {"app": "mine"}}, "serviceName": "x", "replicas": 0,
                 "template": {"metadata": {"labels": {"app": "mine"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}}},
    }  # fmt: skip
    cluster.apply(json.dumps(stranger))
    before = cluster.need("statefulsets", "worker")
    cluster.apply(DOMAIN)
    message = cluster.await_reason("agents", "worker", "NameConflict")["message"]
    assert "StatefulSet 'worker'" in message
    settle(operator)
    assert cluster.need("statefulsets", "worker")["metadata"]["resourceVersion"] == before["metadata"]["resourceVersion"]


def test_a_restart_writes_nothing(cluster: Cluster, operator: OperatorProcess) -> None:
    cluster.apply(DOMAIN)
    cluster.need("statefulsets", "worker")
    cluster.await_reason("agents", "worker", "Starting")
    cluster.await_reason("agents", "source", "Starting")
    cluster.await_reason("nameservers", "zoo", "Starting")
    settle(operator)
    assert operator.writes() > 0
    assert operator.stop() == 0
    operator.start()
    operator.wait_ready()
    wait_for(lambda: operator.metric("controller_runtime_reconcile_total") >= 4, what="everything looked at")
    settle(operator)
    assert operator.writes() == 0, operator.text()


def test_what_is_deleted_or_changed_by_hand_comes_back(cluster: Cluster, operator: OperatorProcess) -> None:
    cluster.apply(DOMAIN)
    first = cluster.need("statefulsets", "worker")
    cluster.server.request("DELETE", cluster.path("statefulsets", "worker"))
    wait_for(lambda: (cluster.get("statefulsets", "worker") or first)["metadata"]["uid"] != first["metadata"]["uid"], what="made again")
    cluster.patch("statefulsets", "worker", {"spec": {"replicas": 0}})
    wait_for(lambda: cluster.need("statefulsets", "worker")["spec"]["replicas"] == 3, what="corrected")


def test_its_pods_meet_pod_security_restricted(cluster: Cluster, operator: OperatorProcess) -> None:
    """The API server's own admission judges the pods of agents and name servers."""
    label = {"metadata": {"labels": {"pod-security.kubernetes.io/enforce": "restricted"}}}
    assert cluster.server.merge(f"/api/v1/namespaces/{cluster.namespace}", label)[0] == 200
    cluster.apply(DOMAIN + BUDGET)
    workloads = [cluster.need("statefulsets", name) for name in ("worker", "zoo", "guarded")] + [cluster.need("jobs", "once")]
    for body in workloads:
        template = body["spec"]["template"]
        # The admission plugin that fills in the account is off where no controllers make accounts.
        pod = {"metadata": {**template["metadata"], "name": "probe"}, "spec": {"serviceAccountName": "default", **template["spec"]}}
        status, answer = cluster.server.request("POST", cluster.path("pods") + "?dryRun=All", pod)
        assert status == 201, answer["message"]


def test_its_own_writes_come_back_through_the_watch(cluster: Cluster, operator: OperatorProcess) -> None:
    """Liveness is about events that flow: a write of its own is seen by its own watch."""
    wait_for(lambda: operator.metric("ganglion_operator_canary_echoes_total") >= 1, what="an echo")
    assert operator.get("/livez") == (200, "ok")
    assert operator.metric("ganglion_operator_objects", kind="ConfigMap") == 1


def test_a_resync_heals_what_no_watch_told(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    """No watch at all, only full lists of the real API server."""
    monkeypatch.setenv("KUBECONFIG", str(cluster.server.kubeconfig))

    async def story() -> None:
        metrics = Metrics()
        client = KubernetesClient(await load_configuration(), metrics, component="test", instance="test")
        engine = Engine(client, PodSettings(agent_image="agent:1"), metrics)
        resync = Resync(engine, [cluster.namespace], settle=0.1)
        await resync.first()
        controller = asyncio.create_task(Controller(engine, Reconciler(engine)).run())
        try:
            await asyncio.to_thread(cluster.apply, DOMAIN)
            assert await resync.round() == 4
            await asyncio.to_thread(cluster.need, "statefulsets", "worker")
            first = await asyncio.to_thread(cluster.need, "statefulsets", "source")
            await asyncio.to_thread(cluster.server.request, "DELETE", cluster.path("statefulsets", "source"))
            assert await resync.round() >= 1
            second = await asyncio.to_thread(cluster.need, "statefulsets", "source")
            assert first["metadata"]["uid"] != second["metadata"]["uid"]
            assert await resync.round() == 0
        finally:
            engine.queue.close()
            await controller
            await client.close()

    asyncio.run(story())


def test_nothing_heavy_is_loaded(cluster: Cluster, operator: OperatorProcess) -> None:
    """The operator decodes no messages: neither the messaging stack nor dill is in its memory."""
    assert operator.child is not None
    maps = Path(f"/proc/{operator.child.pid}/maps").read_text()
    assert "zmq" not in maps


def test_its_own_permissions_are_enough(cluster: Cluster, tmp_path: Path) -> None:
    """With nothing but the table of core/rbac.py it builds the whole domain, and no call is forbidden."""
    rules = [rule.render("") for rule in (*NAMESPACED_RULES, *OWN_NAMESPACE_RULES)]
    cluster.apply(json.dumps({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "op"}}))
    cluster.apply(json.dumps({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": {"name": "op"}, "rules": rules}))
    binding = {
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": {"name": "op"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "op"},
        "subjects": [{"kind": "ServiceAccount", "name": "op", "namespace": cluster.namespace}],
    }  # fmt: skip
    cluster.apply(json.dumps(binding))
    token = cluster.server.kubectl("create", "token", "op", "-n", cluster.namespace).strip()
    config = yaml.safe_load(cluster.server.kubeconfig.read_text())
    config["users"][0]["user"] = {"token": token}
    kubeconfig = tmp_path / "kubeconfig"
    kubeconfig.write_text(yaml.safe_dump(config))
    with OperatorProcess(kubeconfig, (cluster.namespace,), ("--leader-elect=true",)) as operator:
        operator.wait_ready()
        cluster.apply(DOMAIN + BUDGET)
        cluster.need("poddisruptionbudgets", "guarded")
        cluster.await_reason("agents", "worker", "Starting")
        cluster.await_reason("nameservers", "zoo", "Starting")
        cluster.need("jobs", "once")
        cluster.patch("agents", "guarded", {"spec": {"minAvailable": None}})
        wait_for(lambda: cluster.get("poddisruptionbudgets", "guarded") is None, what="budget removed")
        settle(operator)
        assert operator.metric("rest_client_requests_total", code="403") == 0, operator.text()
        assert operator.stop() == 0
    lease = json.loads(cluster.server.kubectl("get", "lease", "ganglion-operator", "-n", cluster.namespace, "-o", "json"))
    assert lease["spec"]["holderIdentity"] == ""


BUDGET = """
---
apiVersion: ganglion.dev/v1alpha1
kind: Agent
metadata: {name: guarded}
spec: {nameServerRef: {name: zoo}, replicas: 2, minAvailable: 1, class: "demo:Worker", code: {inline: {demo.py: "class Worker: ..."}}}
---
apiVersion: ganglion.dev/v1alpha1
kind: Agent
metadata: {name: once}
spec: {nameServerRef: {name: zoo}, run: Once, container: {image: busybox}}
"""


@pytest.mark.parametrize("round_number", range(2))
def test_it_converges_after_kills_at_any_moment(cluster: Cluster, round_number: int) -> None:
    """Killed with SIGKILL again and again while it builds a domain; the next life finishes, and nothing is there twice."""
    draw = random.Random(round_number)
    with OperatorProcess(cluster.server.kubeconfig, (cluster.namespace,)) as operator:
        cluster.apply(DOMAIN + BUDGET)
        for life in range(5):
            reached_or_done(operator, draw.randrange(1, 12))
            if life:
                # Something to do for the next life, too.
                cluster.patch("agents", "worker", {"spec": {"env": [{"name": "LIFE", "value": str(life)}]}})
            operator.kill()
            operator.start()
        operator.wait_ready()
        cluster.await_reason("channels", "tasks", "Usable")
        for name in ("worker", "source", "guarded"):
            cluster.await_reason("agents", name, "Starting")
        settle(operator)
        assert cluster.names("statefulsets") == ["guarded", "source", "worker", "zoo"]
        assert cluster.names("services") == ["zoo", "zoo-agents"]
        assert len([name for name in cluster.names("configmaps") if name.startswith("guarded-code-")]) == 1
        status = cluster.need("nameservers", "zoo")["status"]
        assert status["keySecret"] in cluster.names("secrets")
        wiring = cluster.need("statefulsets", "worker")["spec"]["template"]["metadata"]["annotations"]["ganglion.dev/wiring"]
        assert json.loads(wiring)["nameServer"]["publicKey"] == status["publicKey"]


def reached_or_done(operator: OperatorProcess, writes: int) -> None:
    """Return when it has written so often in this life, or finds nothing more to do."""

    def reached() -> bool:
        text = operator.text()
        written = text.count("Created ") + text.count("Applied ")
        return written >= writes or (operator.metric("controller_runtime_reconcile_total") >= 5 and operator.quiet())

    wait_for(reached, timeout=60, what=f"{writes} writes", interval=0.001)


@pytest.mark.parametrize("fault", ["gone", "frozen"])
def test_it_ends_in_time_while_nothing_answers(with_own_server: ApiServer, fault: str) -> None:
    """SIGTERM is served although every call fails, or hangs."""
    install_definitions(with_own_server)
    with OperatorProcess(with_own_server.kubeconfig, ("default",), ("--leader-elect=true",)) as operator:
        operator.wait_ready()
        # Who waits for the Lease is ready, too, and would fail in other words.
        wait_for(lambda: operator.metric("leader_election_master_status") == 1, what="it leads")
        if fault == "gone":
            with_own_server.stop()
            wait_for(lambda: "was not renewed" in operator.text(), timeout=60, what="calls that fail")
        else:
            calls = operator.metric("rest_client_requests_total")
            with_own_server.signal(signal.SIGSTOP)
            assert calls > 0
        started = time.monotonic()
        assert operator.stop(timeout=15) in (0, 1)
        assert time.monotonic() - started < 15
        if fault == "frozen":
            with_own_server.signal(signal.SIGCONT)


def test_it_waits_for_the_definitions_and_the_lease(with_own_server: ApiServer) -> None:
    with with_own_server.namespace() as name:
        cluster = Cluster(with_own_server, name)
        options = ("--leader-elect=true", "--identity")
        first = OperatorProcess(with_own_server.kubeconfig, (name,), (*options, "first"))
        second = OperatorProcess(with_own_server.kubeconfig, (name,), (*options, "second"))
        with first, second:
            wait_for(
                lambda: first.metric("leader_election_master_status") + second.metric("leader_election_master_status") == 1,
                what="one leads",
            )
            leader, follower = (first, second) if first.metric("leader_election_master_status") else (second, first)
            assert leader.get("/readyz")[0] == 503
            assert follower.get("/readyz")[0] == 200
            assert leader.stop() == 0
            wait_for(lambda: follower.metric("leader_election_master_status") == 1, what="the other one leads")
            install_definitions(with_own_server)
            follower.wait_ready()
            cluster.apply(DOMAIN)
            cluster.need("statefulsets", "worker")
            # Another holder ends it: two must never work.
            patch = {"spec": {"holderIdentity": "thief", "renewTime": "2126-01-01T00:00:00.000000Z", "leaseDurationSeconds": 3600}}
            with_own_server.kubectl("patch", "lease", "ganglion-operator", "-n", name, "--type=merge", "-p", json.dumps(patch))
            assert follower.child is not None
            assert follower.child.wait(timeout=30) == 1
            assert "another holder" in follower.text()


@pytest.fixture
def with_own_server() -> Iterator[ApiServer]:
    """An API server of its own, without the three kinds."""
    with ApiServer() as server:
        yield server
