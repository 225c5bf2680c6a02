"""Copies of templates on a real API server: whatever the name server's status says, only the NameServer's spec decides."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
import yaml

from ganglion.wiring.copies import copy_name
from tests.support.apiserver import ApiServer
from tests.support.domain import Cluster, install_definitions, settle
from tests.support.operator import OperatorProcess
from tests.support.wait import wait_for

DOMAIN = """
apiVersion: ganglion.dev/v1alpha1
kind: NameServer
metadata: {name: zoo}
spec: {adHoc: Allowed, deletionPolicy: Orphan, templates: [{name: worker, maxCopies: 2}, {name: strange}]}
---
apiVersion: ganglion.dev/v1alpha1
kind: Agent
metadata: {name: worker}
spec:
  nameServerRef: {name: zoo}
  replicas: 0
  class: "demo:Worker"
  code: {inline: {demo.py: "from ganglion import Agent as Worker"}}
  attributes: {kept: 1}
  resources: {requests: {cpu: "0.5", memory: 64Mi}}
---
apiVersion: ganglion.dev/v1alpha1
kind: Agent
metadata: {name: strange}
spec: {nameServerRef: {name: other}, class: "demo:Worker"}
---
apiVersion: ganglion.dev/v1alpha1
kind: Agent
metadata: {name: unlisted}
spec: {nameServerRef: {name: zoo}, replicas: 0, class: "demo:Worker"}
"""
ALICE, BOB, CAROL = (copy_name("worker", name) for name in ("Alice", "Bob", "Carol"))
MINE = ["strange", "unlisted", "worker"]


@pytest.fixture
def cluster(apiserver_with_controllers: ApiServer) -> Iterator[Cluster]:
    install_definitions(apiserver_with_controllers)
    with apiserver_with_controllers.namespace() as name:
        yield Cluster(apiserver_with_controllers, name)


def ask(cluster: Cluster, *wanted: str, template: str = "worker") -> None:
    """What a name server writes, or somebody who has taken it over."""
    status, body = cluster.server.merge(
        cluster.path("nameservers", "zoo") + "/status", {"status": {"copies": [{"name": name, "template": template} for name in wanted]}}
    )
    assert status == 200, body


def agents(cluster: Cluster, *copies: str) -> None:
    """Return when these copies are there, and no others."""
    wanted = sorted([*MINE, *copies])
    wait_for(lambda: cluster.names("agents") == wanted, what=f"agents {wanted}")


def uids(cluster: Cluster, *copies: str) -> dict[str, str]:
    """Of the copies and their jobs."""
    return {f"{plural}/{name}": cluster.need(plural, name)["metadata"]["uid"] for name in copies for plural in ("agents", "jobs")}


def refused(cluster: Cluster, says: str) -> None:
    wait_for(lambda: says in cluster.condition("nameservers", "zoo", "CopiesAllowed").get("message", ""), what=f"refusal: {says}")


def test_only_the_spec_decides(cluster: Cluster) -> None:
    with OperatorProcess(cluster.server.kubeconfig, (cluster.namespace,)) as operator:
        operator.wait_ready()
        cluster.apply(DOMAIN)
        cluster.need("statefulsets", "zoo")
        for template, name, says in (
            ("unlisted", copy_name("unlisted", "Alice"), "template 'unlisted' is not in spec.templates"),
            ("worker", "sink", "no name of a copy of 'worker'"),
            ("strange", copy_name("strange", "Alice"), "found an Agent of NameServer 'other'"),
        ):
            ask(cluster, name, template=template)
            refused(cluster, says)
        assert cluster.names("agents") == MINE

        ask(cluster, ALICE, BOB, CAROL)
        agents(cluster, ALICE, BOB)
        refused(cluster, "found more than 2 of template 'worker'")
        made = cluster.need("agents", ALICE)
        assert made["metadata"]["labels"] == {"ganglion.dev/template": "worker"}
        assert (made["spec"]["run"], made["spec"]["replicas"]) == ("Once", 1)
        assert made["spec"]["attributes"] == {"target": "demo:Worker", "attributes": {"kept": 1}}
        pod = cluster.need("jobs", ALICE)["spec"]["template"]["spec"]
        assert pod["containers"][0]["resources"]["requests"] == {"cpu": "500m", "memory": "64Mi"}
        found = json.loads(cluster.server.kubectl("get", "events.events.k8s.io", "-n", cluster.namespace, "-o", "json"))
        events = [event for event in found["items"] if event["reason"] == "TemplateRefused"]
        assert [event["regarding"]["kind"] for event in events] == ["NameServer"]

        # A copy of a copy, although the spec names one.
        cluster.patch("nameservers", "zoo", {"spec": {"templates": [{"name": "worker", "maxCopies": 2}, {"name": ALICE}]}})
        before = uids(cluster, ALICE)
        ask(cluster, ALICE)
        agents(cluster, ALICE)
        ask(cluster, copy_name(ALICE, "Eve"), template=ALICE)
        agents(cluster)
        ask(cluster, ALICE)
        agents(cluster, ALICE)
        body = [{"name": ALICE, "template": "worker"}, {"name": copy_name(ALICE, "Eve"), "template": ALICE}]
        cluster.server.merge(cluster.path("nameservers", "zoo") + "/status", {"status": {"copies": body}})
        refused(cluster, "found a copy; name the Agent that it was made from")
        settle(operator)
        agents(cluster, ALICE)
        # A copy that was ended and is asked for again is another one.
        assert cluster.need("agents", ALICE)["metadata"]["uid"] != before[f"agents/{ALICE}"]


@pytest.mark.timeout(300)
def test_copies_outlive_the_operator_and_their_template_but_not_their_name_server(cluster: Cluster) -> None:
    with OperatorProcess(cluster.server.kubeconfig, (cluster.namespace,)) as operator:
        operator.wait_ready()
        cluster.apply(DOMAIN)
        cluster.need("statefulsets", "zoo")
        ask(cluster, ALICE)
        agents(cluster, ALICE)
        before = uids(cluster, ALICE)
        operator.kill()
        # Meanwhile: a wish, and a template that is no more what it was.
        ask(cluster, ALICE, BOB)
        edited = yaml.safe_dump(next(part for part in yaml.safe_load_all(DOMAIN) if part["metadata"]["name"] == "worker"))
        cluster.apply(edited.replace("demo:Worker", "demo:Other"))
        for _ in range(3):
            # Killed before, while or after it makes the other copy.
            operator.start()
            operator.wait_ready()
            operator.kill()
        operator.start()
        agents(cluster, ALICE, BOB)
        assert cluster.need("agents", BOB)["spec"]["attributes"]["target"] == "demo:Other"
        assert cluster.need("agents", ALICE)["spec"]["attributes"]["target"] == "demo:Worker"
        before |= uids(cluster, BOB)
        cluster.server.kubectl("delete", "agent", "worker", "-n", cluster.namespace)
        operator.wait_ready()
        settle(operator)
        assert cluster.names("jobs") == sorted([ALICE, BOB])
        assert uids(cluster, ALICE, BOB) == before
        # Taken off the list: it goes, and only it.
        ask(cluster, BOB)
        # The garbage collector looks every 30 s which kinds there are; these may be younger than that.
        wait_for(lambda: cluster.names("jobs") == [BOB], timeout=90, what="the job of the copy is gone")
        assert cluster.names("agents") == sorted(["strange", "unlisted", BOB])
        # Orphan is for Agents that users have made.
        cluster.server.kubectl("delete", "nameserver", "zoo", "-n", cluster.namespace, "--timeout=60s")
        wait_for(lambda: cluster.names("agents") == ["strange", "unlisted"], timeout=60, what="copies end with their NameServer")
        wait_for(lambda: not cluster.names("jobs"), timeout=60, what="no jobs")
        settle(operator)
        assert cluster.names("agents") == ["strange", "unlisted"]
