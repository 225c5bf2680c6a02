"""Reading a cluster's objects and logs over one connection.

Tests that wait look once or twice a second. A kubectl for each look takes 0.1 s of CPU and a TLS handshake;
this takes 4 ms.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kubernetes import client, config
from urllib3 import BaseHTTPResponse
from urllib3.exceptions import HTTPError
from urllib3.util import Retry, Timeout

_GROUPS = {
    "/api/v1": ("configmaps", "nodes", "pods", "secrets", "serviceaccounts", "services"),
    "/apis/apps/v1": ("deployments", "statefulsets"),
    "/apis/batch/v1": ("jobs",),
    "/apis/ganglion.dev/v1alpha1": ("agents", "channels", "nameservers"),
    "/apis/rbac.authorization.k8s.io/v1": ("rolebindings", "roles"),
}
_PATHS = {plural: group for group, plurals in _GROUPS.items() for plural in plurals}
_NAMES = {
    **{plural: plural for plural in _PATHS},
    **{plural.removesuffix("s"): plural for plural in _PATHS},
    **{f"{plural}.ganglion.dev": plural for plural in ("agents", "channels", "nameservers")},
    "zag": "agents",
    "zch": "channels",
    "zns": "nameservers",
}
_RETRIES = Retry(total=3, backoff_factor=0.5, status_forcelist=(429, 500, 503), raise_on_status=False)
_TIMEOUT = Timeout(connect=20, read=20)
_FLAGS = {"-n": "namespace", "--namespace": "namespace", "-l": "selector"}


class KubeApi:
    """A reader with the rights of a kubeconfig.

    Args:
        kubeconfig: the file.
    """

    def __init__(self, kubeconfig: Path) -> None:
        settings = client.Configuration()
        config.load_kube_config(config_file=str(kubeconfig), client_configuration=settings)  # type: ignore[no-untyped-call]
        # As kubectl does on loopback, whatever the environment says.
        settings.proxy = None
        self._url: str = settings.host
        self._pool = client.ApiClient(settings).rest_client.pool_manager

    def get(self, *arguments: str) -> dict[str, Any] | None:
        """What `kubectl get … -o json` tells, for all namespaces when none is named; None when it is asked for something else than one kind.

        Raises:
            subprocess.CalledProcessError: as from kubectl: no such object, or no answer.
        """
        words, flags = [], {"namespace": "", "selector": ""}
        rest = iter(arguments)
        for word in rest:
            if word in _FLAGS:
                flags[_FLAGS[word]] = next(rest)
            else:
                words.append(word)
        kind = _NAMES.get(words[0]) if words else None
        if kind is None or len(words) > 2 or any(word.startswith("-") for word in words):
            return None
        scope = f"/namespaces/{flags['namespace']}" if flags["namespace"] else ""
        path = "/".join((f"{_PATHS[kind]}{scope}", kind, *words[1:]))
        found: dict[str, Any] = json.loads(self._read(path, {"labelSelector": flags["selector"]} if flags["selector"] else {}))
        return found

    def log(self, namespace: str, selector: str, container: str) -> str:
        """What a container of all pods with these labels has printed, as far as the pods are there and it has started."""
        listed = self.get("pods", "-n", namespace, "-l", selector)
        texts = []
        for pod in listed["items"] if listed is not None else ():
            path = f"/api/v1/namespaces/{namespace}/pods/{pod['metadata']['name']}/log"
            # It may have gone meanwhile, or wait for its image, or its kubelet is too busy to answer.
            texts.append(self._read(path, {"container": container}, refused=""))
        return "".join(texts)

    def _read(self, path: str, query: Mapping[str, str], refused: str | None = None) -> str:
        """Body of the answer; `refused`, if given, when the server answers with an error."""
        try:
            answer: BaseHTTPResponse = self._pool.request("GET", self._url + path, fields=dict(query), retries=_RETRIES, timeout=_TIMEOUT)
        except HTTPError as error:
            raise _failure(path, str(error)) from None
        text = answer.data.decode(errors="replace")
        if answer.status == 200:
            return text
        if refused is not None:
            return refused
        raise _failure(path, f"{answer.status}: {text}")


def _failure(path: str, message: str) -> subprocess.CalledProcessError:
    error = subprocess.CalledProcessError(1, ["GET", path], "", message)
    error.add_note(message)
    return error
