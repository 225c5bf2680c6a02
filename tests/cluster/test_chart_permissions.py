"""The chart's roles on a real API server: enough for the operator, and no step further for it or for users."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from ganglion_operator.core import rbac
from tests.cluster.crds import path
from tests.cluster.test_chart import of_kind, render
from tests.support.apiserver import ApiServer
from tests.support.manifests import agent

ROLES = "/apis/rbac.authorization.k8s.io/v1/namespaces/{}/roles"
POD = {"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "busybox"}]}}


def _account(server: ApiServer, namespace: str, name: str) -> str:
    """Make a service account and return a token of it."""
    accounts = f"/api/v1/namespaces/{namespace}/serviceaccounts"
    assert server.request("POST", accounts, {"metadata": {"name": name}})[0] == 201
    status, answer = server.request("POST", f"{accounts}/{name}/token", {"spec": {"expirationSeconds": 600}})
    assert status == 201, answer
    token: str = answer["status"]["token"]
    return token


def _bind(server: ApiServer, namespace: str, account: str, cluster_role: str) -> None:
    server.kubectl(
        "create", "rolebinding", account, "-n", namespace, f"--clusterrole={cluster_role}", f"--serviceaccount={namespace}:{account}"
    )


@pytest.fixture(scope="module")
def cluster_roles(apiserver: ApiServer) -> Iterator[None]:
    """The chart's ClusterRoles."""
    roles = json.dumps({"apiVersion": "v1", "kind": "List", "items": of_kind(render(), "ClusterRole")})
    apiserver.kubectl("apply", "-f", "-", stdin=roles)
    yield
    apiserver.kubectl("delete", "-f", "-", stdin=roles)


@pytest.fixture
def operator(apiserver: ApiServer, namespace: str, cluster_roles: None) -> str:
    """Token of an operator that serves one namespace."""
    token = _account(apiserver, namespace, "operator")
    _bind(apiserver, namespace, "operator", "ganglion")
    return token


def _role(name: str, rules: list[dict[str, Any]]) -> dict[str, Any]:
    return {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": {"name": name}, "rules": rules}


def test_operator_may_do_what_it_says_and_nothing_elsewhere(apiserver: ApiServer, namespace: str, operator: str) -> None:
    def allowed(where: str, group: str, resource: str, verb: str) -> bool:
        name, _, subresource = resource.partition("/")
        attributes = {"namespace": where, "group": group, "resource": name, "subresource": subresource, "verb": verb}
        review = {"spec": {"resourceAttributes": attributes}}
        _, answer = apiserver.request("POST", "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", review, token=operator)
        return bool(answer["status"]["allowed"])

    for rule in rbac.NAMESPACED_RULES:
        for verb in rule.verbs:
            assert allowed(namespace, rule.group, rule.resource, verb), (rule, verb)
            assert not allowed("default", rule.group, rule.resource, verb), (rule, verb)
    for group, resource, verb in (
        ("", "secrets", "list"),
        ("", "pods", "create"),
        ("", "pods/exec", "create"),
        ("ganglion.dev", "agents", "delete"),
    ):
        assert not allowed(namespace, group, resource, verb)


def test_operator_may_make_the_name_servers_role_but_no_stronger_one(apiserver: ApiServer, namespace: str, operator: str) -> None:
    rules = [rule.render("demo") for rule in rbac.NAMESERVER_RULES]
    status, answer = apiserver.request("POST", ROLES.format(namespace), _role("demo", rules), token=operator)
    assert status == 201, answer
    stronger = [{"apiGroups": [""], "resources": ["secrets"], "verbs": ["list"]}]
    status, answer = apiserver.request("POST", ROLES.format(namespace), _role("more", stronger), token=operator)
    assert (status, answer["reason"]) == (403, "Forbidden")
    assert "attempting to grant RBAC permissions not currently held" in answer["message"]


@pytest.mark.usefixtures("crds", "cluster_roles")
def test_user_of_agents_is_no_user_of_pods(apiserver: ApiServer, namespace: str) -> None:
    editor, viewer = _account(apiserver, namespace, "editor"), _account(apiserver, namespace, "viewer")
    _bind(apiserver, namespace, "editor", "ganglion-edit")
    _bind(apiserver, namespace, "viewer", "ganglion-view")
    agents, pods = path("Agent", namespace), f"/api/v1/namespaces/{namespace}/pods"
    assert apiserver.request("POST", agents, agent(), token=viewer)[0] == 403
    status, stored = apiserver.request("POST", agents, agent(), token=editor)
    assert status == 201, stored
    assert apiserver.request("POST", pods, POD, token=editor)[0] == 403
    assert apiserver.request("PUT", f"{agents}/worker/status", {**stored, "status": {"replicas": 9}}, token=editor)[0] == 403
    assert apiserver.request("GET", f"{agents}/worker", token=viewer)[0] == 200
    assert apiserver.request("GET", f"/api/v1/namespaces/{namespace}/secrets", token=viewer)[0] == 403
