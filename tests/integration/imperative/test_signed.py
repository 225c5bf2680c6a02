"""`GANGLION_REMOTE_CODE=Signed`: programs with real agents, which run code that a trusted key has signed for them, and no other."""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from tests.support.signing import private_key, public_pem

PROGRAM = """
    import os, pickle, sys, time
    from ganglion import Agent, CodecForbidden, SignatureError, run_agent, run_nameserver
    from ganglion.helper import wait_agent_attr
    from ganglion.imperative import frames, signing
    from ganglion.imperative.connections import Connection, Reply
    from ganglion.imperative.calls import _context
    from ganglion.imperative.futures import outcome

    class Keeper(Agent):
        def on_init(self):
            self.received = []

        def keep(self, message):
            self.received.append(message)

    def show(*values):
        print(*values, flush=True)

    def refused(what, call):
        try:
            show(what, "was taken:", call())
        except Exception as error:
            show(what, "->", type(error).__name__)

    def send(proxy, body, endpoint="safe"):
        record = proxy._locate()
        connection = Connection(_context(), getattr(record, endpoint))
        reply = Reply(time.monotonic() + 20)
        try:
            connection.submit(reply, body, record.life)
            assert connection.wait(reply, reply.deadline)
            return outcome(reply, "raw")
        finally:
            connection.close()

    class Bomb:
        def __reduce__(self):
            return os.mkdir, (sys.argv[1],)

    def main():
        backend = sys.argv[2]
        ns = run_nameserver(backend=backend)
        try:
            play(ns, backend)
        finally:
            ns.shutdown()

    def play(ns, backend):
        a, b = (run_agent(name, base=Keeper, backend=backend) for name in "ab")
"""

TRUSTED = """
        # Plain data as ever, and code where it is signed: functions, lambdas, methods, handlers, objects; either kind of call.
        a.connect(b.bind("PULL", handler=lambda agent, message: agent.received.append(message)), alias="out")
        a.send("out", {"n": 1})
        wait_agent_attr(b, "received", length=1)
        show(b.get_attr("received"), a.execute_as_function(lambda x: x * 2, 21), a.unsafe.execute_as_function(sorted, [2, 1]))
        a.set_method(double=lambda agent, x: [agent.name, 2 * x])
        show(a.double(4), a.future.execute_as_method(lambda agent: agent.name).result(10))
        a.oneway.execute_as_method(lambda agent: agent.set_attr(done=True))
        wait_agent_attr(a, "done", value=True)

        # A call is good for one agent, one of its lives, once, for a while.
        record = a._locate()
        def sign(life=record.life, seconds=30.0, what=Bomb):
            return signing.sign("execute_as_function", (what() if what is Bomb else what,), {}, life=life, seconds=seconds)
        once = sign(what=time.monotonic)
        first = send(a, once)
        refused("again", lambda: send(a, once))
        refused("again, at the other door", lambda: send(a, once, "control"))
        refused("for another", lambda: send(a, sign(life=b._locate().life)))
        refused("other code", lambda: send(a, once[:-1] + b"x"))
        refused("damaged", lambda: send(a, once[:60] + b"?" + once[61:]))
        refused("cut off", lambda: send(a, once[:100]))
        late, signing.time = sign(), type("Clock", (), {"time": lambda: time.time() - 200})
        refused("too late", lambda: send(a, sign()))
        signing.time = time
        refused("not signed", lambda: send(a, pickle.dumps(("execute_as_function", (Bomb(),), {}))))
        refused("by reference", lambda: send(a, pickle.dumps(("execute_as_function", (os.system, "true"), {}))))
        refused("as a message", lambda: a.bind("PULL", handler="keep", serializer="pickle"))
        refused("a result", lambda: a.execute_as_function(lambda: os.system))
        refused("to the name server", lambda: ns._call("agents", Bomb()))
        show(a.ping(), a.double(1), os.path.exists(sys.argv[1]))
"""

STRANGER = """
        # This program's own key is not among the trusted ones.
        refused("lambda", lambda: a.execute_as_function(lambda: os.mkdir(sys.argv[1])))
        refused("handler", lambda: a.bind("PULL", handler=lambda agent, message: None))
        refused("object", lambda: a.set_attr(x=Bomb()))
        a.set_attr(x={"plain": 1})
        show(a.get_attr("x"), os.path.exists(sys.argv[1]))
"""

UNSIGNED = """
        refused("lambda", lambda: a.execute_as_function(lambda: 1))
        show(a.ping())
"""
END = """
    if __name__ == "__main__":
        main()
"""


class Programs:
    """Runs programs with keys."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.trusted = folder / "trusted.pem"
        self.trusted.write_bytes(public_pem(private_key(folder / "ours")))
        private_key(folder / "stranger")

    def run(self, text: str, key: str | None, backend: str = "process", *, code: int = 0, **environment: str) -> list[str]:
        """Lines that a program has printed."""
        program = self.folder / "program.py"
        program.write_text(textwrap.dedent(PROGRAM + text + END))
        variables = {
            **os.environ,
            "GANGLION_JOIN_SECRET": secrets.token_hex(16),
            "GANGLION_REMOTE_CODE": "Signed",
            "GANGLION_TRUSTED_KEYS_FILE": str(self.trusted),
            **environment,
        }
        if key is not None:
            variables["GANGLION_SIGNING_KEY_FILE"] = str(self.folder / key)
        made = self.folder / "made by a bomb"
        command = [sys.executable, str(program), str(made), backend]
        done = subprocess.run(command, env=variables, capture_output=True, text=True, timeout=30, check=False)
        assert done.returncode == code, done.stdout + done.stderr
        assert not made.exists()
        self.errors = done.stderr
        return done.stdout.splitlines()


@pytest.fixture
def programs(tmp_path: Path) -> Programs:
    return Programs(tmp_path)


@pytest.mark.parametrize("backend", ["process", "thread"])
def test_code_runs_where_it_is_signed(programs: Programs, backend: str) -> None:
    lines = [line for line in programs.run(TRUSTED, "ours", backend) if not line.startswith(("WARNING", "ERROR"))]
    assert lines == [
        "[{'n': 1}] 42 [1, 2]",
        "['a', 8] a",
        "again -> SignatureReplayed",
        "again, at the other door -> SignatureReplayed",
        "for another -> SignedForAnother",
        "other code -> SignedOtherCode",
        "damaged -> SignatureInvalid",
        "cut off -> MalformedSignature",
        "too late -> SignatureExpired",
        "not signed -> CodecForbidden",
        "by reference -> CodecForbidden",
        "as a message -> CodecForbidden",
        "a result -> CodecForbidden",
        "to the name server -> EncodeError",
        "pong ['a', 2] False",
    ]


def test_a_key_that_is_not_trusted_gets_nothing_but_data_through(programs: Programs) -> None:
    assert programs.run(STRANGER, "stranger") == [
        "lambda -> SignerUnknown",
        "handler -> SignerUnknown",
        "object -> SignerUnknown",
        "{'plain': 1} False",
    ]


def test_a_program_without_a_key_is_told_which_is_missing(programs: Programs) -> None:
    assert programs.run(UNSIGNED, None) == ["lambda -> ValueError", "pong"]


def test_an_agent_without_trusted_keys_does_not_start(programs: Programs) -> None:
    programs.run(UNSIGNED, "ours", code=1, GANGLION_TRUSTED_KEYS_FILE="")
    assert "GANGLION_TRUSTED_KEYS_FILE: not set; with remoteCode: Signed it names a PEM file" in programs.errors
