"""The domain that a program runs in: in the pod of an Agent it asks the sidecar how to make agents of its own."""

from __future__ import annotations

import os
import socket
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import msgspec
import zmq

from ganglion.imperative.errors import AdHocForbidden, CommunicationError
from ganglion.runtime.sockets import ipc_endpoint, make_context, make_ipc_socket
from ganglion.wire.control import AdHoc, AskAdHoc, decode, encode

VARIABLE = "GANGLION_DOMAIN"
"""`namespace/name` of the NameServer; set in the containers of its Agents."""
ASK_SECONDS = 30.0
"""The sidecar answers when it has joined."""


@dataclass(frozen=True, slots=True)
class Membership:
    """What a program of a domain needs.

    Attributes:
        domain: `namespace/name` of the NameServer.
        nameserver: host:port of the directory of ad-hoc agents.
        host: address of this pod.
        secret: see `ganglion.imperative.secret`.
        remote_code: whether peers may send code.
    """

    domain: str
    nameserver: str
    host: str
    secret: str = field(repr=False)
    remote_code: Literal["Forbidden", "Signed", "Trusted"]


_lock = threading.Lock()
_known: dict[int, Membership] = {}
"""By process id: a fork asks again."""


def domain() -> str:
    """The domain that this process belongs to; empty on a bare machine."""
    return os.environ.get(VARIABLE, "")


def membership() -> Membership | None:
    """What the sidecar says; None outside of a domain. Asked once per process.

    Raises:
        AdHocForbidden: the NameServer allows no ad-hoc agents.
        CommunicationError: there is no sidecar here, or it did not answer within 30 s.
    """
    name = domain()
    if not name:
        return None
    with _lock:
        found = _known.get(os.getpid())
        if found is None:
            found = _known[os.getpid()] = _ask(name)
        return found


def _ask(name: str) -> Membership:
    run = os.environ.get("GANGLION_RUN_DIR", "")
    path = Path(run) / "control.sock"
    if not run or not path.exists():
        raise CommunicationError(
            f"NameServer {name}: {path} is missing; agents can be made in the containers of an Agent, beside its sidecar"
        )
    answer = _exchange(path)
    if answer is None:
        raise CommunicationError(f"NameServer {name}: the sidecar at {path} did not answer within {ASK_SECONDS:g} s; has it joined?")
    if answer.terms is None:
        raise AdHocForbidden(
            f"NameServer {name}: spec.adHoc is Forbidden, so programs cannot make agents or sockets of their own; set it to Allowed,"
            " or declare the agents and channels"
        )
    try:
        # Once: the address of the Service stays, and a name would be looked up again with each new connection.
        address = socket.getaddrinfo(answer.name_server, None, type=socket.SOCK_STREAM)[0][4][0]
    except OSError as error:
        raise CommunicationError(f"NameServer {name}: {answer.name_server}: {error}") from error
    host = f"[{address}]" if ":" in str(address) else address
    return Membership(name, f"{host}:{answer.terms.port}", answer.host, answer.terms.secret, answer.terms.remote_code)


def _exchange(path: Path) -> AdHoc | None:
    context = make_context()
    asking = make_ipc_socket(context, zmq.DEALER)
    try:
        asking.connect(ipc_endpoint(path))
        asking.send(encode(AskAdHoc()))
        while asking.poll(int(ASK_SECONDS * 1000)):
            try:
                answer = decode(asking.recv())
            except msgspec.MsgspecError:
                continue
            if isinstance(answer, AdHoc):
                return answer
    finally:
        asking.close(0)
        context.term()
    return None
