"""A pod of another namespace at the doors of a domain: without a right token or key it gets nothing and learns nothing."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jwt
import pytest

from tests.e2e.domain import Domain, agent, channel, link, name_server
from tests.e2e.zoo import AGENTS, NAME, zoo
from tests.support.cluster import KindCluster
from tests.support.wait import wait_for

PROBE = Path(__file__).with_name("stranger.py")
TOKEN = "/var/run/secrets/ganglion/token"
REFUSED = {"answers": ["Refuse NotAuthenticated"], "peers": {}}
SILENCE: dict[str, Any] = {"answers": [], "peers": {}}
NOTHING = {"heard": [], "handshake": False}
DATA_PORT = 7600
TWIN = "from ganglion import Agent\n\nclass Twin(Agent):\n    take = print\n"


def waiting_pod(image: str) -> dict[str, Any]:
    """A pod that only waits for `kubectl exec`."""
    restricted = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
    container = {
        "name": "main",
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "command": ["python3", "-c", "import signal; signal.pause()"],
        "securityContext": restricted,
    }
    spec = {"terminationGracePeriodSeconds": 0, "automountServiceAccountToken": False, "containers": [container]}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "stranger"}, "spec": spec}


class Doors:
    """A running domain, another NameServer beside it, and a stranger."""

    def __init__(self, kind: KindCluster, namespace: str, foreign: str) -> None:
        self.kind = kind
        self.here = Domain(kind, namespace)
        self.foreign = foreign
        other = [
            name_server("other"),
            channel("elsewhere", "other", "PushPull"),
            agent("twin", "other", [link("in", "elsewhere", "Pull", handler="take")], class_="agents:Twin", code=TWIN),
        ]
        self.here.create(*zoo(), *other)
        kind.apply(foreign, waiting_pod(kind.agent_image))
        self.here.wait_ready(*AGENTS, "twin")
        wait_for(lambda: self.here.accepted("results") > 1000, timeout=60, interval=0.5, what="work flows")
        status = self.here.get("zns", NAME)["status"]
        self.endpoint, self.server_key = status["endpoint"], status["publicKey"]

    def token(self, pod: str) -> str:
        """The token that the kubelet gave to a replica's sidecar."""
        return self.here.kubectl("exec", pod, "-c", "runtime", "--", "cat", TOKEN).strip()

    def forge(self, real: str, replica: str, uid: str, **claims: Any) -> str:
        """A token for a replica, signed with the API server's own key."""
        key = self.kind.on_node(self.kind.nodes[0], "cat", "/etc/kubernetes/pki/sa.key")
        body = jwt.decode(real, options={"verify_signature": False})
        body["kubernetes.io"]["pod"] = {"name": replica, "uid": uid}
        return jwt.encode({**body, **claims}, key, algorithm="RS256", headers={"kid": jwt.get_unverified_header(real)["kid"]})

    def join(self, token: str, *, keys: str | None = "own", **other: Any) -> dict[str, Any]:
        """An attempt to join as a third worker."""
        common = {"at": "join", "endpoint": self.endpoint, "server_key": self.server_key, "keys": keys, "token": token}
        return {**common, "agent": "worker", "replica": "worker-7", "uid": self.uid, "host": "10.0.0.1", **other}

    def data(self, host: str, *, keys: str | None, server_key: str = "") -> dict[str, Any]:
        """An attempt at the source's data port."""
        endpoint = f"tcp://{host}:{DATA_PORT}"
        return {"at": "data", "endpoint": endpoint, "server_key": server_key, "keys": keys, "replica": "worker-7", "uid": self.uid}

    uid = str(uuid.uuid4())

    def knock(self, *attempts: dict[str, Any]) -> list[dict[str, Any]]:
        """What each attempt told the stranger."""
        command = ["exec", "--stdin", "stranger", "-n", self.foreign, "--", "python3", "-", json.dumps(attempts)]
        answer: list[dict[str, Any]] = json.loads(self.kind.kubectl(*command, stdin=PROBE.read_text(encoding="utf-8")))
        return answer


@pytest.fixture
def doors(operator: KindCluster) -> Iterator[Doors]:
    with operator.namespace("doors") as namespace, operator.namespace("stranger") as foreign:
        yield Doors(operator, namespace, foreign)


@pytest.mark.timeout(300)
def test_strangers_get_nothing_and_learn_nothing(doors: Doors) -> None:
    real = doors.token("worker-0")
    now = int(time.time())
    forged = {name: doors.forge(real, "worker-7", doors.uid, **claims) for name, claims in _forgeries(now).items()}
    [source] = doors.here.pods("source")
    host = source["status"]["podIP"]
    outside = {
        "no token": (doors.join(""), REFUSED),
        "a token that is none": (doors.join("x" * 900), REFUSED),
        "the token of a replica of another NameServer": (doors.join(doors.token("twin-0")), REFUSED),
        "the token of another replica": (doors.join(real), REFUSED),
        "an expired token": (doors.join(forged["expired"]), REFUSED),
        "a token for the API server": (doors.join(forged["for the API"]), REFUSED),
        "no CURVE key": (doors.join(forged["good"], keys=None), SILENCE),
        "the wrong key of the server": (doors.join(forged["good"], server_key=""), SILENCE),
        "a data port without CURVE": (doors.data(host, keys=None), NOTHING),
        "a data port with a guessed server key": (doors.data(host, keys="own"), NOTHING),
    }
    answers = doors.knock(*(attempt for attempt, _ in outside.values()))
    assert dict(zip(outside, answers, strict=True)) == {name: expected for name, (_, expected) in outside.items()}
    assert doors.here.get("zns", NAME)["status"]["members"] == 4
    # The kubelet's copy of what a container says may be behind.
    wait_for(
        lambda: "ExpiredSignatureError" in doors.here.kubectl("logs", f"{NAME}-0"),
        timeout=30,
        interval=0.5,
        what="the line about the expired token",
    )
    # The same knocking opens the doors to a good token, so that silence above means something. Its key, and no other, is let in to the data.
    [inside] = doors.knock(doors.join(forged["good"]))
    assert {"Welcome", "Directory"} <= set(inside["answers"])
    assert list(inside["peers"]) == ["source-0"]
    peer = inside["peers"]["source-0"]
    assert peer["host"] == host
    joined, member, stolen = doors.knock(
        doors.join(forged["good"], keys="mine"),
        doors.data(host, keys="mine", server_key=peer["key"]),
        doors.data(host, keys="another", server_key=peer["key"]),
    )
    assert "Welcome" in joined["answers"]
    assert member == {"heard": ["W"], "handshake": True}
    assert stolen == NOTHING
    progress = doors.here.accepted("results")
    wait_for(lambda: doors.here.accepted("results") > progress + 1000, timeout=60, interval=0.5, what="work goes on")


def _forgeries(now: int) -> dict[str, dict[str, Any]]:
    hour = 3600
    return {
        "good": {"iat": now - 60, "nbf": now - 60, "exp": now + hour},
        "expired": {"iat": now - 2 * hour, "nbf": now - 2 * hour, "exp": now - hour},
        "for the API": {"iat": now - 60, "nbf": now - 60, "exp": now + hour, "aud": ["https://kubernetes.default.svc.cluster.local"]},
    }
