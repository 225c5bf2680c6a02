"""The API server and `load_object` give the same verdict at the same field."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ganglion.api import ManifestError, load_object
from ganglion.api.crd import KINDS, PLURALS
from tests.cluster.crds import refused_fields
from tests.support.apiserver import ApiServer
from tests.support.manifests import BAD, GOOD, Bad
from tests.support.strategies import manifests

pytestmark = pytest.mark.usefixtures("crds")


@pytest.mark.parametrize("bad", BAD, ids=lambda bad: bad.id)
def test_server_refuses_at_the_same_field(apiserver: ApiServer, bad: Bad) -> None:
    fields, message = refused_fields(apiserver, bad.document)
    assert bad.field in fields, message


@pytest.mark.parametrize("document", GOOD.values(), ids=GOOD)
def test_server_stores_what_load_object_reads(apiserver: ApiServer, document: dict[str, Any]) -> None:
    path = f"/apis/ganglion.dev/v1alpha1/namespaces/default/{PLURALS[document['kind']]}?fieldValidation=Strict&dryRun=All"
    # kubectl writes whole numbers without a point.
    status, stored = apiserver.request("POST", path, json.loads(json.dumps(document).replace("1.0", "1")))
    assert status == 201, stored.get("message")
    read = load_object(document)
    assert stored["spec"] == read.to_dict()["spec"]


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=120, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_generated_manifests_get_the_same_verdict(apiserver: ApiServer, kind: str, data: st.DataObject) -> None:
    document = json.loads(json.dumps(data.draw(manifests(kind))))
    try:
        load_object(document)
        mine: set[str] = set()
    except ManifestError as error:
        mine = {problem.field for problem in error.problems}
    theirs, message = refused_fields(apiserver, document)
    assert bool(mine) == bool(theirs), (mine, theirs, message)
    # Inside a value of the wrong type the server names an unknown field below it: the same place, one of them deeper.
    near = any(one.startswith(other) or other.startswith(one) for one in mine for other in theirs)
    assert not mine or near, (mine, theirs, message)
