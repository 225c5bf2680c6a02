"""The chart, rendered by the real helm: permissions, security, values, and that an API server takes every object."""

from __future__ import annotations

import json
import re
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from ganglion_operator.config import PREFIX, parse
from ganglion_operator.core import rbac
from hack.kind import golang
from tests.support.apiserver import ApiServer

CHART = Path(__file__).resolve().parents[2] / "charts" / "ganglion"
CI = sorted((CHART / "ci").glob("*.yaml"))
NAMESPACE = "ganglion-system"


def helm(*arguments: str) -> str:
    """Run helm; raises CalledProcessError with its output."""
    done = subprocess.run([str(golang.program("helm")), *arguments], capture_output=True, text=True, timeout=60, check=False)
    if done.returncode:
        raise subprocess.CalledProcessError(done.returncode, "helm", done.stdout, done.stderr)
    return done.stdout


def render(*arguments: str) -> list[dict[str, Any]]:
    text = helm("template", "ganglion", str(CHART), "--namespace", NAMESPACE, "--kube-version", "1.29.0", *arguments)
    return [document for document in yaml.safe_load_all(text) if document]


def of_kind(objects: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    return [item for item in objects if item["kind"] == kind]


def granted(rules: list[dict[str, Any]]) -> set[tuple[str, str, str]]:
    return {
        (group, resource, verb) for rule in rules for group in rule["apiGroups"] for resource in rule["resources"] for verb in rule["verbs"]
    }


def needed(rules: tuple[rbac.Rule, ...]) -> set[tuple[str, str, str]]:
    return {(rule.group, rule.resource, verb) for rule in rules for verb in rule.verbs}


def named(objects: list[dict[str, Any]], kind: str, name: str) -> dict[str, Any]:
    return next(item for item in of_kind(objects, kind) if item["metadata"]["name"] == name)


@pytest.mark.parametrize("values", [None, *CI], ids=lambda path: path.stem if path else "defaults")
def test_lint_is_strict(values: Path | None) -> None:
    helm("lint", "--strict", str(CHART), *(["--values", str(values)] if values else []))


def test_cluster_wide_permissions_are_what_the_operator_uses() -> None:
    objects = render()
    assert granted(named(objects, "ClusterRole", "ganglion")["rules"]) == needed(rbac.NAMESPACED_RULES)
    assert granted(named(objects, "ClusterRole", "ganglion-nodes")["rules"]) == needed(rbac.CLUSTER_RULES)
    assert granted(named(objects, "Role", "ganglion-leader")["rules"]) == needed(rbac.OWN_NAMESPACE_RULES)
    assert named(objects, "Role", "ganglion-leader")["metadata"]["namespace"] == NAMESPACE


@pytest.mark.parametrize("replicas", [1, 2])
def test_helm_waits_for_an_operator(replicas: int) -> None:
    """`helm --wait` takes a Deployment for ready when replicas - maxUnavailable pods are."""
    [deployment] = of_kind(render("--set", f"replicas={replicas}"), "Deployment")
    spec = deployment["spec"]
    assert spec["replicas"] - spec["strategy"]["rollingUpdate"]["maxUnavailable"] == 1
    # Without room for one more, one that must stay available could never be replaced.
    assert spec["strategy"]["rollingUpdate"]["maxSurge"] == 1


def test_operator_holds_what_it_grants_to_name_servers() -> None:
    assert needed(rbac.NAMESERVER_RULES) <= needed(rbac.NAMESPACED_RULES)


def test_watched_namespaces_need_no_cluster_wide_permission() -> None:
    objects = render("--set", "watchNamespaces={team-a,team-b},rbac.nodes=false,rbac.aggregate=false")
    assert not of_kind(objects, "ClusterRole")
    assert not of_kind(objects, "ClusterRoleBinding")
    roles = [item for item in of_kind(objects, "Role") if item["metadata"]["name"] == "ganglion"]
    assert [role["metadata"]["namespace"] for role in roles] == ["team-a", "team-b"]
    for role in roles:
        assert granted(role["rules"]) == needed(rbac.NAMESPACED_RULES)
    bindings = [item for item in of_kind(objects, "RoleBinding") if item["metadata"]["name"] == "ganglion"]
    assert [binding["metadata"]["namespace"] for binding in bindings] == ["team-a", "team-b"]
    for binding in bindings:
        assert binding["subjects"] == [{"kind": "ServiceAccount", "name": "ganglion", "namespace": NAMESPACE}]


@pytest.mark.parametrize("values", [None, *CI], ids=lambda path: path.stem if path else "defaults")
def test_no_permission_is_a_star(values: Path | None) -> None:
    for item in render(*(["--values", str(values)] if values else [])):
        for rule in item.get("rules", ()):
            assert "*" not in {*rule["apiGroups"], *rule["resources"], *rule["verbs"]}


def test_users_who_write_agents_do_not_write_pods() -> None:
    objects = render()
    for name in ("ganglion-view", "ganglion-edit"):
        rules = granted(named(objects, "ClusterRole", name)["rules"])
        assert {group for group, _, _ in rules} == {"ganglion.dev"}
    assert {verb for _, _, verb in granted(named(objects, "ClusterRole", "ganglion-view")["rules"])} == {"get", "list", "watch"}
    writes = granted(named(objects, "ClusterRole", "ganglion-edit")["rules"])
    assert not [resource for _, resource, _ in writes if resource.endswith(("/status", "/finalizers"))]


def test_crds_can_be_left_out_and_dropped() -> None:
    kept = of_kind(render(), "CustomResourceDefinition")
    assert [item["metadata"]["annotations"] for item in kept] == [{"helm.sh/resource-policy": "keep"}] * 3
    assert all("annotations" not in item["metadata"] for item in of_kind(render("--set", "crds.keep=false"), "CustomResourceDefinition"))
    assert not of_kind(render("--set", "crds.enabled=false"), "CustomResourceDefinition")


def test_image_digest_wins_over_the_tag() -> None:
    digest = "sha256:" + "a" * 64
    [deployment] = of_kind(
        render("--set", f"image.operator.repository=r/o,image.operator.tag=t,image.operator.digest={digest}"), "Deployment"
    )
    assert deployment["spec"]["template"]["spec"]["containers"][0]["image"] == f"r/o@{digest}"
    [deployment] = of_kind(render("--set", "image.operator.repository=r/o,image.operator.tag=t"), "Deployment")
    assert deployment["spec"]["template"]["spec"]["containers"][0]["image"] == "r/o:t"


def _environment(deployment: dict[str, Any]) -> dict[str, str]:
    return {
        entry["name"]: entry.get("value", "found-by-kubelet") for entry in deployment["spec"]["template"]["spec"]["containers"][0]["env"]
    }


def test_operator_reads_what_the_chart_sets() -> None:
    [deployment] = of_kind(render("--values", str(CHART / "ci" / "full-values.yaml")), "Deployment")
    environment = _environment(deployment)
    config = parse([], environment)
    assert config.pods.agent_image == "registry.example.com/agent:v9"
    assert (config.pods.pull_policy, config.pods.pull_secrets) == ("Always", ("registry",))
    assert (config.pods.cluster_domain, config.pods.eviction_seconds, config.pods.log_level) == ("cluster.test", 5, "DEBUG")
    assert (config.log_format, config.log_level, config.health_port) == ("text", "DEBUG", 9090)
    assert (config.lease_name, config.leader_elect, config.workers, config.resync_seconds) == ("zeromq", True, 2, 60)
    assert config.namespaces is None
    [scoped] = of_kind(render("--set", "watchNamespaces={team-a,team-b},leaderElection.enabled=false"), "Deployment")
    assert parse([], _environment(scoped)).namespaces == ("team-a", "team-b")
    assert parse([], _environment(scoped)).leader_elect is False


def test_chart_sets_no_variable_that_the_operator_ignores(capsys: pytest.CaptureFixture[str]) -> None:
    [deployment] = of_kind(render(), "Deployment")
    with pytest.raises(SystemExit):
        parse(["--help"], {})
    known = set(re.findall(rf"{PREFIX}[A-Z_]+", re.sub(r"\s+", "", capsys.readouterr().out)))
    assert {name for name in _environment(deployment) if not name.startswith("POD_")} <= known


def test_chart_defaults_are_the_operators() -> None:
    [deployment] = of_kind(render(), "Deployment")
    environment = _environment(deployment)
    image = environment["GANGLION_OPERATOR_AGENT_IMAGE"]
    identity = {"POD_NAME": "a", "POD_NAMESPACE": "b"}
    bare = parse([], {"GANGLION_OPERATOR_AGENT_IMAGE": image, **identity})
    mine = parse([], {**environment, **identity})
    chosen = replace(bare, lease_name=mine.lease_name, pods=replace(bare.pods, pull_policy=mine.pods.pull_policy))
    assert mine == chosen


def test_disruption_budget_needs_two_operators() -> None:
    assert not of_kind(render(), "PodDisruptionBudget")
    assert len(of_kind(render("--set", "replicas=2"), "PodDisruptionBudget")) == 1


@pytest.mark.parametrize(
    ("setting", "text"),
    [
        ("replica=2", "replica"),
        ("replicas=-1", "replicas"),
        ("image.operator.digest=latest", "digest"),
        ("watchNamespaces={Team}", "watchNamespaces"),
        ("log.level=LOUD", "level"),
        ("replicas=2,leaderElection.enabled=false", "replicas above 1 need leaderElection.enabled"),
        ("serviceAccount.create=false", "serviceAccount.name is needed"),
        ("metrics.service.enabled=false,metrics.serviceMonitor.enabled=true", "needs metrics.service.enabled"),
    ],
)
def test_wrong_value_is_refused_by_name(setting: str, text: str) -> None:
    with pytest.raises(subprocess.CalledProcessError) as caught:
        render("--set", setting)
    assert text in caught.value.stderr


def test_old_clusters_are_refused() -> None:
    with pytest.raises(subprocess.CalledProcessError) as caught:
        render("--kube-version", "1.28.9")
    assert "kubeVersion: >=1.29.0-0" in caught.value.stderr


@pytest.mark.parametrize("values", [None, *CI], ids=lambda path: path.stem if path else "defaults")
def test_api_server_takes_every_object(apiserver: ApiServer, values: Path | None) -> None:
    """A strict server-side dry run, in a namespace that enforces Pod Security `restricted`."""
    objects = render(*(["--values", str(values)] if values else []))
    with apiserver.namespace("chart") as namespace:
        apiserver.kubectl("label", "namespace", namespace, "pod-security.kubernetes.io/enforce=restricted")
        for item in objects:
            if item["kind"] == "ServiceMonitor":
                continue  # its CRD is the Prometheus operator's
            if "namespace" in item["metadata"]:
                item["metadata"]["namespace"] = namespace
            apiserver.kubectl("apply", "--server-side", "--dry-run=server", "--validate=strict", "-f", "-", stdin=json.dumps(item))
        template = of_kind(objects, "Deployment")[0]["spec"]["template"]
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "operator", **template["metadata"]}, "spec": template["spec"]}
        pod["spec"].pop("serviceAccountName")
        pod["spec"].pop("priorityClassName", None)
        status, answer = apiserver.request("POST", f"/api/v1/namespaces/{namespace}/pods?dryRun=All&fieldValidation=Strict", pod)
        assert status == 201, answer
