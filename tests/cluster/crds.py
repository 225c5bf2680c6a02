"""Install the CRDs on a test's API server, and ask it for verdicts."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from ganglion.api.crd import KINDS, PLURALS, definition
from tests.support.apiserver import ApiServer
from tests.support.wait import wait_for

CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
_UNKNOWN = re.compile(r'unknown field "([^"]+)"')


def path(kind: str, namespace: str = "default", name: str = "") -> str:
    """URL path of a kind's collection, or of one object."""
    return f"/apis/ganglion.dev/v1alpha1/namespaces/{namespace}/{PLURALS[kind]}" + (f"/{name}" if name else "")


def install(server: ApiServer) -> None:
    """Create the three CRDs and wait until they are served."""
    for kind in KINDS:
        status, answer = server.request("POST", CRDS, definition(kind))
        assert status in (201, 409), answer

    def served(kind: str) -> bool:
        # Discovery follows Established a little later: a write is the proof.
        probe = {"apiVersion": "ganglion.dev/v1alpha1", "kind": kind, "metadata": {"name": "probe"}}
        return server.request("POST", path(kind) + "?dryRun=All", probe)[0] in (201, 422)

    for kind in KINDS:
        wait_for(lambda kind=kind: served(kind), timeout=30, what=f"{kind} served")  # type: ignore[misc]


def conditions(server: ApiServer, kind: str) -> dict[str, str]:
    """Conditions of a CRD: type → status."""
    _, body = server.request("GET", f"{CRDS}/{PLURALS[kind]}.ganglion.dev")
    return {condition["type"]: condition["status"] for condition in body["status"]["conditions"]}


def refused_fields(server: ApiServer, document: Mapping[str, Any], *, namespace: str = "default") -> tuple[set[str], str]:
    """Field paths that a strict dry-run create complains about (empty: accepted), and the server's text."""
    status, answer = server.request("POST", path(document["kind"], namespace) + "?fieldValidation=Strict&dryRun=All", document)
    if status == 201:
        return set(), ""
    assert status in (400, 413, 422), json.dumps(answer)[:1000]
    message = answer.get("message", "")
    fields = {cause["field"].removeprefix(".") for cause in answer.get("details", {}).get("causes", ())}
    return (fields - {"<nil>"}) | set(_UNKNOWN.findall(message)) or {"?"}, message
