"""The address types on their own."""

# Written as users write: without types, on a library that is known at run time only.
# mypy: ignore-errors
from __future__ import annotations

import pickle

from tests.differential.handlers import receive
from tests.differential.stage import Stage


def _address(stage: Stage, **changes):
    fields = {"transport": "tcp", "address": "127.0.0.1:1234", "kind": "PUSH", "role": "server", "serializer": "pickle", **changes}
    return stage.m.AgentAddress(**fields)


def socket_address(stage: Stage) -> None:
    address = stage.m.SocketAddress("127.0.0.1", 1234)
    stage.note("fields", [address.host, address.port])
    stage.note("same text", str(address) == repr(address) == "127.0.0.1:1234")


def socket_addresses_compare(stage: Stage) -> None:
    make = stage.m.SocketAddress
    one = make("127.0.0.1", 1234)
    stage.note(
        "equal", [one == make("127.0.0.1", 1234), one == make("127.0.0.1", 1235), one == make("127.0.0.2", 1234), one == "127.0.0.1:1234"]
    )
    stage.note("hash", hash(one) == hash(make("127.0.0.1", 1234)))
    stage.note("in a set", len({one, make("127.0.0.1", 1234)}))


def a_socket_address_needs_a_number_as_port(stage: Stage) -> None:
    stage.raises("port", lambda: stage.m.SocketAddress("127.0.0.1", "1234"), "port")


def a_socket_address_refuses_nonsense(stage: Stage) -> None:
    stage.raises("host", lambda: stage.m.SocketAddress("no such host", 1234))


def a_socket_address_is_pickled(stage: Stage) -> None:
    address = stage.m.SocketAddress("127.0.0.1", 1234)
    stage.note("equal", pickle.loads(pickle.dumps(address)) == address)


def agent_address(stage: Stage) -> None:
    address = _address(stage)
    stage.note("fields", [address.transport, address.kind, address.role, address.serializer])
    stage.note("socket", [address.address.host, address.address.port, type(address.address).__name__])
    stage.note("text", repr(address) == "AgentAddress(tcp, 127.0.0.1:1234, PUSH, server, pickle)")


def agent_addresses_compare(stage: Stage) -> None:
    one = _address(stage)
    changed = [{"address": "127.0.0.1:1"}, {"kind": "PULL"}, {"role": "client"}, {"serializer": "json"}, {"transport": "ipc"}]
    stage.note("equal", one == _address(stage))
    stage.note("changed", [one == _address(stage, **change) for change in changed])
    stage.note("other type", one == "PUSH")
    stage.note("hash", hash(one) == hash(_address(stage)))


def twins(stage: Stage) -> None:
    for kind in ("REQ", "REP", "PUSH", "PULL", "PUB", "SUB"):
        address = _address(stage, kind=kind)
        twin = address.twin()
        stage.note(kind, [twin.kind, twin.role, twin.serializer, twin.address == address.address, twin.twin() == address])


def unknown_kind(stage: Stage) -> None:
    stage.raises("kind", lambda: _address(stage, kind="NOISE"), "NOISE")


def unknown_role(stage: Stage) -> None:
    stage.raises("role", lambda: _address(stage, role="boss"), "boss")


def unknown_transport(stage: Stage) -> None:
    stage.raises("transport", lambda: _address(stage, transport="pigeon"), "pigeon")


def unknown_serializer(stage: Stage) -> None:
    stage.raises("serializer", lambda: _address(stage, serializer="smoke"), "smoke")


def a_tcp_address_of_nothing(stage: Stage) -> None:
    stage.raises("address", lambda: _address(stage, address=7))


def an_agent_address_is_pickled(stage: Stage) -> None:
    address = _address(stage)
    stage.note("equal", pickle.loads(pickle.dumps(address)) == address)


def an_agent_address_is_a_key(stage: Stage) -> None:
    table = {_address(stage): "found"}
    stage.note("found", table[_address(stage)])


def a_hand_made_address_connects(stage: Stage) -> None:
    a, b = stage.agents("a", "b")
    bound = b.bind("PULL", handler=receive, transport="tcp", serializer="json")
    made = stage.m.AgentAddress("tcp", f"127.0.0.1:{bound.address.port}", "PULL", "server", "json")
    stage.note("equal", made == bound)
    a.connect(made, alias="out")
    a.send("out", [1])
    stage.note("received", stage.wait_count(b, 1))


def kinds_as_types(stage: Stage) -> None:
    kind = stage.part("address").AgentAddressKind
    names = ("REQ", "REP", "PUSH", "PULL", "PUB", "SUB")
    stage.note("twins", [kind(name).twin() for name in names])
    stage.note("need a handler", [kind(name).requires_handler() for name in names])
    stage.raises("unknown", lambda: kind("NOISE"), "NOISE")


def kinds_as_zmq(stage: Stage) -> None:
    kind = stage.part("address").AgentAddressKind
    stage.note("numbers", [int(kind(name).zmq()) for name in ("REQ", "REP", "PUSH", "PULL", "PUB", "SUB")])


def roles_as_types(stage: Stage) -> None:
    role = stage.part("address").AgentAddressRole
    stage.note("twins", [role("server").twin(), role("client").twin()])
    stage.raises("unknown", lambda: role("boss"), "boss")


def serializers_as_types(stage: Stage) -> None:
    serializer = stage.part("address").AgentAddressSerializer
    stage.note("names", [serializer(name) for name in ("raw", "json", "pickle", "dill")])
    stage.raises("unknown", lambda: serializer("smoke"), "smoke")


def transports_as_types(stage: Stage) -> None:
    transport = stage.part("address").AgentAddressTransport
    stage.note("names", [transport(name) for name in ("tcp", "ipc", "inproc")])
    stage.raises("unknown", lambda: transport("pigeon"), "pigeon")


def channel_kinds_as_types(stage: Stage) -> None:
    kind = stage.part("address").AgentChannelKind
    names = ("ASYNC_REP", "ASYNC_REQ", "SYNC_PUB", "SYNC_SUB")
    stage.note("twins", [kind(name).twin() for name in names])
    stage.raises("unknown", lambda: kind("NOISE"), "NOISE")


def channels(stage: Stage) -> None:
    channel = stage.part("address").AgentChannel("ASYNC_REP", receiver=_address(stage, kind="PULL"), sender=None)
    twin = channel.twin()
    stage.note("channel", [channel.kind, channel.receiver.kind, channel.sender, channel.transport, channel.serializer])
    stage.note("twin", [twin.kind, twin.receiver, twin.sender.kind])
    stage.note("equal", [channel == channel, channel == twin])  # noqa: PLR0124


def to_host_and_port(stage: Stage) -> None:
    convert = stage.part("address").address_to_host_port
    stage.note("none", convert(None))
    stage.note("host", convert("127.0.0.1"))
    stage.note("both", [convert("127.0.0.1:8080")[0], convert("127.0.0.1:8080")[1]])
    stage.note("SocketAddress", convert(stage.m.SocketAddress("127.0.0.1", 8080))[1])
    stage.raises("number", lambda: convert(1.5))
