"""`ganglion connect`: a program on this machine takes part in a domain of a cluster, through forwarded ports."""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
import select
import shlex
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Self

import click

from ganglion.cli.errors import EXIT_FAILURE, EXIT_UNAVAILABLE, Failure
from ganglion.cli.kubectl import ask, checked, kubectl
from ganglion.local.folders import RunFolder

TOKEN_SECONDS = 600
FORWARD_SECONDS = 30.0
ANSWER_SECONDS = 15.0
LOOK_SECONDS = 0.2
AGAIN_SECONDS = 1.0
END_SECONDS = 10.0
_FORWARDING = re.compile(r"^Forwarding from 127\.0\.0\.1:(\d+) -> (\d+)$")


@click.command()
@click.option("--namespace", "-n", metavar="NAMESPACE", help="Of the NameServer; default: that of kubectl's current context.")
@click.option("--context", metavar="NAME", help="Of kubectl's configuration; default: the current one.")
@click.argument("nameserver")
@click.argument("command", nargs=-1)
def connect(nameserver: str, namespace: str | None, context: str | None, command: tuple[str, ...]) -> None:
    """Let a program on this machine take part in a domain of a cluster whose NameServer says `adHoc: Allowed`.

    \b
    ganglion connect lab -n team -- python program.py    runs the program, and ends with its exit code
    ganglion connect lab -n team                         prints the variables that a program needs; until Ctrl-C

    In the program NSProxy() and Proxy(name) reach the domain's directory and the agents of all pods. Agents that it makes with run_agent are
    in the directory too, and connect() to what agents in pods have bound. Nothing leads from the cluster to this machine: pods cannot call
    its agents, nor connect to what they bind. Bind in the pod, and connect from here. run_agent(backend="pod") makes an Agent object, whose
    pod runs the agent; so does every run_agent with GANGLION_DEFAULT_BACKEND=pod. It needs `remoteCode: Trusted`.

    It needs kubectl, and the rights to read the NameServer, to forward ports to its pod (pods/portforward) and to request a token for its
    service account (serviceaccounts/token of NAMESERVER-nameserver).
    """
    checked("NAMESERVER", nameserver)
    base = kubectl(context)
    if namespace is None:
        namespace = ask((*base, "config", "view", "--minify", "-o", "jsonpath={..namespace}")).strip() or "default"
    base = (*base, "--namespace", namespace)
    found = json.loads(ask((*base, "get", "nameservers.ganglion.dev", nameserver, "-o", "json")))
    where = f"NameServer {namespace}/{nameserver}"
    if (found.get("spec") or {}).get("adHoc") != "Allowed":
        raise Failure(f"{where}: spec.adHoc is Forbidden; set it to Allowed, then programs may make agents and connect")
    public_key = (found.get("status") or {}).get("publicKey")
    if not public_key:
        raise Failure(f"{where}: it has no key yet; is the operator running?", EXIT_UNAVAILABLE)
    token = _token(base, namespace, nameserver, found["metadata"]["uid"])
    # Both: a shell that starts it in the background leaves SIGINT ignored, and the interpreter then does not raise KeyboardInterrupt.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _terminated)
    with _Forward(base, nameserver) as forward, RunFolder() as folder:
        terms = visit(where, forward.port("join"), public_key, token)
        secret = folder.path / "join.secret"
        secret.touch(mode=0o600)
        secret.write_text(terms.secret)
        variables = {
            "GANGLION_NAMESERVER_ADDRESS": f"127.0.0.1:{forward.port('ad-hoc')}",
            "GANGLION_RELAY": f"127.0.0.1:{forward.port('relay')}",
            "GANGLION_REMOTE_CODE": terms.remote_code,
            "GANGLION_JOIN_SECRET_FILE": str(secret),
            "GANGLION_CONNECTED": f"{context or ''} {namespace}/{nameserver}",
        }
        if command:
            sys.exit(_run(command, variables, forward))
        for name, value in variables.items():
            click.echo(f"export {name}={shlex.quote(value)}")
        click.echo(f"# {where}: connected; Ctrl-C ends it", err=True)
        forward.keep(lambda: True)


def _terminated(_number: int, _frame: object) -> None:
    # As Ctrl-C: everything is closed on the way out.
    raise KeyboardInterrupt


def _token(base: tuple[str, ...], namespace: str, nameserver: str, uid: str) -> bytes:
    from ganglion.api.names import nameserver_account, token_audience
    from ganglion.wire.join import VISITOR

    audience = token_audience(namespace, uid, VISITOR)
    account = nameserver_account(nameserver)
    return ask((*base, "create", "token", account, "--audience", audience, "--duration", f"{TOKEN_SECONDS}s")).strip().encode()


def visit(where: str, port: int, public_key: str, token: bytes) -> Any:
    """What a program needs to know, for a token."""
    import msgspec
    import zmq

    from ganglion.runtime.sockets import CurveKeys, make_context, make_socket
    from ganglion.runtime.uplink import software_version
    from ganglion.wire.control import AdHoc, Refuse, decode
    from ganglion.wire.join import VISITOR, Join, encode_join

    join = Join(
        agent=VISITOR,
        replica=f"visitor-{secrets.token_hex(4)}",
        uid=str(uuid.uuid4()),
        start=1,
        issued=int(time.time()),
        key="",
        host="127.0.0.1",
        software=software_version(),
        token=token,
    )
    zmq_context = make_context()
    dealer = make_socket(zmq_context, zmq.DEALER, curve=CurveKeys.generate(), server_key=public_key)
    try:
        dealer.connect(f"tcp://127.0.0.1:{port}")
        dealer.send(encode_join(join))
        answer = None
        if dealer.poll(int(ANSWER_SECONDS * 1000)):
            with contextlib.suppress(msgspec.MsgspecError):
                answer = decode(dealer.recv())
    finally:
        dealer.close(0)
        zmq_context.term()
    if isinstance(answer, Refuse):
        raise Failure(f"{where}: refused: {answer.message}; its log says why")
    if not isinstance(answer, AdHoc):
        raise Failure(f"{where}: no answer within {ANSWER_SECONDS:g} s; is the forwarded pod its own?", EXIT_UNAVAILABLE)
    if answer.terms is None:
        raise Failure(f"{where}: its pod still says that spec.adHoc is Forbidden; try again when it was replaced", EXIT_UNAVAILABLE)
    return answer.terms


class _Forward:
    """`kubectl port-forward` to the name server's pod, made again with the same ports when it ends.

    Raises:
        Failure: it does not begin.
    """

    def __init__(self, base: tuple[str, ...], nameserver: str) -> None:
        from ganglion.api.names import AD_HOC_PORT, AD_HOC_RELAY_PORT, NAMESERVER_PORT

        self._command = (*base, "port-forward", "--address", "127.0.0.1", f"pod/{nameserver}-0")
        self._there = {"join": NAMESERVER_PORT, "ad-hoc": AD_HOC_PORT, "relay": AD_HOC_RELAY_PORT}
        self._here: dict[int, int] = {}
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> Self:
        try:
            problem = self._begin(time.monotonic() + FORWARD_SECONDS)
        except BaseException:
            self._end()
            raise
        if problem:
            self._end()
            raise Failure(f"{' '.join(self._command)}: {problem}", EXIT_UNAVAILABLE)
        return self

    def __exit__(self, *_: object) -> None:
        self._end()

    def port(self, name: str) -> int:
        """Port on this machine."""
        return self._here[self._there[name]]

    def _begin(self, deadline: float) -> str:
        """Start it and wait until all ports are open; what was wrong."""
        pairs = [f"{self._here.get(port, '')}:{port}" for port in self._there.values()]
        # In a group of its own: Ctrl-C at the terminal is for the program first.
        self._process = subprocess.Popen(
            (*self._command, *pairs),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        seen: dict[int, int] = {}
        said = []
        for line in _lines(self._process, deadline):
            said.append(line)
            match = _FORWARDING.match(line)
            if match:
                seen[int(match[2])] = int(match[1])
            if len(seen) == len(self._there):
                self._here = seen
                return ""
        return " ".join(said) or f"nothing was forwarded within {FORWARD_SECONDS:g} s"

    def keep(self, wanted: Callable[[], bool]) -> None:
        """Keep it open while it is wanted."""
        while wanted():
            if self._process is None:
                problem = self._begin(time.monotonic() + FORWARD_SECONDS)
                if problem:
                    self._end()
                    click.echo(f"ganglion connect: {problem}; trying again", err=True)
                    select.select([], [], [], AGAIN_SECONDS)
                continue
            assert self._process.stdout is not None
            # It writes a line for each connection: those must not fill the pipe.
            readable, _, _ = select.select([self._process.stdout], [], [], LOOK_SECONDS)
            if readable and not os.read(self._process.stdout.fileno(), 65536):
                click.echo("ganglion connect: the forwarded ports were cut; opening them again", err=True)
                self._end()

    def _end(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(END_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        if process.stdout is not None:
            process.stdout.close()


def _lines(process: subprocess.Popen[str], deadline: float) -> Iterator[str]:
    assert process.stdout is not None
    buffer = b""
    while (left := deadline - time.monotonic()) > 0:
        readable, _, _ = select.select([process.stdout], [], [], left)
        if not readable:
            return
        data = os.read(process.stdout.fileno(), 65536)
        if not data:
            return
        buffer += data
        *lines, buffer = buffer.split(b"\n")
        yield from (line.decode(errors="replace") for line in lines)


def _run(command: Sequence[str], variables: Mapping[str, str], forward: _Forward) -> int:
    """Run a program with these variables; its exit code."""
    try:
        child = subprocess.Popen(command, env={**os.environ, **variables})
    except OSError as error:
        raise Failure(f"{command[0]}: {error.strerror}", EXIT_FAILURE) from None
    try:
        forward.keep(lambda: child.poll() is None)
    except KeyboardInterrupt:
        # At a terminal it has heard Ctrl-C itself; a signal to this process alone it has not.
        child.send_signal(signal.SIGINT)
        with contextlib.suppress(subprocess.TimeoutExpired):
            forward_until = time.monotonic() + END_SECONDS
            forward.keep(lambda: child.poll() is None and time.monotonic() < forward_until)
    finally:
        if child.poll() is None:
            child.terminate()
            try:
                child.wait(END_SECONDS)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()
    return child.returncode if child.returncode >= 0 else 128 - child.returncode
