"""Subscriptions at run time, and handlers by topic."""

# Written as users write: without types, on a library that is known at run time only.
# mypy: ignore-errors
from __future__ import annotations

from tests.differential.handlers import receive
from tests.differential.stage import Stage


def _first(agent, message):
    agent.first.append(message)


def _second(agent, message):
    agent.second.append(message)


def _two_lists(stage: Stage, name: str = "b"):
    return stage.agent(name, attributes={"received": [], "first": [], "second": []})


def a_handler_for_each_topic(stage: Stage) -> None:
    (a,) = stage.agents("a")
    b = _two_lists(stage)
    b.connect(a.bind("PUB", alias="out"), handler={"one": _first, "two": _second})
    stage.warm(a, "out", b, topic="one", name="first")
    stage.warm(a, "out", b, topic="two", name="second")
    for number in range(3):
        a.send("out", number, topic="one")
        a.send("out", number * 10, topic="two")
        a.send("out", "nobody", topic="three")
    stage.note("second", stage.wait_count(b, 3, "second"))
    stage.note("first", b.get_attr("first"))


def overlapping_topics_fire_each(stage: Stage) -> None:
    (a,) = stage.agents("a")
    b = _two_lists(stage)
    b.connect(a.bind("PUB", alias="out"), handler={"fo": _first, "foo": _second})
    stage.warm(a, "out", b, topic="foo", name="second")
    b.set_attr(first=[])
    a.send("out", 1, topic="foobar")
    a.send("out", 2, topic="fox")
    a.send("out", 3, topic="foo")
    stage.note("second", stage.wait_count(b, 2, "second"))
    stage.note("first", stage.wait_count(b, 3, "first"))


def subscribe_at_run_time(stage: Stage) -> None:
    (a,) = stage.agents("a")
    b = _two_lists(stage)
    b.connect(a.bind("PUB", alias="out"), alias="in", handler={"one": _first})
    stage.warm(a, "out", b, topic="one", name="first")
    a.send("out", "before", topic="two")
    b.subscribe("in", {"two": _second})
    stage.warm(a, "out", b, topic="two", name="second")
    a.send("out", 1, topic="one")
    a.send("out", 2, topic="two")
    stage.note("second", stage.wait_count(b, 1, "second"))
    stage.note("first", b.get_attr("first"))


def subscribe_to_everything_at_run_time(stage: Stage) -> None:
    (a,) = stage.agents("a")
    b = _two_lists(stage)
    b.connect(a.bind("PUB", alias="out"), alias="in", handler={"one": _first})
    stage.warm(a, "out", b, topic="one", name="first")
    b.subscribe("in", _second)
    stage.warm(a, "out", b, topic="two", name="second")
    a.send("out", 1, topic="one")
    a.send("out", 2, topic="two")
    stage.note("second", stage.wait_count(b, 2, "second"))
    stage.note("first", b.get_attr("first"))


def subscribe_again_replaces_the_handler(stage: Stage) -> None:
    (a,) = stage.agents("a")
    b = _two_lists(stage)
    b.connect(a.bind("PUB", alias="out"), alias="in", handler={"one": _first})
    stage.warm(a, "out", b, topic="one", name="first")
    b.subscribe("in", {"one": _second})
    a.send("out", 1, topic="one")
    stage.note("second", stage.wait_count(b, 1, "second"))
    stage.note("first", b.get_attr("first"))


def subscribe_a_bound_socket(stage: Stage) -> None:
    (a,) = stage.agents("a")
    b = _two_lists(stage)
    a.connect(b.bind("SUB", alias="in", handler={"one": _first}), alias="out")
    stage.warm(a, "out", b, topic="one", name="first")
    b.subscribe("in", {"two": _second})
    stage.warm(a, "out", b, topic="two", name="second")
    a.send("out", 1, topic="one")
    a.send("out", 2, topic="two")
    stage.note("second", stage.wait_count(b, 1, "second"))
    stage.note("first", b.get_attr("first"))


def _unsubscribing(stage: Stage, what) -> None:
    (a,) = stage.agents("a")
    b = _two_lists(stage)
    b.connect(a.bind("PUB", alias="out"), alias="in", handler={"one": _first, "two": _second, "end": receive})
    for topic, name in (("one", "first"), ("two", "second"), ("end", "received")):
        stage.warm(a, "out", b, topic=topic, name=name)
    b.unsubscribe("in", what)
    for topic in ("one", "two", "end"):
        a.send("out", topic, topic=topic)
    stage.note("received", stage.wait_count(b, 1))
    stage.note("first", b.get_attr("first"))
    stage.note("second", b.get_attr("second"))


def unsubscribe_one(stage: Stage) -> None:
    _unsubscribing(stage, "one")


def unsubscribe_bytes(stage: Stage) -> None:
    _unsubscribing(stage, b"two")


def unsubscribe_a_list(stage: Stage) -> None:
    _unsubscribing(stage, ["one", "two"])


def unsubscribe_a_tuple(stage: Stage) -> None:
    _unsubscribing(stage, ("two", b"one"))


def unsubscribe_and_subscribe_again(stage: Stage) -> None:
    (a,) = stage.agents("a")
    b = _two_lists(stage)
    b.connect(a.bind("PUB", alias="out"), alias="in", handler={"one": _first})
    stage.warm(a, "out", b, topic="one", name="first")
    b.unsubscribe("in", "one")
    b.subscribe("in", {"one": _second})
    stage.warm(a, "out", b, topic="one", name="second")
    a.send("out", 1, topic="one")
    stage.note("second", stage.wait_count(b, 1, "second"))
    stage.note("first", b.get_attr("first"))


def unsubscribe_from_an_unknown_topic(stage: Stage) -> None:
    a, b = stage.agents("a", "b")
    b.connect(a.bind("PUB", alias="out"), alias="in", handler={"one": receive})
    stage.raises("unsubscribe", lambda: b.unsubscribe("in", "never"))


def unsubscribe_an_unknown_alias(stage: Stage) -> None:
    (b,) = stage.agents("b")
    stage.raises("unsubscribe", lambda: b.unsubscribe("in", "x"), "in")


def subscribe_an_unknown_alias(stage: Stage) -> None:
    (b,) = stage.agents("b")
    stage.raises("subscribe", lambda: b.subscribe("in", receive), "in")


def one_subscriber_of_two_publishers(stage: Stage) -> None:
    a, c = stage.agents("a", "c")
    b = _two_lists(stage)
    b.connect(a.bind("PUB", alias="out"), alias="a", handler={"x": _first})
    b.connect(c.bind("PUB", alias="out"), alias="c", handler={"x": _second})
    stage.warm(a, "out", b, topic="x", name="first")
    stage.warm(c, "out", b, topic="x", name="second")
    a.send("out", 1, topic="x")
    c.send("out", 2, topic="x")
    stage.note("first", stage.wait_count(b, 1, "first"))
    stage.note("second", stage.wait_count(b, 1, "second"))
