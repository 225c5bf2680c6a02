"""One namespace of an API server, as a user of the three kinds sees it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.support.apiserver import ApiServer
from tests.support.operator import OperatorProcess
from tests.support.wait import wait_for

ROOT = Path(__file__).resolve().parents[2]
CUSTOM = "/apis/ganglion.dev/v1alpha1"

DOMAIN = """
apiVersion: ganglion.dev/v1alpha1
kind: NameServer
metadata: {name: zoo}
---
apiVersion: ganglion.dev/v1alpha1
kind: Channel
metadata: {name: tasks}
spec: {nameServerRef: {name: zoo}, pattern: PushPull}
---
apiVersion: ganglion.dev/v1alpha1
kind: Agent
metadata: {name: source}
spec:
  nameServerRef: {name: zoo}
  class: "demo:Source"
  channels: [{alias: out, channelRef: {name: tasks}, role: Push}]
---
apiVersion: ganglion.dev/v1alpha1
kind: Agent
metadata: {name: worker}
spec:
  nameServerRef: {name: zoo}
  replicas: 3
  class: "demo:Worker"
  resources: {requests: {cpu: "0.5", memory: 64Mi}}
  channels: [{alias: in, channelRef: {name: tasks}, role: Pull, handler: work}]
"""


class Cluster:
    """One namespace of an API server, as a user sees it."""

    def __init__(self, server: ApiServer, namespace: str) -> None:
        self.server = server
        self.namespace = namespace

    def apply(self, text: str) -> None:
        self.server.kubectl("apply", "-n", self.namespace, "-f", "-", stdin=text)

    def path(self, plural: str, name: str = "") -> str:
        base = {
            "agents": CUSTOM, "channels": CUSTOM, "nameservers": CUSTOM,
            "statefulsets": "/apis/apps/v1", "jobs": "/apis/batch/v1", "poddisruptionbudgets": "/apis/policy/v1",
            "roles": "/apis/rbac.authorization.k8s.io/v1", "rolebindings": "/apis/rbac.authorization.k8s.io/v1",
        }.get(plural, "/api/v1")  # fmt: skip
        return f"{base}/namespaces/{self.namespace}/{plural}" + (f"/{name}" if name else "")

    def get(self, plural: str, name: str) -> dict[str, Any] | None:
        status, body = self.server.request("GET", self.path(plural, name))
        return body if status == 200 else None

    def need(self, plural: str, name: str, timeout: float = 30) -> dict[str, Any]:
        found = wait_for(lambda: self.get(plural, name), timeout=timeout, what=f"{plural}/{name}")
        assert found is not None
        return found

    def names(self, plural: str) -> list[str]:
        _, body = self.server.request("GET", self.path(plural))
        return sorted(item["metadata"]["name"] for item in body["items"])

    def patch(self, plural: str, name: str, body: dict[str, Any], subresource: str = "") -> None:
        extra = ["--subresource", subresource] if subresource else []
        self.server.kubectl("patch", plural, name, "-n", self.namespace, "--type=merge", *extra, "-p", json.dumps(body))

    def condition(self, plural: str, name: str, kind: str = "Ready") -> dict[str, Any]:
        body = self.get(plural, name) or {}
        found = (c for c in body.get("status", {}).get("conditions", ()) if c["type"] == kind)
        return next(found, {"status": "", "reason": ""})

    def await_reason(self, plural: str, name: str, reason: str, kind: str = "Ready", timeout: float = 30) -> dict[str, Any]:
        def reached() -> dict[str, Any] | None:
            found = self.condition(plural, name, kind)
            return found if found["reason"] == reason else None

        found = wait_for(reached, timeout=timeout, what=f"{plural}/{name} {kind}={reason}, not {self.condition(plural, name, kind)}")
        assert found is not None
        return found


def install_definitions(server: ApiServer) -> None:
    """Install the three kinds, and return when they can be used."""
    server.kubectl("apply", "-f", str(ROOT / "crds"))
    server.kubectl("wait", "--for=condition=Established", "crd", "--all", "--timeout=30s")


def settle(operator: OperatorProcess) -> None:
    """Return when the operator has nothing to do, twice in a row."""
    wait_for(lambda: operator.quiet() and operator.quiet(), timeout=60, what="operator quiet")
