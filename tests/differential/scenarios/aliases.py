"""Aliases and addresses of sockets: binding, connecting, closing, linger, what is refused."""

# Written as users write: without types, on a library that is known at run time only.
# mypy: ignore-errors
from __future__ import annotations

import pickle

from tests.differential.catalogue import needs
from tests.differential.handlers import echo, receive
from tests.differential.stage import Stage


def bind_answers_with_the_address(stage: Stage) -> None:
    (a,) = stage.agents("a")
    for kind in ("PUSH", "PUB", "REQ"):
        address = a.bind(kind, alias=kind, serializer="json")
        stage.note(kind, [address.kind, address.role, address.transport, address.serializer, address])
        stage.note("addr", a.addr(kind) == address)


def kinds_with_a_handler(stage: Stage) -> None:
    (a,) = stage.agents("a")
    for kind in ("PULL", "SUB", "REP"):
        address = a.bind(kind, alias=kind, handler=receive)
        stage.note(kind, [address.kind, address.role])


def connect_answers_with_the_twin(stage: Stage) -> None:
    a, b = stage.agents("a", "b")
    address = b.bind("PULL", handler=receive)
    client = a.connect(address, alias="out")
    stage.note("client", [client.kind, client.role, client.serializer == address.serializer, client.transport == address.transport])
    stage.note("twins", [client == address.twin(), client.twin() == address])
    stage.note("addr", a.addr("out") == client)


def an_unknown_kind(stage: Stage) -> None:
    (a,) = stage.agents("a")
    stage.raises("bind", lambda: a.bind("SHOUT", alias="x"), "SHOUT")


def a_lower_case_kind(stage: Stage) -> None:
    (a,) = stage.agents("a")
    stage.raises("bind", lambda: a.bind("push", alias="x"), "push")


def an_unknown_transport(stage: Stage) -> None:
    (a,) = stage.agents("a")
    stage.raises("bind", lambda: a.bind("PUSH", alias="x", transport="pigeon"))


def a_channel_kind_that_only_connects(stage: Stage) -> None:
    (a,) = stage.agents("a")
    stage.raises("bind", lambda: a.bind("SYNC_SUB", alias="x", handler=receive), "SYNC_SUB")


def the_other_channel_kind_that_only_connects(stage: Stage) -> None:
    (a,) = stage.agents("a")
    stage.raises("bind", lambda: a.bind("ASYNC_REQ", alias="x", handler=receive), "ASYNC_REQ")


def connecting_to_a_client_address(stage: Stage) -> None:
    a, b = stage.agents("a", "b")
    client = a.connect(b.bind("PULL", handler=receive), alias="out")
    stage.raises("connect", lambda: b.connect(client, handler=receive), "server address must be provided")


def has_socket(stage: Stage) -> None:
    (a,) = stage.agents("a")
    stage.note("before", a.has_socket("out"))
    address = a.bind("PUSH", alias="out")
    stage.note("bound", [a.has_socket("out"), a.has_socket(address)])
    a.close("out")
    stage.note("closed", [a.has_socket("out"), a.has_socket(address)])


def addr_of_an_unknown_alias(stage: Stage) -> None:
    (a,) = stage.agents("a")
    stage.raises("addr", lambda: a.addr("nope"), "nope")


def fate_after_addr_of_an_unknown_alias(stage: Stage) -> None:
    (a,) = stage.agents("a")
    stage.raises("addr", lambda: a.addr("nope"))
    stage.note_fate(a)


def addr_after_close(stage: Stage) -> None:
    (a,) = stage.agents("a")
    address = a.bind("PUSH", alias="out")
    a.close("out")
    stage.raises("addr", lambda: a.addr("out") == address)


def send_after_close(stage: Stage) -> None:
    (a,) = stage.agents("a")
    a.bind("PUB", alias="out")
    a.close("out")
    stage.raises("send", lambda: a.send("out", 1))


def close_an_unknown_alias(stage: Stage) -> None:
    (a,) = stage.agents("a")
    stage.raises("close", lambda: a.close("nope"), "nope")


def close_twice(stage: Stage) -> None:
    (a,) = stage.agents("a")
    a.bind("PUSH", alias="out")
    stage.note("close", a.close("out"))
    stage.raises("again", lambda: a.close("out"), "out")


def close_then_bind_the_alias_again(stage: Stage) -> None:
    a, b = stage.agents("a", "b")
    first = a.bind("PUSH", alias="out")
    a.close("out")
    second = a.bind("PUSH", alias="out")
    stage.note("another address", first != second)
    b.connect(second, handler=receive)
    a.send("out", "new")
    stage.note("received", stage.wait_count(b, 1))


def close_then_bind_the_same_port(stage: Stage) -> None:
    a, b = stage.agents("a", "b")
    address = a.bind("PUSH", alias="out", transport="tcp")
    a.close("out")
    port = address.address.port
    again = stage.wait(lambda: a.execute_as_method(_bind_or_none, f"127.0.0.1:{port}"), "the port is free")
    stage.note("same", again == address)
    b.connect(again, handler=receive)
    a.send("out", "again")
    stage.note("received", stage.wait_count(b, 1))


def _bind_or_none(agent, addr):
    import zmq

    try:
        return agent.bind("PUSH", alias="out", transport="tcp", addr=addr)
    except zmq.ZMQError:
        return None


def close_leaves_the_peer_alone(stage: Stage) -> None:
    a, b, c = stage.agents("a", "b", "c")
    address = b.bind("PULL", alias="in", handler=receive)
    a.connect(address, alias="out")
    c.connect(address, alias="out")
    a.send("out", "from a")
    stage.wait_count(b, 1)
    a.close("out")
    c.send("out", "from c")
    stage.note("received", stage.wait_count(b, 2))
    stage.note("server", [b.has_socket("in"), a.has_socket("out")])


def close_all(stage: Stage) -> None:
    a, b = stage.agents("a", "b")
    a.bind("PUSH", alias="one")
    a.bind("PUB", alias="two")
    a.connect(b.bind("PULL", alias="in", handler=receive), alias="three")
    stage.note("close_all", a.close_all())
    stage.note("left", [a.has_socket(alias) for alias in ("one", "two", "three")])
    stage.note("proxy works", a.ping())
    stage.note("timers work", isinstance(a.after(0.01, "ping", alias="t"), str))
    stage.note("peer", b.has_socket("in"))


def close_all_of_nothing(stage: Stage) -> None:
    (a,) = stage.agents("a")
    a.close_all()
    stage.note("ping", a.ping())


def bind_after_close_all(stage: Stage) -> None:
    a, b = stage.agents("a", "b")
    a.bind("PUSH", alias="out")
    a.close_all()
    b.connect(a.bind("PUSH", alias="out"), handler=receive)
    a.send("out", 1)
    stage.note("received", stage.wait_count(b, 1))


def an_alias_bound_twice_means_the_newer(stage: Stage) -> None:
    a, b, c = stage.agents("a", "b", "c")
    first = a.bind("PUSH", alias="out")
    second = a.bind("PUSH", alias="out")
    stage.note("addr", [a.addr("out") == first, a.addr("out") == second])
    b.connect(first, handler=receive)
    c.connect(second, handler=receive)
    a.send("out", "to the newer")
    stage.note("c", stage.wait_count(c, 1))
    stage.note("b", b.get_attr("received"))


def an_alias_connected_twice_means_the_newer(stage: Stage) -> None:
    a, b, c = stage.agents("a", "b", "c")
    a.connect(b.bind("PULL", handler=receive), alias="out")
    a.connect(c.bind("PULL", handler=receive), alias="out")
    a.send("out", "to the newer")
    stage.note("c", stage.wait_count(c, 1))
    stage.note("b", b.get_attr("received"))


def two_aliases_of_one_socket(stage: Stage) -> None:
    a, b = stage.agents("a", "b")
    address = b.bind("PULL", handler=receive)
    first = a.connect(address, alias="one")
    second = a.connect(address, alias="two")
    stage.note("equal", first == second)
    a.send("one", 1)
    a.send("two", 2)
    stage.note("received", stage.wait_count(b, 2))


def closing_one_alias_closes_the_others(stage: Stage) -> None:
    a, b = stage.agents("a", "b")
    address = b.bind("PULL", handler=receive)
    a.connect(address, alias="one")
    a.connect(address, alias="two")
    a.close("one")
    stage.note("left", [a.has_socket("one"), a.has_socket("two")])


def connecting_again_with_a_handler(stage: Stage) -> None:
    a, b = stage.agents("a", "b")
    address = a.bind("PUSH", alias="out")
    b.connect(address, alias="one", handler=receive)
    stage.raises("again", lambda: b.connect(address, alias="two", handler=receive))


def a_requester_with_two_aliases(stage: Stage) -> None:
    a, b = stage.agents("a", "b")
    address = b.bind("REP", handler=echo)
    a.connect(address, alias="one")
    a.connect(address, alias="two")
    a.send("one", "sent by one")
    stage.note("received by two", a.recv("two"))


def an_alias_that_is_no_text(stage: Stage) -> None:
    a, b = stage.agents("a", "b")
    a.connect(b.bind("PULL", handler=receive), alias=7)
    a.send(7, "seven")
    stage.note("received", stage.wait_count(b, 1))


def a_chosen_host_and_port(stage: Stage) -> None:
    a, b = stage.agents("a", "b")
    free = a.bind("PUSH", alias="probe", transport="tcp").address.port
    a.close("probe")
    stage.wait(lambda: a.execute_as_method(_bind_or_none, f"127.0.0.1:{free}"), "the port is free")
    stage.note("port", a.addr("out").address.port == free)
    b.connect(a.addr("out"), handler=receive)
    a.send("out", 1)
    stage.note("received", stage.wait_count(b, 1))


def a_chosen_host(stage: Stage) -> None:
    (a,) = stage.agents("a")
    address = a.bind("PUSH", alias="out", transport="tcp", addr="127.0.0.1")
    stage.note("address", [address.address.host, address.address.port > 1023])


def a_port_in_use(stage: Stage) -> None:
    a, b = stage.agents("a", "b")
    address = a.bind("PUSH", alias="out", transport="tcp")
    port = address.address.port
    stage.raises("bind", lambda: b.bind("PUSH", alias="x", transport="tcp", addr=f"127.0.0.1:{port}"), "Address already in use")


def a_chosen_ipc_name(stage: Stage) -> None:
    a, b = stage.agents("a", "b")
    address = b.bind("PULL", alias="in", handler=receive, transport="ipc", addr="letterbox")
    stage.note("name", str(address.address).rpartition("/")[2])
    a.connect(address, alias="out")
    a.send("out", 1)
    stage.note("received", stage.wait_count(b, 1))


def closing_removes_the_ipc_file(stage: Stage) -> None:
    (a,) = stage.agents("a")
    before = stage.socket_files()
    a.bind("PUSH", alias="out", transport="ipc")
    during = stage.socket_files()
    a.close("out")
    stage.note("files", [during - before, stage.socket_files() - before])


def addresses_travel_in_messages(stage: Stage) -> None:
    def meet(agent, address):
        agent.connect(address, alias="back")
        agent.send("back", "we met")

    def invite(agent, address):
        agent.send("out", address)

    a, b = stage.agents("a", "b")
    a.connect(b.bind("PULL", handler=meet, serializer="pickle"), alias="out")
    a.execute_as_method(invite, a.bind("PULL", handler=receive))
    stage.note("received", stage.wait_count(a, 1))


def addresses_are_pickled(stage: Stage) -> None:
    (a,) = stage.agents("a")
    address = a.bind("PUSH", alias="out", transport="tcp")
    again = pickle.loads(pickle.dumps(address))
    stage.note("equal", [again == address, hash(again) == hash(address)])


def addresses_are_attributes(stage: Stage) -> None:
    a, b = stage.agents("a", "b")
    a.set_attr(target=b.bind("PULL", handler=receive))
    a.execute_as_method(lambda agent: (agent.connect(agent.target, alias="out"), agent.send("out", 1))[1])
    stage.note("received", stage.wait_count(b, 1))


# ------------------------------------------------------------ linger


def _lingering(stage: Stage, linger) -> list:
    """Send to an address where nobody is yet, close with `linger`, let it pass, then bind there: who came through?"""
    a, b, c = stage.agents("a", "b", "c")
    address = b.bind("PULL", alias="in", handler=receive, transport="ipc", addr="late")
    b.close("in")
    a.connect(address, alias="out")
    a.send("out", "lingers")
    a.close("out", **linger)
    stage.elapse(0.7)
    b.bind("PULL", alias="in", handler=receive, transport="ipc", addr="late")
    c.connect(address, alias="out")
    c.send("out", "probe")
    # A socket that lingers tries again every 100 ms; the probe's comes through at once. So its neighbour gets a second more.
    stage.wait_count(b, 1)
    if linger.get("linger", 0) in (5, -1):
        stage.wait_count(b, 2)
    else:
        stage.elapse(0.5)
    return sorted(b.get_attr("received"))


def linger_none_at_all(stage: Stage) -> None:
    stage.note("received", _lingering(stage, {"linger": 0}))


def linger_too_short(stage: Stage) -> None:
    stage.note("received", _lingering(stage, {"linger": 0.2}))


def linger_long_enough(stage: Stage) -> None:
    stage.note("received", _lingering(stage, {"linger": 5}))


def linger_for_ever(stage: Stage) -> None:
    stage.note("received", _lingering(stage, {"linger": -1}))


@needs(DEFAULT_LINGER="0.2")
def linger_by_environment_too_short(stage: Stage) -> None:
    stage.note("setting", stage.m.config["LINGER"])
    stage.note("received", _lingering(stage, {}))


def linger_delivers_what_is_queued_for_a_peer(stage: Stage) -> None:
    def flood(agent):
        for number in range(300):
            agent.send("out", number)
        agent.close("out")

    a, b = stage.agents("a", "b")
    a.connect(b.bind("PULL", handler=receive), alias="out")
    a.execute_as_method(flood)
    stage.note("received", stage.wait_count(b, 300) == list(range(300)))


def close_all_takes_a_linger(stage: Stage) -> None:
    def flood(agent):
        for number in range(100):
            agent.send("out", number)
        agent.close_all(linger=2)

    a, b = stage.agents("a", "b")
    a.connect(b.bind("PULL", handler=receive), alias="out")
    a.execute_as_method(flood)
    stage.note("received", stage.wait_count(b, 100) == list(range(100)))


def shutdown_delivers_what_is_queued(stage: Stage) -> None:
    def flood(agent):
        for number in range(300):
            agent.send("out", number)
        agent.shutdown()

    a, b = stage.agents("a", "b")
    a.connect(b.bind("PULL", handler=receive), alias="out")
    a.execute_as_method(flood)
    stage.wait_gone("a")
    stage.note("received", stage.wait_count(b, 300) == list(range(300)))
