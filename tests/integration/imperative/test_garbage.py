"""Garbage at every socket of a real agent and of the name server, from strangers and from who holds the secret: nobody ends, no code runs."""

from __future__ import annotations

import contextlib
import os
import pickle
import random
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import zmq

from ganglion import Agent, DecodeError
from ganglion.helper import wait_agent_attr
from ganglion.imperative import calls, frames
from ganglion.imperative.failures import decode_error
from ganglion.imperative.secret import domain_keys
from ganglion.runtime.sockets import Socket, make_context, make_socket
from tests.integration.imperative.conftest import Stage
from tests.support.wait import wait_for

ROUNDS = 30


class Keeper(Agent):
    def on_init(self) -> None:
        self.received: list[Any] = []

    def keep(self, message: Any) -> None:
        if message == "mark":
            self.received.append(message)

    def echo(self, message: Any) -> Any:
        return message


class Peers:
    """Who hold the secret, but speak no known language."""

    def __init__(self) -> None:
        self.context = make_context()
        self._open: list[Socket] = []

    def connect(self, kind: int, endpoint: str) -> Socket:
        keys = domain_keys()
        made = make_socket(self.context, kind, curve=keys, server_key=keys.public)
        self._open.append(made)
        made.connect(endpoint)
        return made

    def close(self) -> None:
        for one in self._open:
            one.close(0)
        self.context.term()


@pytest.fixture
def peers() -> Iterator[Peers]:
    made = Peers()
    yield made
    made.close()


def _bomb(path: Path) -> bytes:
    """A pickle that makes a folder when it is loaded."""
    return b"cos\nmkdir\n(S'%s'\ntR." % os.fsencode(path)


def _messages(bomb: bytes) -> list[list[bytes]]:
    dice = random.Random(7)
    made = [[b""], [bomb], [b"", b""], [b"", bomb], [bomb, bomb, bomb]]
    for kind in b"CRBKGSX":
        made += [[frames.header(kind, 1, b"\1" * 16), bomb], [frames.header(kind, 1, b"\1" * 16)], [frames.header(kind) + b"x", bomb]]
    made += [[dice.randbytes(dice.randrange(60)) for _ in range(dice.randrange(1, 5))] for _ in range(ROUNDS)]
    return made


def _stranger(endpoint: str) -> None:
    host, _, port = endpoint.removeprefix("tcp://").rpartition(":")
    for start in (b"", b"\xff\0\0\0\0\0\0\0\x01\x7f", b"GET / HTTP/1.1\r\n\r\n", b"\xff" * 64):
        with socket.create_connection((host, int(port)), 5) as made, contextlib.suppress(OSError):
            made.sendall(start + random.Random(1).randbytes(500))


@pytest.mark.parametrize("serializer", ["msgpack", "json", "raw"])
def test_nothing_ends_and_nothing_runs(stage: Stage, peers: Peers, tmp_path: Path, serializer: str) -> None:
    made = tmp_path / "made-by-garbage"
    messages = _messages(_bomb(made))
    agent = stage.agent("a", base=Keeper)
    options = {"transport": "tcp", "serializer": serializer}
    record = stage.ns.lookup("a")
    assert record is not None
    asynchronous, synchronous = agent.bind("ASYNC_REP", handler="echo", **options), agent.bind("SYNC_PUB", "s", "echo", **options)
    targets = [
        (zmq.DEALER, record.control),
        (zmq.DEALER, record.safe),
        (zmq.DEALER, f"tcp://{stage.ns.addr()}"),
        (zmq.PUSH, agent.bind("PULL", handler="keep", **options).endpoint),
        (zmq.PUB, agent.bind("SUB", handler="keep", **options).endpoint),
        (zmq.DEALER, agent.bind("REP", handler="echo", **options).endpoint),
        (zmq.PAIR, agent.bind("PAIR", handler="keep", **options).endpoint),
        (zmq.PUSH, asynchronous.receiver.endpoint),
        (zmq.PUSH, synchronous.receiver.endpoint),
    ]
    for kind, endpoint in targets:
        _stranger(endpoint)
        peer = peers.connect(kind, endpoint)
        assert kind == zmq.PUB or peer.poll(10_000, zmq.POLLOUT)
        for message in messages:
            with contextlib.suppress(zmq.Again):
                peer.send_multipart(message, zmq.NOBLOCK)
    # A publisher learns late that somebody listens.
    publisher = peers.connect(zmq.PUB, targets[4][1])
    until = time.monotonic() + 0.5
    while time.monotonic() < until:
        for message in messages:
            publisher.send_multipart(message)
        publisher.poll(50)
    wait_for(lambda: agent.ping() == "pong", what="the agent")
    assert stage.ns.agents() == ["a"]
    # It works on.
    other = stage.agent("b", base=Keeper)
    other.connect(agent.bind("PULL", handler="keep"), alias="out")
    other.send("out", "mark")
    assert wait_agent_attr(agent, value=["mark"], timeout=10)
    assert not made.exists()


class Shy(Keeper):
    def _secret(self) -> str:
        return "told"


@pytest.mark.parametrize("method", ["_secret", "__class__", "__dir__", "_core"])
def test_a_peer_does_not_call_what_is_the_agents_own(stage: Stage, method: str) -> None:
    # Not by a proxy, which would refuse it itself.
    agent = stage.agent("a", base=Shy)
    record = stage.ns.lookup("a")
    assert record is not None
    for endpoint in (record.safe, record.control, f"tcp://{stage.ns.addr()}"):
        with pytest.raises(AttributeError, match=f"{method}: names with a leading underscore are the agent's own"):
            calls.call(endpoint, method, timeout=10)
    assert agent.echo(1) == 1


@pytest.mark.parametrize(
    "body", [([1], (), {}), ("echo", range(1 << 60), {}), ("echo", (), [("message", 1)])], ids=["name", "range", "pairs"]
)
def test_what_is_no_call_is_not_made_one(stage: Stage, peers: Peers, body: Any) -> None:
    agent = stage.agent("a", base=Keeper)
    record = stage.ns.lookup("a")
    assert record is not None
    peer = peers.connect(zmq.DEALER, record.safe)
    peer.send_multipart([frames.header(frames.CALL, 1), pickle.dumps(body)])
    assert peer.poll(10_000)
    head, reply = peer.recv_multipart()
    assert frames.read_header(head)[:3] == (frames.REPLY, frames.FAILED, 1)
    assert isinstance(decode_error(reply), DecodeError)
    assert agent.echo(1) == 1


def test_what_is_too_large_to_show_is_not_shown(stage: Stage) -> None:
    agent = stage.agent("a", base=Keeper)
    laughs: list[Any] = ["ha"]
    for _ in range(60):
        laughs = [laughs, laughs]
    with pytest.raises(TypeError, match="args: 2, too large to show, and 0 by name"):
        agent.within(10).echo(laughs, 1)


def test_the_bomb_works(tmp_path: Path) -> None:
    pickle.loads(_bomb(tmp_path / "x"))
    assert (tmp_path / "x").is_dir()
