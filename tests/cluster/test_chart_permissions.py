"""The chart's roles on a real API server: enough for the operator, and no step further for it or for users."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest

from ganglion_operator.core import rbac
from tests.cluster.crds import path
from tests.cluster.test_chart import of_kind, render
from tests.support.apiserver import ApiServer
from tests.support.manifests import agent
from tests.support.wait import wait_for

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


def _allowed(apiserver: ApiServer, token: str, where: str, group: str, resource: str, verb: str, name: str = "") -> bool:
    """Whether the API server lets the token's account do it; `name` of one object, empty for any."""
    plural, _, subresource = resource.partition("/")
    attributes = {"namespace": where, "group": group, "resource": plural, "subresource": subresource, "verb": verb, "name": name}
    review = {"spec": {"resourceAttributes": attributes}}
    _, answer = apiserver.request("POST", "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", review, token=token)
    return bool(answer["status"]["allowed"])


def _bind(server: ApiServer, namespace: str, account: str, token: str, role: str, *proof: str) -> None:
    """Give a role (`clusterrole=NAME` or `role=NAME`) to an account.

    Args:
        token: of the account.
        proof: group, resource and verb of something that the role allows: the authorizer learns of a binding a moment later.
    """
    server.kubectl("create", "rolebinding", account, "-n", namespace, f"--{role}", f"--serviceaccount={namespace}:{account}")
    wait_for(lambda: _allowed(server, token, namespace, *proof), what=f"{role} in force for {account}")


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
    _bind(apiserver, namespace, "operator", token, "clusterrole=ganglion", "", "secrets", "create")
    return token


def _role(name: str, rules: list[dict[str, Any]]) -> dict[str, Any]:
    return {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": {"name": name}, "rules": rules}


def test_operator_may_do_what_it_says_and_nothing_elsewhere(apiserver: ApiServer, namespace: str, operator: str) -> None:
    allowed = partial(_allowed, apiserver, operator)
    for rule in rbac.NAMESPACED_RULES:
        for verb in rule.verbs:
            assert allowed(namespace, rule.group, rule.resource, verb), (rule, verb)
            assert not allowed("default", rule.group, rule.resource, verb), (rule, verb)
    for group, resource, verb in (
        ("", "secrets", "list"),
        ("", "pods", "create"),
        ("", "pods/exec", "create"),
        ("ganglion.dev", "agents", "update"),
        ("ganglion.dev", "nameservers", "patch"),
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


def test_name_server_reports_its_own_state_and_reads_no_secret(apiserver: ApiServer, namespace: str) -> None:
    rules = [rule.render("demo") for rule in rbac.NAMESERVER_RULES]
    status, answer = apiserver.request("POST", ROLES.format(namespace), _role("demo", rules))
    assert status == 201, answer
    token = _account(apiserver, namespace, "demo")
    own = ("ganglion.dev", "nameservers/status", "patch")
    _bind(apiserver, namespace, "demo", token, "role=demo", *own, "demo")
    allowed = partial(_allowed, apiserver, token)
    assert allowed(namespace, "ganglion.dev", "agents", "watch")
    assert not allowed("default", "ganglion.dev", "agents", "watch")
    assert not allowed(namespace, *own, "other")
    for resource, verbs in {
        ("ganglion.dev", "nameservers"): ("patch", "delete", "create"),
        ("ganglion.dev", "agents"): ("patch", "delete", "create"),
        ("ganglion.dev", "channels"): ("patch", "delete", "create"),
        ("", "secrets"): ("get", "list", "watch", "create"),
        ("", "pods"): ("get", "list", "create", "delete"),
        ("", "pods/exec"): ("create",),
        ("", "serviceaccounts/token"): ("create",),
    }.items():
        for verb in verbs:
            assert not allowed(namespace, *resource, verb), (resource, verb)


@pytest.mark.usefixtures("crds", "cluster_roles")
def test_user_of_agents_is_no_user_of_pods(apiserver: ApiServer, namespace: str) -> None:
    editor, viewer = _account(apiserver, namespace, "editor"), _account(apiserver, namespace, "viewer")
    _bind(apiserver, namespace, "editor", editor, "clusterrole=ganglion-edit", "ganglion.dev", "agents", "create")
    _bind(apiserver, namespace, "viewer", viewer, "clusterrole=ganglion-view", "ganglion.dev", "agents", "get")
    agents, pods = path("Agent", namespace), f"/api/v1/namespaces/{namespace}/pods"
    assert apiserver.request("POST", agents, agent(), token=viewer)[0] == 403
    status, stored = apiserver.request("POST", agents, agent(), token=editor)
    assert status == 201, stored
    assert apiserver.request("POST", pods, POD, token=editor)[0] == 403
    assert apiserver.request("PUT", f"{agents}/worker/status", {**stored, "status": {"replicas": 9}}, token=editor)[0] == 403
    assert apiserver.request("GET", f"{agents}/worker", token=viewer)[0] == 200
    assert apiserver.request("GET", f"/api/v1/namespaces/{namespace}/secrets", token=viewer)[0] == 403
