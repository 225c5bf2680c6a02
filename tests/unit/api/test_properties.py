"""Thousands of manifests made from the schemas: nothing crashes, and the structural verdict is the schema's."""

from __future__ import annotations

import copy
import functools
import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from jsonschema.protocols import Validator

from ganglion.api import Agent, Channel, ManifestError, NameServer, Problem, load_object
from ganglion.api.crd import KINDS, openapi_schema
from ganglion.api.rules import RULES
from ganglion.api.structure import as_stored
from tests.support.strategies import JSON, manifests

MANY = settings(max_examples=1000, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])


def _closed(schema: Any) -> Any:
    """The schema as JSON Schema: unknown fields are errors, as strict field validation makes them."""
    if isinstance(schema, list):
        return [_closed(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    out = {key: _closed(value) for key, value in schema.items() if not key.startswith("x-") and key not in ("default", "properties")}
    if "properties" in schema:
        out["properties"] = {name: _closed(child) for name, child in schema["properties"].items()}
        out["additionalProperties"] = False
    if "pattern" in schema:
        out["pattern"] = schema["pattern"].removesuffix("$") + r"\Z"  # Python's $ also matches before a last newline
    return out


def _judge(document: Any) -> tuple[NameServer | Channel | Agent | None, list[Problem]]:
    try:
        return load_object(document), []
    except ManifestError as error:
        return None, error.problems


@functools.cache
def _validator(kind: str) -> Validator:
    return Draft202012Validator(_closed(openapi_schema(kind)["properties"]["spec"]))


@pytest.mark.parametrize("kind", KINDS)
@MANY
@given(st.data())
def test_verdict_is_the_schemas(kind: str, data: st.DataObject) -> None:
    document = data.draw(manifests(kind))
    before = copy.deepcopy(document)
    spec = as_stored(document["spec"], openapi_schema(kind)["properties"]["spec"])
    valid = _validator(kind).is_valid(json.loads(json.dumps(spec)))
    read, problems = _judge(document)
    assert all(problem.field and problem.message for problem in problems)
    if read is not None:
        assert valid
        assert type(read).parse(read.to_dict()) == read
        assert load_object(read.to_dict()) == read
    elif valid:
        # Refused for what a schema alone cannot say: a rule, an item twice, a key.
        rules = {rule.message for rule in RULES[kind]}
        assert all(p.message in rules or "twice" in p.message or p.field == "spec.code.inline" for p in problems), problems
    assert document == before


@MANY
@given(JSON)
def test_any_json_is_judged(document: Any) -> None:
    read, problems = _judge(document)
    assert read is None
    assert problems


@pytest.mark.parametrize("kind", KINDS)
@MANY
@given(st.data())
def test_any_spec_is_judged(kind: str, data: st.DataObject) -> None:
    document = {"apiVersion": "ganglion.dev/v1alpha1", "kind": kind, "metadata": {"name": "a"}, "spec": data.draw(JSON)}
    _, problems = _judge(document)
    assert all(str(problem).startswith(f"{kind}/a: ") for problem in problems)
