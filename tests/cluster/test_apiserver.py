"""The API server that the other tests of this tier rely on is real, and leaves nothing behind."""

from __future__ import annotations

import subprocess
from pathlib import Path

import jwt
import pytest

from tests.support.apiserver import ApiServer, StartFailedError
from tests.support.wait import wait_for


def test_configmap_is_stored(apiserver: ApiServer, namespace: str) -> None:
    path = f"/api/v1/namespaces/{namespace}/configmaps"
    status, created = apiserver.request("POST", path, {"metadata": {"name": "code"}, "data": {"a.py": "x = 1"}})
    assert status == 201, created
    status, stored = apiserver.request("GET", f"{path}/code")
    assert (status, stored["data"]) == (200, {"a.py": "x = 1"})


def test_kubectl_explains_what_is_missing(apiserver: ApiServer, namespace: str) -> None:
    with pytest.raises(subprocess.CalledProcessError) as caught:
        apiserver.kubectl("get", "configmap", "absent", "-n", namespace)
    assert 'configmaps "absent" not found' in "".join(caught.value.__notes__)


def test_unknown_token_is_refused(apiserver: ApiServer) -> None:
    status, _ = apiserver.request("GET", "/api/v1/namespaces", token="guess")
    assert status == 401


def test_requested_token_verifies_against_published_keys(apiserver: ApiServer, namespace: str) -> None:
    accounts = f"/api/v1/namespaces/{namespace}/serviceaccounts"
    status, account = apiserver.request("POST", accounts, {"metadata": {"name": "agent"}})
    assert status == 201, account
    wanted = {"spec": {"audiences": ["ganglion"], "expirationSeconds": 600}}
    status, answer = apiserver.request("POST", f"{accounts}/agent/token", wanted)
    assert status == 201, answer

    token = answer["status"]["token"]
    _, keys = apiserver.request("GET", "/openid/v1/jwks")
    key_id = jwt.get_unverified_header(token)["kid"]
    key = next(jwt.PyJWK(entry) for entry in keys["keys"] if entry["kid"] == key_id)
    claims = jwt.decode(token, key, algorithms=["RS256"], audience="ganglion")
    assert claims["sub"] == f"system:serviceaccount:{namespace}:agent"


def test_controllers_collect_what_an_owner_leaves(apiserver_with_controllers: ApiServer) -> None:
    server = apiserver_with_controllers
    with server.namespace() as namespace:
        path = f"/api/v1/namespaces/{namespace}/configmaps"
        _, owner = server.request("POST", path, {"metadata": {"name": "owner"}})
        reference = {"apiVersion": "v1", "kind": "ConfigMap", "name": "owner", "uid": owner["metadata"]["uid"]}
        server.request("POST", path, {"metadata": {"name": "owned", "ownerReferences": [reference]}})
        server.request("DELETE", f"{path}/owner")
        wait_for(lambda: server.request("GET", f"{path}/owned")[0] == 404, timeout=60, what="owned object collected")
    wait_for(lambda: server.request("GET", f"/api/v1/namespaces/{namespace}")[0] == 404, timeout=60, what="namespace gone")


def test_failed_start_says_why_and_leaves_nothing() -> None:
    server = ApiServer(flags=("--no-such-flag",))
    with pytest.raises(StartFailedError, match="no-such-flag"), server:
        pass
    assert not server.directory.exists()
    assert not [entry for entry in Path("/proc").glob("[0-9]*/cmdline") if str(server.directory) in _text(entry)]


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""
