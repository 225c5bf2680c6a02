"""The name server against a real API server: real tokens, watches, status, Events, deletion."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from ganglion.cli import main
from ganglion.wire.control import ChannelReport, Ledger, Notice, Report
from hack.kind import golang
from tests.support.apiserver import ISSUER, ApiServer
from tests.support.nameserver import Members, NameServerProcess, TestMember, members
from tests.support.wait import wait_for

API = "ganglion.dev/v1alpha1"


@dataclass
class Cluster:
    """One namespace with a NameServer, and the process that serves it."""

    api: ApiServer
    namespace: str
    uid: str
    server: NameServerProcess

    def path(self, plural: str, name: str = "") -> str:
        return f"/apis/{API}/namespaces/{self.namespace}/{plural}" + (f"/{name}" if name else "")

    def create(self, plural: str, body: dict[str, Any]) -> dict[str, Any]:
        status, answer = self.api.request("POST", self.path(plural), {"apiVersion": API, **body})
        assert status == 201, answer
        return answer

    def token(self, agent: str, pod: str, *, uid: str | None = None, audience: str | None = None) -> tuple[Path, str]:
        """(file with a token of the real token endpoint, UID of the pod it is bound to)."""
        base = f"/api/v1/namespaces/{self.namespace}"
        account = {"metadata": {"name": "default"}}
        self.api.request("POST", f"{base}/serviceaccounts", account)
        status, found = self.api.request("GET", f"{base}/pods/{pod}")
        if status == 404:
            spec = {
                "containers": [{"name": "agent", "image": "none"}],
                "serviceAccountName": "default",
                "automountServiceAccountToken": False,
            }
            status, found = self.api.request("POST", f"{base}/pods", {"metadata": {"name": pod}, "spec": spec})
            assert status == 201, found
        request = {
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenRequest",
            "spec": {
                "audiences": [audience or f"ganglion:{self.namespace}/{uid or self.uid}/{agent}"],
                "expirationSeconds": 600,
                "boundObjectRef": {"kind": "Pod", "apiVersion": "v1", "name": pod, "uid": found["metadata"]["uid"]},
            },
        }
        status, answer = self.api.request("POST", f"{base}/serviceaccounts/default/token", request)
        assert status == 201, answer
        path = self.server.directory / f"token-{pod}-{len(list(self.server.directory.iterdir()))}"
        path.write_text(answer["status"]["token"])
        return path, found["metadata"]["uid"]

    def status(self) -> dict[str, Any]:
        _, found = self.api.request("GET", self.path("nameservers", "demo"))
        status: dict[str, Any] = found.get("status", {})
        return status


@pytest.fixture
def cluster(apiserver: ApiServer, crds: None, namespace: str) -> Iterator[Cluster]:
    with tempfile.TemporaryDirectory(prefix="gns") as name:
        directory = Path(name)
        account = directory / "account"
        account.mkdir()
        (account / "token").write_text(apiserver.token)
        (account / "ca.crt").write_bytes(apiserver.ca.read_bytes())
        jwks = directory / "jwks.json"
        _, keys = apiserver.request("GET", "/openid/v1/jwks")
        jwks.write_text(json.dumps(keys))
        port = apiserver.url.rsplit(":", 1)[1]
        server = NameServerProcess(
            directory,
            extra={
                "GANGLION_NAMESPACE": namespace,
                "GANGLION_JOIN_SECRET_FILE": "",
                "GANGLION_ADMIN_SOCKET": "",
                "GANGLION_JWKS_FILE": str(jwks),
                "GANGLION_TOKEN_ISSUER": ISSUER,
                "KUBERNETES_SERVICE_HOST": "127.0.0.1",
                "KUBERNETES_SERVICE_PORT_HTTPS": port,
                "GANGLION_SERVICE_ACCOUNT_DIR": str(account),
            },
        )
        made = Cluster(apiserver, namespace, "", server)
        spec = {"shutdown": {"timeoutSeconds": 20}}
        body = {"kind": "NameServer", "metadata": {"name": "demo"}, "spec": spec}
        made.uid = made.create("nameservers", body)["metadata"]["uid"]
        server.environment["GANGLION_NAMESERVER_UID"] = made.uid
        reference = {"name": "demo"}
        channel = {"nameServerRef": reference, "pattern": "PushPull"}
        made.create("channels", {"kind": "Channel", "metadata": {"name": "lines"}, "spec": channel})
        for agent, role in (("source", "Push"), ("worker", "Pull")):
            entry = {"alias": "lines", "channelRef": {"name": "lines"}, "role": role}
            agent_spec = {"nameServerRef": reference, "class": "m:C", "channels": [entry]}
            made.create("agents", {"kind": "Agent", "metadata": {"name": agent}, "spec": agent_spec})
        try:
            server.start_bound()
            yield made
        finally:
            server.close()


@pytest.fixture
def join(cluster: Cluster) -> Iterator[Callable[..., TestMember]]:
    with members(cluster.server) as factory:
        yield lambda replica, role, **other: _member(cluster, factory, replica, role, **other)


def _member(cluster: Cluster, factory: Members, replica: str, role: str, **other: Any) -> TestMember:
    token, uid = cluster.token(replica.rsplit("-", 1)[0], replica)
    return factory(replica, {"lines": ("lines", role)}, **{"token_file": token, "uid": uid, **other})


def test_members_and_counts_reach_the_status(cluster: Cluster, join: Callable[..., TestMember]) -> None:
    source = join("source-0", "Push").joined()
    worker = join("worker-0", "Pull").joined()
    wait_for(lambda: "worker-0" in source.heard.peers, what="the worker")
    sent = Ledger(accepted=7, acked=6, in_flight=1)
    source.say(Report(phase="Ready", channels={"lines": ChannelReport(port=7600, wired=1, sent=sent)}))
    worker.say(Report(phase="Ready", channels={"lines": ChannelReport(wired=1, delivered=6)}))
    wait_for(lambda: cluster.status().get("channels", [{}])[0].get("delivered") == 6, what="counts in the status")
    status = cluster.status()
    assert status["members"] == 2
    assert status["agents"] == [{"name": "source", "joined": 1, "wired": 1}, {"name": "worker", "joined": 1, "wired": 1}]
    assert {key: status["channels"][0][key] for key in ("senders", "receivers", "accepted", "acked", "inFlight", "ended")} == {
        "senders": 1,
        "receivers": 1,
        "accepted": 7,
        "acked": 6,
        "inFlight": 1,
        "ended": False,
    }


def test_notice_becomes_an_event_of_the_channel(cluster: Cluster, join: Callable[..., TestMember]) -> None:
    source = join("source-0", "Push").joined()
    source.control.notice(Notice(reason="DeadLettered", channel="lines", message="given up after 3 attempts", count=2))

    def events() -> list[dict[str, Any]]:
        _, found = cluster.api.request("GET", f"/apis/events.k8s.io/v1/namespaces/{cluster.namespace}/events")
        return [event for event in found["items"] if event["reason"] == "DeadLettered"]

    (event,) = wait_for(events, what="the Event")
    assert (event["regarding"]["kind"], event["regarding"]["name"]) == ("Channel", "lines")
    assert "source-0: given up after 3 attempts (2 messages)" in event["note"]


def test_edits_reach_the_registry(cluster: Cluster, join: Callable[..., TestMember]) -> None:
    worker = join("worker-0", "Pull").joined()
    assert worker.heard.channels["lines"].declared_senders == 1
    cluster.api.kubectl("-n", cluster.namespace, "scale", "agents.ganglion.dev/source", "--replicas=3")
    wait_for(lambda: worker.heard.channels["lines"].declared_senders == 3, what="the new scale")


def test_a_log_level_reaches_its_members(
    cluster: Cluster, join: Callable[..., TestMember], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """By the command, with the user's kubectl."""
    source, worker = join("source-0", "Push").joined(), join("worker-0", "Pull").joined()
    monkeypatch.setenv("PATH", f"{golang.program('kubectl').parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("KUBECONFIG", str(cluster.api.kubeconfig))
    monkeypatch.setenv("KUBECACHEDIR", str(cluster.server.directory / "kubectl-cache"))
    heard = [""]
    for level in ("Debug", ""):
        wait_for(lambda: worker.heard.levels == heard, what="an answer to its beats")
        assert main(["log-level", "agent/worker", level or "default", "--namespace", cluster.namespace]) == 0, capsys.readouterr().err
        heard.append(level)
    wait_for(lambda: worker.heard.levels == heard, what="no level any more")
    wait_for(lambda: source.heard.levels == [""], what="an answer to the beats of the other")
    assert capsys.readouterr().out == "worker logs DEBUG and above\nworker logs what it did at its start\n"
    assert main(["log-level", "nobody", "INFO", "--namespace", cluster.namespace]) == 1
    assert 'agents.ganglion.dev "nobody" not found' in capsys.readouterr().err


def test_tokens_of_others_get_nothing(cluster: Cluster, join: Callable[..., TestMember]) -> None:
    other_server, uid = cluster.token("source", "source-0", uid="another-uid")
    other_agent, _ = cluster.token("worker", "source-0")
    api_token, _ = cluster.token("source", "source-0", audience="https://kubernetes.default.svc")
    refused = [join("source-0", "Push", token_file=token, uid=uid) for token in (other_server, other_agent, api_token)]
    refused.append(join("source-0", "Push", uid="another-pod"))
    stolen, _ = cluster.token("source", "source-1")
    refused.append(join("source-0", "Push", token_file=stolen, uid=uid))
    wait_for(lambda: cluster.server.log.read_text().count("join of source-0 refused") >= 10, what="refusals of all, again and again")
    for member in refused:
        assert (member.heard.epochs, member.heard.directories, member.heard.refusals) == ([], 0, [])
    join("source-0", "Push").joined()


def test_deleting_the_name_server_shuts_down_in_order(cluster: Cluster, join: Callable[..., TestMember]) -> None:
    source, worker = join("source-0", "Push").joined(), join("worker-0", "Pull").joined()
    cluster.api.request("DELETE", cluster.path("nameservers", "demo"))
    for member in (source, worker):
        wait_for(lambda member=member: member.heard.commands, what="the command")  # type: ignore[misc]
        assert member.heard.commands[0].kind == "Shutdown"
        assert member.heard.commands[0].deadline_seconds <= 10
    cluster.server.process.terminate()
    assert source.bye(completed=True)
    assert cluster.server.process.poll() is None, "left before its last member"
    assert worker.bye()
    assert cluster.server.process.wait(10) == 0


def test_sigterm_alone_is_a_restart(cluster: Cluster, join: Callable[..., TestMember]) -> None:
    worker = join("worker-0", "Pull").joined()
    cluster.server.process.terminate()
    assert cluster.server.process.wait(10) == 0
    cluster.server.start_bound()
    wait_for(lambda: len(worker.heard.epochs) == 2, what="the worker back", timeout=40)
    assert worker.heard.commands == []


def test_sigterm_while_the_name_server_is_already_gone(cluster: Cluster, join: Callable[..., TestMember]) -> None:
    worker = join("worker-0", "Pull").joined()
    cluster.api.request("DELETE", cluster.path("nameservers", "demo"))
    cluster.server.process.terminate()
    wait_for(lambda: worker.heard.commands, what="the command")
    assert worker.bye()
    assert cluster.server.process.wait(10) == 0
