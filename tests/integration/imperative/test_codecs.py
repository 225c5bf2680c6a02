"""Codecs of sockets that programs make, on every pattern; large messages without copies; frames that are not ours."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import pytest
import zmq
from google.protobuf.struct_pb2 import Struct

from ganglion import Agent, UnknownCodec
from ganglion.runtime.arena import ARENAS
from tests.integration.imperative.conftest import Stage
from tests.support.wait import wait_for

BIG = 100_000


class Keeper(Agent):
    def on_init(self) -> None:
        self.received: list[Any] = []
        self.heard = 0

    def hear(self, _message: Any) -> None:
        self.heard += 1

    def keep(self, message: Any) -> None:
        self.received.append(message)

    def serve(self, message: Any, peer: bytes) -> None:
        self.send("router", message, topic=peer)

    def same(self, message: Any) -> Any:
        return message

    def summary(self) -> list[Any]:
        """What arrived, as plain values."""
        return [(type(one).__name__, bytes(one)) for one in self.received]

    def owners(self) -> list[str]:
        """Whose memory each is a view of."""

        def owner(one: Any) -> str:
            if isinstance(one, np.ndarray | memoryview):
                return owner(one.base if isinstance(one, np.ndarray) else one.obj)
            return type(one).__name__

        return [owner(one) for one in self.received]

    def large_seen(self) -> bool:
        return ARENAS.large_seen

    def send_each(self, alias: str, values: list[Any]) -> None:
        for value in values:
            self.send(alias, value, topic="topic")

    def send_all(self, alias: str, size: int, count: int, array: bool) -> None:
        for number in range(count):
            value = np.full(size, number % 256, np.uint8)
            self.send(alias, value if array else value.tobytes(), topic="topic")

    def ask(self, alias: str, value: Any) -> None:
        self.send(alias, value, handler="keep", wait=10)

    def count(self) -> int:
        return len(self.received)


def struct() -> Struct:
    made = Struct()
    made.update({"a": 1, "b": ["x", None]})
    return made


VALUES: dict[str, list[Any]] = {
    "msgpack": [{"a": [1, b"x"]}, "x" * BIG],
    "msgpack+blosc": [{"a": [1, b"x"]}, "x" * BIG],
    "json": [{"a": [1, "x"]}, "x" * BIG],
    "protobuf": [struct(), struct()],
    "raw": [b"x", b"y" * BIG, b"z" * BIG],
    "pickle": [{1, 2}, "x" * BIG],
    "dill": [{1, 2}, "x" * BIG],
}


@pytest.mark.parametrize("name", VALUES)
def test_every_codec_on_every_pattern(stage: Stage, name: str) -> None:
    values = VALUES[name]
    serializer: Any = Struct if name == "protobuf" else name
    server, client = stage.agent("server", base=Keeper), stage.agent("client", base=Keeper)

    # PUSH, PULL
    client.connect(server.bind("PULL", handler="keep", serializer=serializer), alias="push")
    client.send_each("push", values)
    wait_for(lambda: server.count() == len(values), what="what was pushed")
    assert server.get_attr("received") == values
    # REQ, REP
    client.connect(server.bind("REP", handler="same", serializer=serializer), alias="req")
    for value in values:
        assert client.send_recv("req", value) == value
    # PAIR
    server.set_attr(received=[])
    client.connect(server.bind("PAIR", alias="pair", handler="keep", serializer=serializer), alias="pair", handler="keep")
    for sender, receiver in ((client, server), (server, client)):
        sender.send_each("pair", values)
        wait_for(functools.partial(lambda one: one.count() == len(values), receiver), what="what was said to the other of a pair")
        assert receiver.get_attr("received") == values
    # DEALER, ROUTER
    client.set_attr(received=[])
    client.connect(server.bind("ROUTER", alias="router", handler="serve", serializer=serializer), alias="dealer", handler="keep")
    client.send_each("dealer", values)
    wait_for(lambda: client.count() == len(values), what="the router's answers")
    assert client.get_attr("received") == values
    client.set_attr(received=[])
    # PUB, SUB
    server.set_attr(received=[])
    client.connect(server.bind("PUB", alias="pub", serializer=serializer), handler={"topic": "keep"})
    wait_for(lambda: server.send_each("pub", values[:1]) or client.count() > 0, what="a publication")
    wait_for(
        lambda: (
            server.send_each("pub", values[-1:])
            or client.received[-1] in (values[-1], b"topic" + bytes(values[-1] if name == "raw" else b""))
        ),
        what="another",
    )
    # ASYNC_REP
    client.close_all()
    client.set_attr(received=[])
    client.connect(server.bind("ASYNC_REP", handler="same", serializer=serializer), alias="async")
    for value in values:
        client.ask("async", value)
    wait_for(lambda: client.count() == len(values), what="replies")
    assert client.get_attr("received") == values
    # SYNC_PUB
    client.set_attr(received=[])
    client.connect(server.bind("SYNC_PUB", alias="sync", handler="same", serializer=serializer), alias="sync", handler="hear")
    # A reply is published, so its subscription must have arrived; it was made before that of the publications.
    wait_for(lambda: server.send_each("sync", values[:1]) or client.get_attr("heard"), what="a publication")
    for number, value in enumerate(values, 1):
        client.ask("sync", value)
        wait_for(functools.partial(lambda wanted: client.count() == wanted, number), what="a reply")
    assert client.get_attr("received") == values


@pytest.mark.parametrize(("serializer", "array"), [("buffer", False), ("msgpack", True)])
@pytest.mark.parametrize("kind", ["PUSH", "PUB"])
def test_large_messages_arrive_as_views(stage: Stage, serializer: str, array: bool, kind: str) -> None:
    a, b = stage.agent("a", base=Keeper), stage.agent("b", base=Keeper)
    b.connect(a.bind(kind, alias="out", serializer=serializer), handler={"topic": "keep"} if kind == "PUB" else "keep")
    wait_for(lambda: a.send_all("out", 10, 1, array) or b.count() > 0, what="the first")
    b.set_attr(received=[])
    assert stage.backend != "process" or not b.large_seen()
    a.send_all("out", BIG, 40, array)

    def large() -> list[tuple[str, bytes]]:
        # More than one short message may have been on its way when the first came.
        return [one for one in b.summary() if len(one[1]) == BIG]

    wait_for(lambda: len(large()) == 40, what="all")
    # From the second on at the latest: that large ones come must have been seen.
    assert b.owners()[-20:] == ["Frame"] * 20
    # Each is its own: a view of a frame that the next one has overwritten would say something else.
    assert large() == [("ndarray" if array else "memoryview", bytes([n]) * BIG) for n in range(40)]
    assert b.large_seen(), "its memory is kept from now on"
    a.send_all("out", 10, 3, array)
    wait_for(lambda: b.summary()[-1][1] == bytes([2]) * 10, what="short ones again")


def test_an_unknown_codec_is_refused_where_it_is_named(stage: Stage) -> None:
    a = stage.agent("a")
    for wrong in ("yaml", "protobuf:json:nothing", "protobuf:no_such_module:X"):
        with pytest.raises(UnknownCodec, match="must be"):
            a.bind("PUSH", serializer=wrong)
    with pytest.raises(UnknownCodec, match="must be one of"):
        stage.agent("b", serializer="yaml")
    assert stage.ns.agents() == ["a"]


@pytest.mark.parametrize(("serializer", "topic"), [("pickle", "topic"), ("pickle", ""), ("msgpack", "t"), ("raw", "topic")])
def test_frames_that_are_no_publication_are_told_and_skipped(stage: Stage, serializer: str, topic: str) -> None:
    a, b = stage.agent("a", base=Keeper), stage.agent("b", base=Keeper)
    b.set_method(log_error=Keeper.keep)
    address = a.bind("PUB", alias="out", transport="ipc", serializer=serializer)
    b.connect(b.bind("PUB", alias="own", serializer=serializer), handler={topic: "keep"})
    stranger = zmq.Context()
    try:
        # A PUB of somebody else under the same address: the sockets of one user trust each other.
        a.close("out")
        socket = stranger.socket(zmq.PUB)
        socket.linger = 0
        socket.bind(address.endpoint)
        b.connect(address, handler={topic: "keep"})
        good: list[bytes] = [b"topic", b"\x80\x05K\x07." if serializer == "pickle" else b"\x07"]
        value = b"topic\x07" if serializer == "raw" else 7

        def heard(parts: list[bytes], wanted: Any) -> bool:
            socket.send_multipart(parts)
            return wanted in b.get_attr("received")

        wait_for(lambda: heard(good, value), what="a publication")
        for bad in ([b"topic"], [b"topic", good[1], b"more"]):
            b.set_attr(received=[])
            for _ in range(5):
                socket.send_multipart(bad)
            wait_for(lambda: b.count() > 0, what="an error")
            wait_for(lambda: heard(good, value), what="a publication again")
        assert b.ping() == "pong"
    finally:
        stranger.destroy(0)
