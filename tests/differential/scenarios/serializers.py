"""Serializers: on sockets, agents and by environment; what each can carry."""

# Written as users write: without types, on a library that is known at run time only.
# mypy: ignore-errors
from __future__ import annotations

from tests.differential.catalogue import needs
from tests.differential.handlers import double, receive, receive_bytes
from tests.differential.stage import Stage


def _push(stage: Stage, serializer: str, values: list) -> list:
    a, b = stage.agents("a", "b")
    a.connect(b.bind("PULL", handler=receive, serializer=serializer), alias="out")

    def send_all(agent, items):
        for item in items:
            agent.send("out", item)

    a.execute_as_method(send_all, values)
    return stage.wait_count(b, len(values))


PLAIN = [None, True, 1, 2.5, "text", [1, [2]], {"k": [None, "v"]}]


def pickle_plain(stage: Stage) -> None:
    stage.note("received", _push(stage, "pickle", PLAIN))


def json_plain(stage: Stage) -> None:
    stage.note("received", _push(stage, "json", PLAIN))


def dill_plain(stage: Stage) -> None:
    stage.note("received", _push(stage, "dill", PLAIN))


def cloudpickle_plain(stage: Stage) -> None:
    stage.note("received", _push(stage, "cloudpickle", PLAIN))


def pickle_of_python(stage: Stage) -> None:
    stage.note("received", _push(stage, "pickle", [(1, (2,)), {3}, b"\x80", {(1, 2): None}, 1 + 0j == 1]))


def json_turns_tuples_into_lists(stage: Stage) -> None:
    stage.note("received", _push(stage, "json", [(1, (2, 3)), {"t": (4,)}, {5: "number as key"}]))


def json_of_unicode(stage: Stage) -> None:
    stage.note("received", _push(stage, "json", ["ümläut ☃", {"größe": "€"}]))


def json_refuses_sets(stage: Stage) -> None:
    a, b = stage.agents("a", "b")
    a.connect(b.bind("PULL", handler=receive, serializer="json"), alias="out")
    stage.raises("send", lambda: a.send("out", {1, 2}), "set")


def json_refuses_bytes(stage: Stage) -> None:
    a, b = stage.agents("a", "b")
    a.connect(b.bind("PULL", handler=receive, serializer="json"), alias="out")
    stage.raises("send", lambda: a.send("out", b"x"), "bytes")


def pickle_refuses_lambdas(stage: Stage) -> None:
    def tell(agent):
        agent.send("out", lambda: 1)

    a, b = stage.agents("a", "b")
    a.connect(b.bind("PULL", handler=receive, serializer="pickle"), alias="out")

    def refused():
        try:
            a.unsafe.execute_as_method(tell)
        except Exception:  # noqa: BLE001 - pickle has several
            return True
        return False

    stage.note("refused", refused())
    stage.note("running", a.is_running())


def _calls_it(stage: Stage, serializer: str) -> None:
    def call(agent, message):
        agent.received.append(message(20))

    def tell(agent):
        agent.send("out", lambda value: value + 1)

    a, b = stage.agents("a", "b")
    a.connect(b.bind("PULL", handler=call, serializer=serializer), alias="out")
    a.execute_as_method(tell)
    stage.note("received", stage.wait_count(b, 1))


def dill_carries_lambdas(stage: Stage) -> None:
    _calls_it(stage, "dill")


def cloudpickle_carries_lambdas(stage: Stage) -> None:
    _calls_it(stage, "cloudpickle")


def pickle_carries_objects(stage: Stage) -> None:
    from datetime import date, timedelta
    from decimal import Decimal
    from fractions import Fraction

    def read(agent, message):
        agent.received.append([type(item).__name__ for item in message])

    a, b = stage.agents("a", "b")
    a.connect(b.bind("PULL", handler=read, serializer="pickle"), alias="out")
    a.send("out", [date(2020, 2, 3), timedelta(1), Decimal("1.5"), Fraction(1, 3)])
    stage.note("received", stage.wait_count(b, 1))


def raw_carries_bytes(stage: Stage) -> None:
    a, b = stage.agents("a", "b")
    a.connect(b.bind("PULL", handler=receive_bytes, serializer="raw"), alias="out")
    for value in (b"", b"abc", b"\x00\x80\xff"):
        a.send("out", value)
    stage.note("received", stage.wait_count(b, 3))


def raw_gives_bytes(stage: Stage) -> None:
    def kind(agent, message):
        agent.received.append([type(message).__name__, message.decode()])

    a, b = stage.agents("a", "b")
    a.connect(b.bind("PULL", handler=kind, serializer="raw"), alias="out")
    a.send("out", b"abc")
    stage.note("received", stage.wait_count(b, 1))


def raw_refuses_text(stage: Stage) -> None:
    a, b = stage.agents("a", "b")
    a.connect(b.bind("PULL", handler=receive_bytes, serializer="raw"), alias="out")
    stage.raises("send", lambda: a.send("out", "text"))


def raw_refuses_numbers(stage: Stage) -> None:
    a, b = stage.agents("a", "b")
    a.connect(b.bind("PULL", handler=receive_bytes, serializer="raw"), alias="out")
    stage.raises("send", lambda: a.send("out", 5))


def raw_requests(stage: Stage) -> None:
    a, b = stage.agents("a", "b")
    a.connect(b.bind("REP", handler=lambda agent, message: bytes(message) + b"!", serializer="raw"), alias="ask")
    stage.note("reply", bytes(a.send_recv("ask", b"hey")))


def json_requests(stage: Stage) -> None:
    a, b = stage.agents("a", "b")
    a.connect(b.bind("REP", handler=double, serializer="json"), alias="ask")
    stage.note("reply", [a.send_recv("ask", [1, {"a": None}]), a.send_recv("ask", "ü")])


def dill_requests(stage: Stage) -> None:
    a, b = stage.agents("a", "b")
    a.connect(b.bind("REP", handler=lambda agent, message: (message, {1, 2}), serializer="dill"), alias="ask")
    stage.note("reply", a.send_recv("ask", (3, 4)))


def of_an_agent(stage: Stage) -> None:
    a = stage.agent("a", serializer="json")
    (b,) = stage.agents("b")
    address = a.bind("PUSH", alias="out")
    stage.note("serializer", address.serializer)
    b.connect(address, handler=receive)
    a.send("out", (1, 2))
    stage.note("received", stage.wait_count(b, 1))


def of_a_socket_before_the_agents(stage: Stage) -> None:
    a = stage.agent("a", serializer="json")
    stage.note("serializer", a.bind("PUSH", alias="out", serializer="raw").serializer)


def the_server_decides(stage: Stage) -> None:
    a = stage.agent("a", serializer="json")
    b = stage.agent("b", serializer="pickle", attributes={"received": []})
    client = a.connect(b.bind("PULL", handler=receive), alias="out")
    stage.note("client", client.serializer)
    a.send("out", (1, 2))
    stage.note("received", stage.wait_count(b, 1))


def mixed_in_one_agent(stage: Stage) -> None:
    a, b = stage.agents("a", "b")
    for serializer in ("json", "pickle", "dill"):
        a.connect(b.bind("PULL", handler=receive, serializer=serializer), alias=serializer)
        a.send(serializer, (1, 2))
        stage.wait(a.ping)
    stage.note("received", sorted(map(str, stage.wait_count(b, 3))))


@needs(DEFAULT_SERIALIZER="json")
def by_environment(stage: Stage) -> None:
    (a,) = stage.agents("a")
    stage.note("serializer", [stage.m.config["SERIALIZER"], a.bind("PUSH", alias="out").serializer])


@needs(DEFAULT_TRANSPORT="tcp")
def transport_by_environment(stage: Stage) -> None:
    (a,) = stage.agents("a")
    stage.note("transport", [stage.m.config["TRANSPORT"], a.bind("PUSH", alias="out").transport])


def by_configuration(stage: Stage) -> None:
    stage.m.config["SERIALIZER"] = "json"
    (a,) = stage.agents("a")
    stage.note("serializer", a.bind("PUSH", alias="out").serializer)


def the_default_one(stage: Stage) -> None:
    (a,) = stage.agents("a")
    stage.note("serializer", a.bind("PUSH", alias="out").serializer)


def an_unknown_one(stage: Stage) -> None:
    (a,) = stage.agents("a")
    stage.raises("bind", lambda: a.bind("PUSH", alias="out", serializer="smoke"), "smoke")


def an_unknown_one_of_an_agent(stage: Stage) -> None:
    def attempt():
        return stage.agent("a", serializer="smoke").bind("PUSH", alias="out")

    stage.raises("bind", attempt, "smoke")
