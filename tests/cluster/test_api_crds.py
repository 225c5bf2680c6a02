"""The CRDs on a real API server: what kubectl shows, defaults, immutability, scale, status."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest

from ganglion.api import Agent, Channel, NameServer
from ganglion.api.crd import KINDS, PLURALS, SHORT_NAMES, openapi_schema
from tests.cluster.crds import conditions, path
from tests.support.apiserver import ApiServer
from tests.support.manifests import agent, channel, link, name_server

pytestmark = pytest.mark.usefixtures("crds")

READY = {
    "type": "Ready",
    "status": "True",
    "reason": "Running",
    "message": "2 of 2 replicas are ready",
    "lastTransitionTime": "2026-01-01T00:00:00Z",
    "observedGeneration": 1,
}
COUNTS = ("accepted", "acked", "inFlight", "deadLettered", "dropped", "delivered", "unaccounted", "senders", "receivers")
STATUS: dict[str, dict[str, Any]] = {
    "NameServer": {
        "observedGeneration": 1,
        "conditions": [READY],
        "endpoint": "tcp://demo.default.svc.cluster.local.:7500",
        "publicKey": "k" * 40,
        "keySecret": "demo-0123",
        "members": 3,
        "agents": [{"name": "worker", "joined": 2, "wired": 1}],
        "channels": [{"name": "tasks", **dict.fromkeys((*COUNTS, "redelivered", "failed"), 2**40), "ended": True}],
        "copies": [{"name": "worker-0123456789ab", "template": "worker"}],
    },
    "Channel": {
        "observedGeneration": 1,
        "conditions": [READY],
        "bind": "Push",
        "delivery": "AtLeastOnce",
        **dict.fromkeys(COUNTS, 2**40),
    },
    "Agent": {
        "observedGeneration": 1,
        "conditions": [READY],
        "replicas": 3,
        "readyReplicas": 2,
        "updatedReplicas": 1,
        "succeeded": 4,
        "failed": 5,
        "joined": 2,
        "selector": "ganglion.dev/agent=worker",
        "intentHash": "0" * 32,
        "runtimeImage": "example.com/agent:1",
        "runtimeGeneration": 1,
    },
}
DOCUMENTS = {"NameServer": name_server(), "Channel": channel(), "Agent": agent(replicas=2, channels=[link()])}


@pytest.fixture
def objects(apiserver: ApiServer, namespace: str) -> dict[str, dict[str, Any]]:
    """One object of each kind, as stored, with a full status."""
    stored = {}
    for kind, document in DOCUMENTS.items():
        status, answer = apiserver.request("POST", path(kind, namespace), document)
        assert status == 201, answer
        body = {**answer, "status": STATUS[kind]}
        status, stored[kind] = apiserver.request("PUT", path(kind, namespace, answer["metadata"]["name"]) + "/status", body)
        assert status == 200, stored[kind]
    return stored


def put(server: ApiServer, body: dict[str, Any], **spec: Any) -> tuple[int, dict[str, Any]]:
    """Replace some fields of a stored object's spec."""
    changed = copy.deepcopy(body)
    changed["metadata"].pop("resourceVersion")
    changed["spec"].update(spec)
    where = path(body["kind"], body["metadata"]["namespace"], body["metadata"]["name"])
    current = server.request("GET", where)[1]["metadata"]["resourceVersion"]
    changed["metadata"]["resourceVersion"] = current
    return server.request("PUT", where, changed)


@pytest.mark.parametrize("kind", KINDS)
def test_definition_is_accepted_and_structural(apiserver: ApiServer, kind: str) -> None:
    found = conditions(apiserver, kind)
    assert (found["NamesAccepted"], found["Established"]) == ("True", "True")
    assert "NonStructuralSchema" not in found


def _leaves(schema: dict[str, Any], value: Any, where: str) -> list[str]:
    """Documented fields that `value` lacks."""
    missing = []
    for name, child in schema.get("properties", {}).items():
        if name not in value:
            missing.append(f"{where}.{name}")
        elif isinstance(child.get("items"), dict) and "properties" in child["items"]:
            missing += _leaves(child["items"], value[name][0], f"{where}.{name}[0]")
        else:
            missing += _leaves(child, value[name], f"{where}.{name}")
    return missing


@pytest.mark.parametrize("kind", KINDS)
def test_status_loses_no_documented_field(objects: dict[str, dict[str, Any]], kind: str) -> None:
    assert not _leaves(openapi_schema(kind)["properties"]["status"], STATUS[kind], "status")
    assert objects[kind]["status"] == STATUS[kind]
    model = {"NameServer": NameServer, "Channel": Channel, "Agent": Agent}[kind]
    assert model.parse(objects[kind]).to_dict()["status"] == STATUS[kind]


@pytest.mark.parametrize("kind", KINDS)
def test_status_and_spec_are_written_apart(apiserver: ApiServer, objects: dict[str, dict[str, Any]], kind: str) -> None:
    body = objects[kind]
    where = path(kind, body["metadata"]["namespace"], body["metadata"]["name"])
    apiserver.request("PUT", where, {**body, "status": {}})
    assert apiserver.request("GET", where)[1]["status"] == STATUS[kind]
    latest = apiserver.request("GET", where)[1]
    apiserver.request("PUT", where + "/status", {**latest, "spec": {}})
    assert apiserver.request("GET", where)[1]["spec"] == body["spec"]


@pytest.mark.parametrize(
    ("kind", "change", "field"),
    [
        ("Channel", {"nameServerRef": {"name": "other"}}, "spec.nameServerRef"),
        ("Channel", {"pattern": "PubSub"}, "spec.pattern"),
        ("Agent", {"nameServerRef": {"name": "other"}}, "spec.nameServerRef"),
        ("Agent", {"run": "Once"}, "spec.run"),
    ],
)
def test_identity_is_immutable(
    apiserver: ApiServer, objects: dict[str, dict[str, Any]], kind: str, change: dict[str, Any], field: str
) -> None:
    status, answer = put(apiserver, objects[kind], **change)
    assert status == 422
    assert [cause["field"] for cause in answer["details"]["causes"]] == [field]
    assert f"`{field.rsplit('.', 1)[1]}` is immutable; delete the object and create it again" in answer["message"]


@pytest.mark.parametrize(
    ("kind", "change"),
    [
        ("Channel", {"bind": "Pull", "codec": "Json", "delivery": "BestEffort", "highWaterMark": 4}),
        ("Agent", {"replicas": 9, "class": "workers:Other", "channels": [], "env": [{"name": "A", "value": "1"}]}),
        ("NameServer", {"security": "None", "remoteCode": "Trusted"}),
    ],
)
def test_the_rest_can_be_edited(apiserver: ApiServer, objects: dict[str, dict[str, Any]], kind: str, change: dict[str, Any]) -> None:
    status, answer = put(apiserver, objects[kind], **change)
    assert status == 200, answer
    assert answer["metadata"]["generation"] == objects[kind]["metadata"]["generation"] + 1
    assert {name: answer["spec"][name] for name in change} == change


def test_bad_edit_is_refused_and_leaves_the_object(apiserver: ApiServer, objects: dict[str, dict[str, Any]]) -> None:
    status, answer = put(apiserver, objects["Agent"], channels=[link(), link()])
    assert (status, answer["details"]["causes"][0]["field"]) == (422, "spec.channels[1]")
    where = path("Agent", objects["Agent"]["metadata"]["namespace"], "worker")
    assert apiserver.request("GET", where)[1]["spec"] == objects["Agent"]["spec"]


def rows(text: str) -> list[list[str]]:
    return [line.split() for line in text.splitlines() if line.strip()]


@pytest.mark.usefixtures("objects")
def test_columns_tell_the_state(apiserver: ApiServer, namespace: str) -> None:
    text = apiserver.kubectl("get", "-n", namespace, ",".join(SHORT_NAMES.values()))
    assert [row[:-1] for row in rows(text)] == [
        ["NAME", "READY", "REASON", "MEMBERS"],
        ["nameserver.ganglion.dev/demo", "True", "Running", "3"],
        ["NAME", "READY", "REASON", "PATTERN", "DELIVERY", "NAMESERVER", "ACCEPTED", "INFLIGHT"],
        ["channel.ganglion.dev/tasks", "True", "Running", "PushPull", "AtLeastOnce", "demo", str(2**40), str(2**40)],
        ["NAME", "READY", "REASON", "NAMESERVER", "PODS", "DESIRED"],
        ["agent.ganglion.dev/worker", "True", "Running", "demo", "2", "2"],
    ]
    wide = apiserver.kubectl("get", "-n", namespace, "agents", "-o", "wide")
    assert rows(wide)[0] == ["NAME", "READY", "REASON", "NAMESERVER", "PODS", "DESIRED", "RUN", "JOINED", "MESSAGE", "AGE"]


@pytest.mark.usefixtures("objects")
def test_category_lists_all_three(apiserver: ApiServer, namespace: str) -> None:
    names = apiserver.kubectl("get", "-n", namespace, "ganglion", "-o", "name").split()
    assert sorted(names) == ["agent.ganglion.dev/worker", "channel.ganglion.dev/tasks", "nameserver.ganglion.dev/demo"]
    assert "ganglion.dev" not in apiserver.kubectl("get", "-n", namespace, "all", "-o", "name")


@pytest.mark.parametrize(
    ("field", "text"),
    [
        ("agent.spec.channels.role", "The agent's role; must be one of the pattern's two."),
        ("agent.spec.dataPlane", "Sidecar: the agent never sees a key or a peer."),
        ("channel.spec.barrier", "Hold the first message until enough receivers are wired"),
        ("nameserver.spec.shutdown.timeoutSeconds", "Seconds from the deletion of the NameServer"),
        ("channel.status.unaccounted", "BestEffort: accepted but not delivered."),
    ],
)
def test_explain_is_a_manual(apiserver: ApiServer, field: str, text: str) -> None:
    assert text in " ".join(apiserver.kubectl("explain", field).split())


def test_scale(apiserver: ApiServer, namespace: str, objects: dict[str, dict[str, Any]]) -> None:
    assert "scaled" in apiserver.kubectl("scale", "-n", namespace, "agent/worker", "--replicas=6")
    _, scale = apiserver.request("GET", path("Agent", namespace, "worker") + "/scale")
    assert (scale["spec"]["replicas"], scale["status"]) == (6, {"replicas": 3, "selector": "ganglion.dev/agent=worker"})
    assert apiserver.request("GET", path("Agent", namespace, "worker"))[1]["spec"] == {**objects["Agent"]["spec"], "replicas": 6}


def test_two_managers_share_a_list_by_its_key(apiserver: ApiServer, namespace: str) -> None:
    def apply(manager: str, document: dict[str, Any]) -> None:
        apiserver.kubectl("apply", "-n", namespace, "--server-side", f"--field-manager={manager}", "-f", "-", stdin=json.dumps(document))

    apply("one", agent(channels=[link()], env=[{"name": "A", "value": "1"}]))
    second = agent(channels=[link("out", "Push")], env=[{"name": "B", "value": "2"}])
    del second["spec"]["class"]
    apply("two", second)
    spec = apiserver.request("GET", path("Agent", namespace, "worker"))[1]["spec"]
    assert [entry["alias"] for entry in spec["channels"]] == ["tasks", "out"]
    assert [entry["name"] for entry in spec["env"]] == ["A", "B"]


def test_short_and_plural_names_are_the_documented_ones(apiserver: ApiServer) -> None:
    found = rows(apiserver.kubectl("api-resources", "--api-group=ganglion.dev", "--no-headers"))
    assert {(row[0], row[1], row[-1]) for row in found} == {(PLURALS[kind], SHORT_NAMES[kind], kind) for kind in KINDS}
