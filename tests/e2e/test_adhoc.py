"""Agents that programs make inside pods: the differential scenarios over two of them, and what a domain that forbids them says."""

from __future__ import annotations

import base64
import json
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.differential.pods import CHOSEN, archive
from tests.differential.runner import Result, Run
from tests.differential.verdicts import compare
from tests.e2e.domain import Domain, agent, name_server
from tests.support.cluster import KindCluster
from tests.support.signing import private_key, public_pem
from tests.support.wait import wait_for

ZIP = "/etc/ganglion/code/tests.zip"
SERVE = f"""
import sys
sys.path.insert(0, {ZIP!r})
from tests.differential.pods import serve
"""
ASKER = """
import ganglion
from ganglion import Agent, NSProxy, run_agent


class Asker(Agent):
    def on_init(self):
        self.each(0.5, self.ask)

    def ask(self):
        try:
            print("AGENTS", NSProxy().agents(), flush=True)
        except ganglion.AdHocForbidden as error:
            print("REFUSED", error, flush=True)
            return
        self.stop_all_timers()
        friend = run_agent("friend")
        print("HOST", friend.bind("PUSH", alias="out").address.host, flush=True)
        for what, call in {
            "LAMBDA": lambda: friend.execute_as_function(lambda: 1),
            "PICKLE": lambda: friend.bind("PUSH", alias="more", serializer="pickle"),
        }.items():
            try:
                print(what, call(), flush=True)
            except Exception as error:
                print(what, type(error).__name__, error, flush=True)
        print("DONE", flush=True)
"""

SIGNER = """
from ganglion import Agent, run_agent


class Signer(Agent):
    def on_init(self):
        self.after(0.0, self.sign)

    def sign(self):
        pupil = run_agent("pupil")
        print("SIGNED", pupil.execute_as_function(lambda: 6 * 7), flush=True)
        try:
            print("PICKLE", pupil.bind("PUSH", serializer="pickle"), flush=True)
        except Exception as error:
            print("PICKLE", type(error).__name__, flush=True)
"""

OUTSIDE = """
from ganglion import Agent, NSProxy, Proxy, run_agent
from tests.differential.handlers import receive


class Remote(Agent):
    def on_init(self):
        self.bind("REP", alias="ask", handler="answer")

    def answer(self, message):
        return [self.factor, message]


if __name__ == "__main__":
    friend = Proxy("host-stage-0", timeout=20).spawn(False, "friend", None, {"attributes": {"received": []}})
    address = friend.bind("PULL", alias="in", handler=receive)
    laptop = run_agent("laptop")
    laptop.connect(address, alias="out")
    for number in range(50):
        laptop.send("out", number)
    while len(friend.get_attr("received")) < 50:
        pass
    print("ALL", friend.get_attr("received") == list(range(50)))
    print("AGENTS", sorted(NSProxy().agents()))
    remote = run_agent("Remote", base=Remote, attributes={"factor": 6}, backend="pod")
    laptop.connect(remote.addr("ask"), alias="ask")
    print("REMOTE", laptop.send_recv("ask", 7))
    remote.shutdown()
    laptop.shutdown()
    friend.shutdown()
    raise SystemExit(7)
"""


@pytest.fixture
def namespace(operator: KindCluster) -> Iterator[str]:
    with operator.namespace("adhoc") as name:
        yield name


@pytest.fixture
def osbrain() -> Iterator[Run]:
    """The same scenarios on osBrain, on this machine, in the background."""
    pytest.importorskip("osbrain")
    run = Run([("osbrain", name) for name in CHOSEN], workers=1)
    try:
        yield run
    finally:
        run.close()


def stage(replicas: int) -> list[dict[str, Any]]:
    """A domain with so many pods that make agents on request, on as many nodes as there are."""
    code = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "scenarios", "labels": {"ganglion.dev/code": "true"}},
        "data": {"stagehands.py": SERVE},
        "binaryData": {"tests.zip": base64.b64encode(archive()).decode("ascii")},
    }
    spread = {"maxSkew": 1, "topologyKey": "kubernetes.io/hostname", "whenUnsatisfiable": "ScheduleAnyway"}
    return [
        name_server("theatre", adHoc="Allowed", remoteCode="Trusted", shutdown={"timeoutSeconds": 20}),
        code,
        agent(
            "stage",
            "theatre",
            [],
            replicas=replicas,
            class_="stagehands:serve",
            code={"configMapRef": {"name": "scenarios"}},
            topologySpreadConstraints=[spread],
        ),
    ]


def test_scenarios_over_two_pods(operator: KindCluster, namespace: str, osbrain: Run) -> None:
    domain = Domain(operator, namespace)
    domain.create(*stage(2))
    domain.wait_replicas("stage", 2)
    played: dict[str, dict[str, Any]] = {}
    try:
        command = ("env", f"PYTHONPATH={ZIP}", "python3", "-m", "tests.differential.pods", *CHOSEN)
        for line in domain.kubectl("exec", "stage-0", "-c", "agent", "--", *command, timeout=200).splitlines():
            found = json.loads(line) if line.startswith('{"scenario"') else {}
            if found:
                played[found.pop("scenario")] = found
        assert set(played) == set(CHOSEN)
        made = {name: found.pop("made") for name, found in played.items()}
        assert all(here and elsewhere for here, elsewhere in made.values()), made
        wrong = {}
        for name, found in played.items():
            found["transcript"] = [(key, value) for key, value in found["transcript"]]
            theirs = osbrain.result("osbrain", name)
            assert theirs.failure is None, theirs.failure
            wrong[name] = compare(name, theirs, Result(**found))
        assert not any(wrong.values()), "\n".join(f"{name}: {lines} {played[name]['failure']}" for name, lines in wrong.items() if lines)
    except BaseException as error:
        error.add_note(domain.diagnosis() + domain.log("stage"))
        raise


def sealed(folder: Path) -> list[dict[str, Any]]:
    """A domain whose programs run signed code alone, and one that signs with a key of a Secret."""
    key = private_key(folder / "signing.pem")
    files = {"signing": {"signing.pem": (folder / "signing.pem").read_text()}, "trusted": {"trusted.pem": public_pem(key).decode()}}
    variables = {"GANGLION_SIGNING_KEY_FILE": "/signing/signing.pem", "GANGLION_TRUSTED_KEYS_FILE": "/trusted/trusted.pem"}
    return [
        name_server("sealed", adHoc="Allowed", remoteCode="Signed", shutdown={"timeoutSeconds": 20}),
        {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "signing"}, "stringData": files["signing"]},
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "trusted"}, "data": files["trusted"]},
        agent(
            "signer",
            "sealed",
            [],
            class_="agents:Signer",
            code=SIGNER,
            env=[{"name": name, "value": value} for name, value in variables.items()],
            volumes=[{"name": "signing", "secret": {"secretName": "signing"}}, {"name": "trusted", "configMap": {"name": "trusted"}}],
            volumeMounts=[{"name": name, "mountPath": f"/{name}", "readOnly": True} for name in files],
        ),
    ]


def test_a_domain_forbids_them_until_it_says_otherwise(operator: KindCluster, namespace: str, tmp_path: Path) -> None:
    domain = Domain(operator, namespace)
    domain.create(
        name_server("strict", shutdown={"timeoutSeconds": 20}),
        agent("asker", "strict", [], class_="agents:Asker", code=ASKER),
        *sealed(tmp_path),
    )
    refused = f"REFUSED NameServer {namespace}/strict: spec.adHoc is Forbidden"
    try:
        wait_for(lambda: refused in domain.log("asker"), timeout=120, interval=0.5, what="the asker is refused")
        [before] = [pod["metadata"]["uid"] for pod in domain.pods("asker")]
        domain.kubectl("patch", "nameservers.ganglion.dev/strict", "--type=merge", "-p", '{"spec": {"adHoc": "Allowed"}}')
        wait_for(lambda: "DONE" in domain.log("asker"), timeout=120, interval=0.5, what="the asker makes an agent")
        [pod] = domain.pods("asker")
        said = domain.log("asker")
        assert pod["metadata"]["uid"] == before
        assert pod["status"]["containerStatuses"][0]["restartCount"] == 0
        assert f"HOST {pod['status']['podIP']}" in said
        assert "LAMBDA EncodeError" in said
        assert "PICKLE CodecForbidden" in said
        assert "AGENTS []" in said
        explained = domain.kubectl("explain", "nameservers.spec.adHoc", "--api-version=ganglion.dev/v1alpha1")
        assert "run_agent" in explained
        wait_for(lambda: "PICKLE" in domain.log("signer"), timeout=60, interval=0.5, what="signed code has run, or was refused")
        assert [s for s in domain.log("signer").splitlines() if s.startswith(("SIGNED", "PICKLE"))] == [
            "SIGNED 42",
            "PICKLE CodecForbidden",
        ]
    except BaseException as error:
        error.add_note(domain.diagnosis() + domain.log("asker") + domain.log("signer"))
        raise


def forwarder(pid: int) -> int:
    """Process id of the kubectl that `ganglion connect` runs."""
    return int(Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()[0])


def test_a_program_outside_of_the_cluster_takes_part(operator: KindCluster, namespace: str, tmp_path: Path) -> None:
    domain = Domain(operator, namespace)
    domain.create(*stage(1))
    domain.wait_replicas("stage", 1)
    script = tmp_path / "outside.py"
    script.write_text(OUTSIDE, encoding="utf-8")
    root = str(Path(__file__).parents[2])
    environment = {**operator.environment, "PYTHONPATH": root}
    connect = [sys.executable, "-m", "ganglion", "connect", "--namespace", namespace]
    try:
        done = subprocess.run(
            [*connect, "theatre", sys.executable, str(script)], env=environment, capture_output=True, text=True, timeout=120, check=False
        )
        assert done.returncode == 7, done.stdout + done.stderr
        assert "ALL True" in done.stdout
        assert "AGENTS ['friend', 'host-stage-0', 'laptop']" in done.stdout
        assert "REMOTE [6, 7]" in done.stdout
        [made] = domain.get("agents.ganglion.dev", "-l", "ganglion.dev/made-by=run-agent")["items"]
        assert made["metadata"]["name"].startswith("remote-")
        wait_for(
            lambda: domain.condition("agents.ganglion.dev", made["metadata"]["name"], "Complete").get("status") == "True",
            timeout=60,
            interval=0.5,
            what="its Agent has completed with it",
        )
        with subprocess.Popen([*connect, "theatre"], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as waiting:
            try:
                assert waiting.stdout is not None
                exported = dict(shlex.split(waiting.stdout.readline())[1].split("=", 1) for _ in range(5))
                assert list(exported) == [
                    "GANGLION_NAMESERVER_ADDRESS",
                    "GANGLION_RELAY",
                    "GANGLION_REMOTE_CODE",
                    "GANGLION_JOIN_SECRET_FILE",
                    "GANGLION_CONNECTED",
                ]
                os.kill(forwarder(waiting.pid), signal.SIGKILL)
                # The same address answers again by itself.
                seen = subprocess.run(
                    [sys.executable, "-c", "import ganglion; print(ganglion.NSProxy(timeout=60).proxy('host-stage-0', timeout=60).ping())"],
                    env={**environment, **exported},
                    capture_output=True,
                    text=True,
                    timeout=90,
                    check=False,
                )
                assert seen.stdout.strip() == "pong", seen.stderr
                waiting.send_signal(signal.SIGINT)
                assert waiting.wait(30) == 130
                assert waiting.stderr is not None
                assert "the forwarded ports were cut; opening them again" in waiting.stderr.read()
            finally:
                # Also when something above has failed: it would go on, with its kubectl.
                if waiting.poll() is None:
                    waiting.terminate()
        unknown = subprocess.run([*connect, "nobody"], env=environment, capture_output=True, text=True, timeout=60, check=False)
        assert unknown.returncode == 1
        assert '"nobody" not found' in unknown.stderr
    except BaseException as error:
        error.add_note(domain.diagnosis() + domain.log("stage"))
        raise
