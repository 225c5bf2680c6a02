"""`load_object`: one clear line for each mistake, and no crash whatever comes."""

from __future__ import annotations

from typing import Any

import pytest

from ganglion.api import ManifestError, load_object
from ganglion.api.rules import RULES
from ganglion.api.structure import MAX_DEPTH
from tests.support.manifests import BAD, GOOD, Bad, agent, channel, link, name_server, with_metadata


@pytest.mark.parametrize("bad", BAD, ids=lambda bad: bad.id)
def test_bad_manifest_names_object_and_field(bad: Bad) -> None:
    with pytest.raises(ManifestError) as caught:
        load_object(bad.document)
    problems = caught.value.problems
    assert bad.field in [problem.field for problem in problems]
    name = bad.document["metadata"]["name"]
    for problem in problems:
        assert problem.object == f"{bad.document['kind']}/{name}"
        assert problem.message
        assert "\n" not in str(problem)
        assert len(problem.message) < 400


@pytest.mark.parametrize("document", GOOD.values(), ids=GOOD)
def test_good_manifest_is_read(document: dict[str, Any]) -> None:
    assert load_object(document).name == document["metadata"]["name"]


def test_each_rule_is_broken_by_a_bad_manifest() -> None:
    seen = set()
    for bad in BAD:
        with pytest.raises(ManifestError) as caught:
            load_object(bad.document)
        seen |= {problem.message for problem in caught.value.problems}
    untried = {rule.message for rules in RULES.values() for rule in rules if rule.check is not None} - seen
    assert not untried


@pytest.mark.parametrize(
    ("document", "text"),
    [
        (None, "must be a mapping"),
        ([], "must be a mapping"),
        ("kind: Agent", "must be a mapping"),
        ({}, "apiVersion"),
        ({"apiVersion": "ganglion.dev/v2", "kind": "Agent", "metadata": {"name": "a"}}, "must be ganglion.dev/v1alpha1"),
        ({"apiVersion": "ganglion.dev/v1alpha1", "kind": "Agnet", "metadata": {"name": "a"}}, "must be one of NameServer, Channel, Agent"),
        ({"apiVersion": "ganglion.dev/v1alpha1", "kind": ["Agent"], "metadata": {"name": "a"}}, "kind: found"),
        ({"apiVersion": "ganglion.dev/v1alpha1", "kind": "Agent"}, "metadata.name: required"),
        ({"apiVersion": "ganglion.dev/v1alpha1", "kind": "Agent", "metadata": {"name": 7}}, "metadata.name: required"),
        (agent(attributes={"a": [1.0, {"b": float("nan")}]}), r"spec\.attributes\.a\[1\]\.b: found nan; must be a finite number"),
        (agent(attributes={"a": float("-inf")}), r"spec\.attributes\.a: found -inf; must be a finite number"),
        (agent(attributes={"a": 10**309}), r"spec\.attributes\.a: found a whole number of more than 308 digits"),
        (agent(replicas=-(10**5000)), r"spec\.replicas: found a whole number of more than 308 digits"),
        (agent(attributes={"a": object()}), "cannot be written as JSON"),
        (agent(attributes={"a": "\ud800"}), "cannot be written as JSON"),
        (agent(attributes={"a": "x" * 1_600_000}), "must have at most 1500000"),
    ],
)
def test_hopeless_input_is_one_clear_line(document: Any, text: str) -> None:
    with pytest.raises(ManifestError, match=text) as caught:
        load_object(document)
    assert all(len(str(problem)) < 300 for problem in caught.value.problems)


def _nested(depth: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(depth):
        value = [value]
    return value


def test_deep_nesting_is_refused_without_recursion() -> None:
    assert load_object(agent(attributes={"a": _nested(MAX_DEPTH - 5)}))
    for depth in (MAX_DEPTH + 1, 100_000):
        with pytest.raises(ManifestError, match=f"spec.attributes: nested deeper than {MAX_DEPTH} levels"):
            load_object(agent(attributes={"a": _nested(depth)}))


def test_all_mistakes_are_reported_at_once() -> None:
    document = agent("Worker", replicas=-1, channels=[link(), link()], env=[{"name": "A", "value": 1}])
    with pytest.raises(ManifestError) as caught:
        load_object(document)
    assert {"metadata.name", "spec.replicas", "spec.channels[1]", "spec.env[0].value"} <= {p.field for p in caught.value.problems}


def test_defaults_are_those_of_the_schema() -> None:
    server = load_object(name_server())
    assert server.to_dict()["spec"]["shutdown"] == {"timeoutSeconds": 60}
    assert load_object(channel()).to_dict()["spec"]["highWaterMark"] == 1024


@pytest.mark.parametrize(
    ("document", "field", "meant"),
    [
        (agent(replica=3), "spec.replica", "replicas"),
        (agent(channels=[link(handlr="x")]), "spec.channels[0].handlr", "handler"),
        (agent(name_server_ref={"name": "demo"}), "spec.name_server_ref", "nameServerRef"),
        (channel(highwatermark=3), "spec.highwatermark", "highWaterMark"),
        (name_server(shutdown={"timeoutSecond": 30}), "spec.shutdown.timeoutSecond", "timeoutSeconds"),
        ({**agent(), "specs": {}}, "specs", "spec"),
        (with_metadata(agent(), lables={}), "metadata.lables", "labels"),
        (agent(hostNetwork=True), "spec.hostNetwork", None),
        ({**agent(), "spec": {**agent()["spec"], "": 1}}, "spec.", None),
        ({**agent(), "spec": {**agent()["spec"], "ß" * 5000: 1}}, f"spec.{'ß' * 5000}", None),
    ],
)
def test_an_unknown_field_names_the_one_that_was_meant(document: dict[str, Any], field: str, meant: str | None) -> None:
    with pytest.raises(ManifestError) as caught:
        load_object(document)
    message = next(problem.message for problem in caught.value.problems if problem.field == field)
    assert message.startswith("unknown field; ")
    assert ("did you mean " + meant + "?" in message) if meant is not None else ("did you mean" not in message)
