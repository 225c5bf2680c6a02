"""PUSH and PULL: who binds, transports, handlers, order, sizes, distribution."""

# Written as users write: without types, on a library that is known at run time only.
# mypy: ignore-errors
from __future__ import annotations

from tests.differential.catalogue import needs
from tests.differential.handlers import receive
from tests.differential.stage import Stage


def _numbered(stage: Stage, **bind) -> None:
    a, b = stage.agents("a", "b")
    a.connect(b.bind("PULL", handler=receive, **bind), alias="out")
    for number in range(20):
        a.send("out", number)
    stage.note("received", stage.wait_count(b, 20))


def pull_binds(stage: Stage) -> None:
    _numbered(stage)


def pull_binds_tcp(stage: Stage) -> None:
    _numbered(stage, transport="tcp")


def pull_binds_ipc(stage: Stage) -> None:
    _numbered(stage, transport="ipc")


def push_binds(stage: Stage) -> None:
    a, b = stage.agents("a", "b")
    b.connect(a.bind("PUSH", alias="out"), handler=receive)
    for number in range(20):
        a.send("out", number)
    stage.note("received", stage.wait_count(b, 20))


def push_binds_tcp(stage: Stage) -> None:
    a, b = stage.agents("a", "b")
    b.connect(a.bind("PUSH", alias="out", transport="tcp"), handler=receive)
    for number in range(20):
        a.send("out", number)
    stage.note("received", stage.wait_count(b, 20))


def agent_wide_transport(stage: Stage) -> None:
    a, b = stage.agents("a", "b", transport="tcp")
    address = b.bind("PULL", handler=receive)
    stage.note("transport", address.transport)
    a.connect(address, alias="out")
    a.send("out", "by tcp")
    stage.note("received", stage.wait_count(b, 1))


def inproc_within_an_agent(stage: Stage) -> None:
    (a,) = stage.agents("a")
    address = a.bind("PULL", handler=receive, transport="inproc", addr="inside")
    stage.note("address", str(address.address))
    a.connect(address, alias="out")
    a.send("out", "to myself")
    stage.note("received", stage.wait_count(a, 1))


def to_itself_over_tcp(stage: Stage) -> None:
    (a,) = stage.agents("a")
    a.connect(a.bind("PULL", handler=receive, transport="tcp"), alias="out")
    a.send("out", [1, 2])
    stage.note("received", stage.wait_count(a, 1))


def several_pushers(stage: Stage) -> None:
    a, b, c, sink = stage.agents("a", "b", "c", "sink")
    address = sink.bind("PULL", handler=receive)
    for agent in (a, b, c):
        agent.connect(address, alias="out")
    for number in range(5):
        for agent, letter in ((a, "a"), (b, "b"), (c, "c")):
            agent.send("out", f"{letter}{number}")
    got = stage.wait_count(sink, 15)
    stage.note("all", sorted(got))
    stage.note("order of each", [[item for item in got if item[0] == letter] for letter in "abc"])


def round_robin(stage: Stage) -> None:
    source, b, c = stage.agents("source", "b", "c")
    address = source.bind("PUSH", alias="out")
    b.connect(address, handler=receive)
    c.connect(address, handler=receive)
    stage.wait(lambda: (source.send("out", "warm"), b.get_attr("received") and c.get_attr("received"))[1], "both are connected")
    for number in range(20):
        source.send("out", number)

    def numbers(agent):
        return [item for item in agent.get_attr("received") if item != "warm"]

    stage.wait(lambda: len(numbers(b)) + len(numbers(c)) == 20)
    first, second = numbers(b), numbers(c)
    stage.note("sizes", [len(first), len(second)])
    stage.note("alternates", sorted([first, second]))


def one_pusher_to_two_servers(stage: Stage) -> None:
    a, b, c = stage.agents("a", "b", "c")
    a.connect(b.bind("PULL", handler=receive), alias="b")
    a.connect(c.bind("PULL", handler=receive), alias="c")
    a.send("b", 1)
    a.send("c", 2)
    a.send("b", 3)
    stage.note("b", stage.wait_count(b, 2))
    stage.note("c", stage.wait_count(c, 1))


def push_without_alias(stage: Stage) -> None:
    a, b = stage.agents("a", "b")
    client = a.connect(b.bind("PULL", handler=receive))
    a.send(client, "by address")
    stage.note("received", stage.wait_count(b, 1))


def server_address_without_alias(stage: Stage) -> None:
    a, b = stage.agents("a", "b")
    server = a.bind("PUSH")
    b.connect(server, handler=receive)
    a.send(server, "by address")
    stage.note("received", stage.wait_count(b, 1))


def values_of_all_kinds(stage: Stage) -> None:
    a, b = stage.agents("a", "b")
    a.connect(b.bind("PULL", handler=receive), alias="out")
    values = [None, True, 0, -1, 2**40, 1.5, "", "ümläut ☃", b"", b"\x00\x80\xff", [], [1, [2, [3]]], {}, {"a": {"b": [None]}}]
    for value in values:
        a.send("out", value)
    stage.note("received", stage.wait_count(b, len(values)))


def python_values(stage: Stage) -> None:
    a, b = stage.agents("a", "b")
    a.connect(b.bind("PULL", handler=receive, serializer="pickle"), alias="out")
    values = [(1, (2, 3)), {1, 2}, frozenset({3}), complex(1, 2) == 1 + 2j, {(1, 2): 3}, range(3) == range(3), 2**200]
    for value in values:
        a.send("out", value)
    stage.note("received", stage.wait_count(b, len(values)))


def default_serializer_keeps_tuples(stage: Stage) -> None:
    a, b = stage.agents("a", "b")
    a.connect(b.bind("PULL", handler=receive), alias="out")
    a.send("out", (1, (2, 3)))
    stage.note("received", stage.wait_count(b, 1))


def default_serializer_keeps_sets(stage: Stage) -> None:
    a, b = stage.agents("a", "b")
    a.connect(b.bind("PULL", handler=receive), alias="out")
    a.send("out", {1, 2, 3})
    stage.note("received", stage.wait_count(b, 1))


def a_large_message(stage: Stage) -> None:
    def size(agent, message):
        agent.received.append([len(message), message[:2], message[-2:]])

    def blow(agent):
        agent.send("out", b"ab" + bytes(8_000_000) + b"yz")

    a, b = stage.agents("a", "b")
    a.connect(b.bind("PULL", handler=size), alias="out")
    a.execute_as_method(blow)
    stage.note("received", stage.wait_count(b, 1))


def a_large_message_over_tcp(stage: Stage) -> None:
    def size(agent, message):
        agent.received.append(len(message))

    def blow(agent):
        agent.send("out", "x" * 20_000_000)

    a, b = stage.agents("a", "b")
    a.connect(b.bind("PULL", handler=size, transport="tcp"), alias="out")
    a.execute_as_method(blow)
    stage.note("received", stage.wait_count(b, 1))


def many_messages_in_order(stage: Stage) -> None:
    def count(agent, message):
        agent.in_order = agent.in_order and message == agent.seen
        agent.seen += 1

    def flood(agent):
        for number in range(20_000):
            agent.send("out", number)

    (a,) = stage.agents("a")
    b = stage.agent("b", attributes={"seen": 0, "in_order": True})
    a.connect(b.bind("PULL", handler=count), alias="out")
    a.execute_as_method(flood)
    stage.wait(lambda: b.get_attr("seen") == 20_000)
    stage.note("in order", b.get_attr("in_order"))


def push_waits_for_its_first_peer(stage: Stage) -> None:
    a, b = stage.agents("a", "b")
    address = a.bind("PUSH", alias="out")
    a.after(0, "send", "out", "early")
    b.connect(address, handler=receive)
    stage.note("received", stage.wait_count(b, 1))
    stage.note("answers again", a.ping())


def an_agent_with_a_blocked_push_still_answers_unsafely(stage: Stage) -> None:
    a, b = stage.agents("a", "b")
    address = a.bind("PUSH", alias="out")
    a.unsafe.after(0, "send", "out", 1)
    stage.note("unsafe", a.unsafe.ping())
    b.connect(address, handler=receive)
    stage.note("received", stage.wait_count(b, 1))


def send_in_before_loop_reaches_a_later_peer(stage: Stage) -> None:
    class Early(stage.m.Agent):
        def on_init(self):
            self.bind("PUSH", alias="out")

        def before_loop(self):
            self.after(0, "send", "out", "hello")

    a = stage.agent("a", base=Early)
    (b,) = stage.agents("b")
    b.connect(a.unsafe.addr("out"), handler=receive)
    stage.note("received", stage.wait_count(b, 1))


def sending_to_an_unknown_alias(stage: Stage) -> None:
    (a,) = stage.agents("a")
    stage.raises("send", lambda: a.send("nowhere", 1), "nowhere")


@needs(seconds=40)
def a_ring_of_agents(stage: Stage) -> None:
    def pass_on(agent, message):
        agent.received.append(message)
        if message < 20:
            agent.send("next", message + 1)

    ring = stage.agents(*"abcde")
    addresses = [agent.bind("PULL", handler=pass_on) for agent in ring]
    for agent, address in zip(ring, [*addresses[1:], addresses[0]], strict=True):
        agent.connect(address, alias="next")
    ring[-1].send("next", 0)
    stage.wait(lambda: ring[0].get_attr("received")[-1:] == [20])
    stage.note("received", [agent.get_attr("received") for agent in ring])
