"""The cluster itself: what the pods of agents rely on works on the nodes of either provider."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.support.cluster import KindCluster
from tests.support.wait import wait_for

# The shape of an agent's pod: a native sidecar with a projected token, and a container that ends by itself.
SIDECAR = "import http.server as h; h.ThreadingHTTPServer(('127.0.0.1', 8000), h.SimpleHTTPRequestHandler).serve_forever()"
AGENT = """
import json, pathlib, socket, urllib.request
token = pathlib.Path('/var/run/token/token').read_text()
page = urllib.request.urlopen('http://127.0.0.1:8000/', timeout=10).status
address = socket.gethostbyname('kubernetes.default.svc.cluster.local.')
print(json.dumps({'parts': token.count('.') + 1, 'sidecar': page, 'api': address}), flush=True)
try:
    socket.gethostbyname('no-such-name.invalid.')
except socket.gaierror as error:
    assert error.errno == socket.EAI_NONAME, error
"""


def pod(name: str, image: str) -> dict[str, Any]:
    restricted = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}, "readOnlyRootFilesystem": True}
    common = {"image": image, "imagePullPolicy": "Never", "securityContext": restricted}
    token = {"serviceAccountToken": {"audience": "ganglion", "expirationSeconds": 600, "path": "token"}}
    sidecar = {
        **common,
        "name": "runtime",
        "restartPolicy": "Always",
        "command": ["python3", "-c", SIDECAR],
        "startupProbe": {
            "exec": {"command": ["python3", "-c", "import socket; socket.create_connection(('127.0.0.1', 8000), 1)"]},
            "periodSeconds": 1,
            "timeoutSeconds": 5,
            "failureThreshold": 60,
        },
    }
    agent = {
        **common,
        "name": "agent",
        "command": ["python3", "-c", AGENT],
        "volumeMounts": [{"name": "token", "mountPath": "/var/run/token"}],
    }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name},
        "spec": {
            "restartPolicy": "Never",
            "terminationGracePeriodSeconds": 1,
            "automountServiceAccountToken": False,
            "securityContext": {"runAsNonRoot": True, "runAsUser": 65532, "fsGroup": 65532, "seccompProfile": {"type": "RuntimeDefault"}},
            "initContainers": [sidecar],
            "containers": [agent],
            "volumes": [{"name": "token", "projected": {"sources": [token]}}],
        },
    }


def phase(kind: KindCluster, namespace: str, name: str) -> str:
    return str(kind.get("pod", name, "-n", namespace)["status"]["phase"])


def test_agent_shaped_pod_runs(kind: KindCluster) -> None:
    with kind.namespace() as namespace:
        kind.apply(namespace, pod("agent", kind.agent_image))
        wait_for(lambda: phase(kind, namespace, "agent") in {"Succeeded", "Failed"}, timeout=90, what="pod ended", interval=0.5)
        logs = kind.kubectl("logs", "agent", "-n", namespace, "-c", "agent")
        assert phase(kind, namespace, "agent") == "Succeeded", logs
        said = json.loads(logs)
        api = kind.get("service", "kubernetes", "-n", "default")["spec"]["clusterIP"]
        assert said == {"parts": 3, "sidecar": 200, "api": api}


@pytest.mark.spare
def test_crash_back_off_is_lowered(kind: KindCluster) -> None:
    """The kubelets run with it: faults that tests inject must not wait for minutes."""
    for node in kind.nodes:
        served = json.loads(kind.kubectl("get", "--raw", f"/api/v1/nodes/{node}/proxy/configz"))
        assert served["kubeletconfig"]["crashLoopBackOff"] == {"maxContainerRestartPeriod": "1s"}


@pytest.mark.spare
def test_paused_node_is_noticed_and_returns(kind: KindCluster) -> None:
    """Freezing the only node stops the API server with it; it answers again when thawed."""
    node = kind.nodes[-1]
    assert kind.on_node(node, "cat", "/proc/1/comm").strip() == "systemd"
    with kind.paused(node):
        state = kind.engine.run("inspect", "--format", "{{.State.Status}}", node).strip()
        assert state == "paused"
    wait_for(lambda: kind.kubectl("get", "--raw", "/readyz") == "ok", timeout=60, what="API server ready")
