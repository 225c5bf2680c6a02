"""Programs beside a sidecar make agents of their own, which find each other by the domain's name server."""

from __future__ import annotations

import asyncio
import os
import pickle
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import zmq

from ganglion import CodecForbidden
from ganglion.cli.connect import visit
from ganglion.cli.errors import Failure
from ganglion.imperative import frames
from ganglion.imperative.failures import decode_error
from ganglion.imperative.secret import derive
from ganglion.nameserver.adhoc import AdHocDirectory, ad_hoc_secret
from ganglion.nameserver.desk import CopyDesk
from ganglion.runtime.sockets import CurveKeys, make_context, make_socket
from tests.support.agents import AgentProcess, World, world
from tests.support.ports import free_port
from tests.support.signing import private_key, public_pem
from tests.support.wait import wait_for

CODE = """
    import os
    import time
    import ganglion
    from ganglion import NSProxy, Proxy, run_agent, run_nameserver


    class Mirror(ganglion.Agent):
        def on_init(self):
            self.received = []

        def take(self, message):
            self.received.append(message)

        def answer(self, message):
            return ["seen", message]

        def look_for(self, name):
            try:
                return Proxy(name, timeout=0.1).ping()
            except ganglion.CommunicationError as error:
                return str(error)

        def on_exit(self):
            print("EXIT", self.name, flush=True)


    def listen(agent):
        run_agent("ear", base=Mirror)
        ear = Proxy("ear")
        print("LISTENS", ear.bind("PULL", alias="in", handler="take").address.host, flush=True)
        ear.bind("REP", alias="ask", handler="answer")


    def speak(agent):
        mouth = run_agent("mouth")
        ear = Proxy("ear", timeout=20)
        mouth.connect(ear.addr("in"), alias="out")
        mouth.connect(ear.addr("ask"), alias="ask")
        for number in range(100):
            mouth.send("out", {"number": number})
        print("REPLY", mouth.send_recv("ask", "hello"), flush=True)
        while len(ear.get_attr("received")) < 100:
            pass
        print("ALL", [item["number"] for item in ear.get_attr("received")] == list(range(100)), flush=True)
        print("AGENTS", NSProxy().agents(), flush=True)
        for what, call in {
            "LAMBDA": lambda: ear.execute_as_function(lambda: os.getpid()),
            "FUNCTION": lambda: ear.execute_as_function(os.getpid),
            "PICKLE": lambda: mouth.bind("PUSH", alias="pickled", serializer="pickle"),
            "ERROR": lambda: ear.send("nowhere", 1),
            "STOP": lambda: NSProxy().daemon_shutdown(),
            "POD": lambda: run_agent("other", backend="pod"),
            "OWN": lambda: run_nameserver().agents(),
        }.items():
            try:
                print(what, call(), flush=True)
            except Exception as error:
                print(what, type(error).__name__, error, flush=True)


    def send_code(agent):
        ear = Proxy("ear", timeout=20)
        for what, call in {
            "LAMBDA": lambda: ear.execute_as_function(lambda: os.getpid()),
            "FUNCTION": lambda: ear.execute_as_function(os.getpid),
            "PICKLE": lambda: ear.bind("PUSH", serializer="pickle"),
        }.items():
            try:
                print(what, call(), flush=True)
            except Exception as error:
                print(what, type(error).__name__, error, flush=True)


    def ask(agent):
        try:
            run_agent("nobody")
        except ganglion.AdHocForbidden as error:
            print("REFUSED", error, flush=True)
"""


def free_address() -> str:
    """A host and a port on which nobody listens."""
    return f"127.0.0.1:{free_port()}"


@contextmanager
def domain(remote_code: str = "Forbidden", code: str = CODE) -> Iterator[World]:
    """A domain with `adHoc: Allowed`."""
    addresses = {"GANGLION_AD_HOC_ADDRESS": f"tcp://{free_address()}", "GANGLION_AD_HOC_RELAY": free_address()}
    with world(code, **addresses, GANGLION_REMOTE_CODE=remote_code) as here:
        yield here


def run(here: World, name: str, function: str, host: str = "127.0.0.1", **agent: Any) -> AgentProcess:
    """One replica of an agent without channels, with its sidecar."""
    document = here.declare(name, target=f"agents:{function}", **{"data_plane": "Sidecar", **agent})
    return here.start(document, pod=True, GANGLION_DOMAIN="default/demo", GANGLION_ADVERTISE_HOST=host)


def keys_of(here: World) -> CurveKeys:
    """Those that all ad-hoc agents of the domain have."""
    return derive(ad_hoc_secret(here.server.keys, "ns-uid").encode())


def ask_directory(here: World, keys: CurveKeys, body: bytes, seconds: float = 10.0) -> tuple[int, bytes] | None:
    """(flags, body) of the directory's reply to a call; None: it said nothing."""
    return ask_at(here.server.environment["GANGLION_AD_HOC_ADDRESS"], here, keys, body, seconds)


def ask_at(endpoint: str, here: World, keys: CurveKeys, body: bytes, seconds: float = 10.0) -> tuple[int, bytes] | None:
    """The same of any ad-hoc agent."""
    context = make_context()
    dealer = make_socket(context, zmq.DEALER, curve=keys, server_key=keys_of(here).public)
    try:
        dealer.connect(endpoint)
        dealer.send_multipart([frames.header(frames.CALL, 1), body])
        if not dealer.poll(int(seconds * 1000)):
            return None
        head, reply = dealer.recv_multipart()
        return frames.read_header(head)[1], reply
    finally:
        dealer.close(0)
        context.term()


def agents(here: World) -> list[str] | None:
    """Names in the directory; None: it does not answer (yet)."""
    reply = ask_directory(here, keys_of(here), pickle.dumps(("agents", (), {}), 5))
    if reply is None:
        return None
    assert reply[0] == 0
    found: list[str] = pickle.loads(reply[1])
    return found


@pytest.mark.parametrize(("remote_code", "plane"), [("Forbidden", "Sidecar"), ("Trusted", "InProcess")])
def test_agents_of_two_pods_talk(remote_code: str, plane: str) -> None:
    with domain(remote_code) as here:
        run(here, "ear", "listen", data_plane=plane).says("LISTENS 127.0.0.1", timeout=60)
        mouth = run(here, "mouth", "speak", data_plane=plane)
        mouth.says("OWN", timeout=60)
        out = mouth.output
        assert "REPLY ['seen', 'hello']" in out
        assert "ALL True" in out
        assert "AGENTS ['ear', 'mouth']" in out
        assert "ERROR KeyError" in out
        assert "STOP NotSupported" in out
        assert "POD NotSupported backend='pod': found in a pod" in out
        assert "OWN []" in out
        if remote_code == "Trusted":
            assert "PICKLE AgentAddress(tcp, " in out
            assert "LAMBDA CodecForbidden" not in out
        else:
            assert "PICKLE CodecForbidden" in out
            assert "LAMBDA EncodeError" in out
            assert "FUNCTION CodecForbidden" in out
            assert "spec.remoteCode" in out
            _attack(here)


def _attack(here: World) -> None:
    """A peer that holds the secret sends what a pickle's loader would crash at, or never be done with."""
    found = ask_directory(here, keys_of(here), pickle.dumps(("lookup", ("ear",), {}), 5))
    assert found is not None
    record = pickle.loads(found[1])
    for key in (b")" + b"\x85" * 300_000, b")" + b"2\x86" * 60):
        for endpoint in (record.safe, record.control):
            reply = ask_at(endpoint, here, keys_of(here), b"\x80\x05}" + key + b"Ns.")
            assert reply is not None
            assert isinstance(decode_error(reply[1]), CodecForbidden)
    reply = ask_at(record.control, here, keys_of(here), pickle.dumps(("ping", (), {}), 5))
    assert reply is not None
    assert pickle.loads(reply[1]) == "pong"


def test_signed_code_passes_between_pods(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "trusted").write_bytes(public_pem(private_key(tmp_path / "ours")))
    private_key(tmp_path / "stranger")
    monkeypatch.setenv("GANGLION_TRUSTED_KEYS_FILE", str(tmp_path / "trusted"))
    with domain("Signed") as here:
        run(here, "ear", "listen").says("LISTENS 127.0.0.1", timeout=60)
        for key, lambdas, functions in (
            ("ours", "LAMBDA [0-9]+", "FUNCTION [0-9]+"),
            ("stranger", "LAMBDA SignerUnknown", "FUNCTION SignerUnknown"),
        ):
            monkeypatch.setenv("GANGLION_SIGNING_KEY_FILE", str(tmp_path / key))
            sender = run(here, key, "send_code")
            sender.says("PICKLE")
            for line in (lambdas, functions, "PICKLE CodecForbidden"):
                assert re.search(f"^{line}", sender.output, re.MULTILINE), sender.output


def test_without_leave_nobody_makes_agents() -> None:
    with world(CODE) as here:
        asker = run(here, "asker", "ask")
        asker.says("REFUSED NameServer default/demo: spec.adHoc is Forbidden")


def test_they_end_with_the_agent_that_made_them_and_with_the_domain() -> None:
    with domain() as here:
        ear = run(here, "ear", "listen")
        ear.says("LISTENS", timeout=60)
        mouth = run(here, "mouth", "speak")
        mouth.says("OWN", timeout=60)
        mouth.signal(signal.SIGTERM)
        mouth.ends(0)
        # On a busy machine it may have been killed in the end: then its name is free after its lease.
        wait_for(lambda: agents(here) == ["ear"], timeout=20, what="the directory holds the other one alone")
        here.shut_down()
        ear.ends(0)
        assert "EXIT ear" in ear.output


def test_a_restarted_name_server_and_a_killed_directory_know_them_again() -> None:
    with domain() as here:
        run(here, "ear", "listen").says("LISTENS", timeout=60)
        here.server.kill()
        here.server.start()
        wait_for(lambda: agents(here) == ["ear"], timeout=30, what="it is known to the next name server")
        [child] = Path(f"/proc/{here.server.process.pid}/task/{here.server.process.pid}/children").read_text().split()
        os.kill(int(child), signal.SIGKILL)
        wait_for(lambda: not Path(f"/proc/{child}").exists(), what="the directory is dead")
        wait_for(lambda: agents(here) == ["ear"], timeout=30, what="it is known to the next directory")


class Bomb:
    """Runs code where it is loaded."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (self.path,)


def test_a_directory_waits_until_its_address_is_free() -> None:
    with socket.create_server(("127.0.0.1", 0)) as holder:
        port = holder.getsockname()[1]

        async def starts() -> int:
            directory = AdHocDirectory(f"tcp://127.0.0.1:{port}", CurveKeys.generate(), "uid", CopyDesk("default/shop", print))
            start = asyncio.create_task(directory.start())
            await asyncio.wait([start], timeout=2)
            assert not start.done()
            holder.close()
            await start
            try:
                return directory.terms("Forbidden").port
            finally:
                await directory.close()

        assert asyncio.run(starts()) == port


def test_the_directory_runs_no_code_of_anybody(tmp_path: Path) -> None:
    with domain("Trusted") as here:
        reply = ask_directory(here, keys_of(here), pickle.dumps(("lookup", (Bomb(tmp_path / "made"),), {}), 5))
        assert reply is not None
        assert isinstance(decode_error(reply[1]), CodecForbidden)
        assert not (tmp_path / "made").exists()
        assert agents(here) == []


def test_a_stranger_learns_nothing() -> None:
    with domain() as here:
        assert agents(here) == []
        assert ask_directory(here, CurveKeys.generate(), pickle.dumps(("agents", (), {}), 5), seconds=1.0) is None


OUTSIDE = """
from ganglion import NSProxy, Proxy, run_agent

if __name__ == "__main__":
    ear = Proxy("ear")
    assert ear.addr("in").address.host == "127.0.0.2"
    mouth = run_agent("mouth")
    mouth.connect(ear.addr("in"), alias="out")
    mouth.connect(ear.addr("ask"), alias="ask")
    for number in range(100):
        mouth.send("out", number)
    print("REPLY", mouth.send_recv("ask", "hello"))
    while len(ear.get_attr("received")) < 100:
        pass
    print("ALL", ear.get_attr("received") == list(range(100)))
    print("AGENTS", NSProxy().agents())
    # A pod that looks for it is told why it cannot be reached.
    print("BACK", ear.look_for("mouth"))
    mouth.shutdown()
"""


def test_a_program_outside_takes_part(tmp_path: Path) -> None:
    with domain() as here:
        run(here, "ear", "listen", host="127.0.0.2").says("LISTENS 127.0.0.2", timeout=60)
        port = int(here.server.endpoint.rpartition(":")[2])
        terms = visit("demo", port, here.server.keys.public, here.server.secret_file.read_bytes())
        script = tmp_path / "outside.py"
        script.write_text(OUTSIDE, encoding="utf-8")
        variables = {
            "GANGLION_NAMESERVER_ADDRESS": f"127.0.0.1:{terms.port}",
            "GANGLION_JOIN_SECRET": terms.secret,
            "GANGLION_REMOTE_CODE": terms.remote_code,
            "GANGLION_RELAY": here.server.environment["GANGLION_AD_HOC_RELAY"],
        }
        environment = {**os.environ, **variables}
        done = subprocess.run([sys.executable, script], env=environment, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        assert "REPLY ['seen', 'hello']" in done.stdout
        assert "ALL True" in done.stdout
        assert "AGENTS ['ear', 'mouth']" in done.stdout
        assert "BACK agent 'mouth' runs outside of the cluster" in done.stdout


def test_the_relay_leads_to_registered_agents_alone() -> None:
    with domain() as here, socket.create_server(("127.0.0.3", 0)) as elsewhere:
        run(here, "ear", "listen", host="127.0.0.2").says("LISTENS 127.0.0.2", timeout=60)
        host, _, port = here.server.environment["GANGLION_AD_HOC_RELAY"].rpartition(":")
        for wanted, refused in (("127.0.0.3", 2), ("127.0.0.2", 4)):
            with socket.create_connection((host, int(port)), timeout=10) as connection:
                request = b"\x05\x01\x00\x05\x01\x00\x01" + socket.inet_aton(wanted) + elsewhere.getsockname()[1].to_bytes(2, "big")
                connection.sendall(request)
                answer = b""
                while len(answer) < 12:
                    answer += connection.recv(12 - len(answer))
                # Where an agent is, but nobody listens: unreachable. Anywhere else: forbidden.
                assert answer[3] == refused


def test_who_has_no_token_is_not_admitted() -> None:
    with domain() as here, pytest.raises(Failure, match="not authenticated"):
        visit("demo", int(here.server.endpoint.rpartition(":")[2]), here.server.keys.public, b"x" * 40)
