"""DEALER and ROUTER: messages to one peer among many, and those that a peer sends by itself; either end binds."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
import zmq

from ganglion import Agent, SendTimeout
from ganglion.helper import wait_agent_attr
from ganglion.imperative.errors import UnknownPeer
from tests.integration.imperative.conftest import Stage
from tests.support.wait import wait_for


class Desk(Agent):
    """Notes who said what; answers who says `hello`, at once or later."""

    def on_init(self) -> None:
        self.peers: dict[str, bytes] = {}

    def serve(self, message: Any, peer: bytes) -> None:
        name, text = message
        self.peers[name] = peer
        if text == "hello":
            self.send("desk", f"hello, {name}", topic=peer)

    async def serve_later(self, message: Any, peer: bytes) -> None:
        await asyncio.sleep(0)
        self.serve(message, peer)

    def say(self, name: str, text: str) -> None:
        self.send("desk", text, topic=self.peers[name])


class Guest(Agent):
    def on_init(self) -> None:
        self.heard: list[Any] = []

    def hear(self, message: Any) -> None:
        self.heard.append(message)


@pytest.mark.parametrize(("transport", "handler"), [("tcp", "serve"), ("ipc", "serve_later")])
def test_a_router_answers_and_addresses_each_of_its_peers(stage: Stage, transport: str, handler: str) -> None:
    desk = stage.agent("desk", base=Desk, transport=transport)
    address = desk.bind("ROUTER", alias="desk", handler=handler)
    assert address.kind == "ROUTER"
    guests = [stage.agent(f"guest-{number}", base=Guest) for number in range(3)]
    for number, guest in enumerate(guests):
        guest.connect(address, alias="desk", handler="hear")
        guest.send("desk", (f"guest-{number}", "hello"))
    for number, guest in enumerate(guests):
        assert wait_agent_attr(guest, "heard", data=f"hello, guest-{number}", timeout=10)
    # Many, with no word from the guest between: what comes meanwhile is noticed all the same.
    for number in range(100):
        desk.say("guest-1", number)
        guests[1].send("desk", ("guest-1", number))
    assert wait_agent_attr(guests[1], "heard", length=101, timeout=10)
    assert guests[1].heard[1:] == list(range(100))
    assert [len(guest.get_attr("heard")) for guest in guests] == [1, 101, 1]


def test_a_dealer_binds_and_shares_out_among_routers(stage: Stage) -> None:
    guest = stage.agent("guest", base=Guest)
    address = guest.bind("DEALER", alias="desks", handler="hear")
    desks = [stage.agent(f"desk-{number}", base=Desk) for number in range(2)]
    for desk in desks:
        desk.connect(address, alias="desk", handler="serve")
    # In turn, once both are there.
    wait_for(
        lambda: guest.send("desks", ("guest", "hello")) is None and all(desk.get_attr("peers") for desk in desks),
        what="both to have got one",
    )
    assert wait_agent_attr(guest, "heard", data="hello, guest", timeout=10)
    for number, desk in enumerate(desks):
        desk.say("guest", f"from {number}")
        assert wait_agent_attr(guest, "heard", data=f"from {number}", timeout=10)


def test_a_dealer_without_a_handler_is_polled(stage: Stage) -> None:
    desk, guest = stage.agent("desk", base=Desk), stage.agent("guest")
    guest.connect(desk.bind("ROUTER", alias="desk", handler="serve"), alias="desk")
    assert guest.send_recv("desk", ("guest", "hello")) == "hello, guest"
    desk.say("guest", "more")
    assert guest.recv("desk") == "more"


def test_what_cannot_be_routed_is_named(stage: Stage) -> None:
    desk, guest = stage.agent("desk", base=Desk, transport="ipc"), stage.agent("guest", base=Guest)
    address = desk.bind("ROUTER", alias="desk", handler="serve")
    with pytest.raises(ValueError, match="requires a handler"):
        desk.bind("ROUTER", alias="other")
    with pytest.raises(UnknownPeer, match="peer 00ff is not connected"):
        desk.send("desk", "x", topic=b"\x00\xff")
    for peer in ("guest", b""):
        with pytest.raises(TypeError, match="a ROUTER sends to one peer"):
            desk.send("desk", "x", topic=peer)
    guest.connect(address, alias="desk", handler="hear")
    guest.send("desk", ("guest", "hello"))
    assert wait_agent_attr(guest, "heard", length=1, timeout=10)

    # Frames that are none of ours, and a body of garbage; the next one is taken.
    with zmq.Context() as context, context.socket(zmq.DEALER) as stranger:
        stranger.linger = 1000
        stranger.connect(address.endpoint)
        stranger.send_multipart([b"a", b"b", b"c"])
        stranger.send(b"garbage")
    guest.send("desk", ("guest", "hello"))
    assert wait_agent_attr(guest, "heard", length=2, timeout=10)
    guest.close("desk")

    def gone() -> bool:
        try:
            desk.say("guest", "anybody?")
        except UnknownPeer:
            return True
        return False

    wait_for(gone, what="the peer to be known as gone")


def test_a_peer_that_takes_nothing_blocks_nobody(stage: Stage) -> None:
    desk = stage.agent("desk", base=Desk, transport="ipc")
    address = desk.bind("ROUTER", alias="desk", handler="serve", serializer="msgpack")
    with zmq.Context() as context, context.socket(zmq.DEALER) as sleeper:
        sleeper.linger = 0
        sleeper.rcvhwm = 1
        sleeper.connect(address.endpoint)
        sleeper.send(b"\x92\xa1s\xa1x")
        assert wait_for(lambda: "s" in desk.get_attr("peers"), what="its message")

        def fill(agent: Any) -> str:
            for _ in range(10_000):
                try:
                    agent.say("s", "x" * 10_000)
                except Exception as error:  # noqa: BLE001 - its name is asked for
                    return type(error).__name__
            return "endless"

        assert desk.execute_as_method(fill) == SendTimeout.__name__


def test_a_replier_that_connects_may_reply_before_its_work(stage: Stage) -> None:
    def early(agent: Any, message: Any) -> Any:
        yield "soon"
        agent.set_attr(done=message)

    a, b = stage.agent("a"), stage.agent("b", attributes={"done": None})
    b.connect(a.bind("REQ", alias="ask"), handler=early)
    assert a.send_recv("ask", 1) == "soon"
    assert wait_agent_attr(b, "done", value=1, timeout=10)
