"""PUB and SUB: topics, handlers per topic, subscriptions at run time."""

# Written as users write: without types, on a library that is known at run time only.
# mypy: ignore-errors
from __future__ import annotations

from tests.differential.handlers import receive, receive_bytes, receive_topic
from tests.differential.stage import Stage


def everything(stage: Stage) -> None:
    a, b = stage.agents("a", "b")
    b.connect(a.bind("PUB", alias="out"), handler=receive)
    stage.warm(a, "out", b)
    for number in range(10):
        a.send("out", number)
    stage.note("received", stage.wait_count(b, 10))


def everything_over_tcp(stage: Stage) -> None:
    a, b = stage.agents("a", "b")
    b.connect(a.bind("PUB", alias="out", transport="tcp"), handler=receive)
    stage.warm(a, "out", b)
    for number in range(10):
        a.send("out", number, topic=f"t{number}")
    stage.note("received", stage.wait_count(b, 10))


def one_topic(stage: Stage) -> None:
    a, b = stage.agents("a", "b")
    b.connect(a.bind("PUB", alias="out"), handler={"yes": receive})
    stage.warm(a, "out", b, topic="yes")
    for topic in ("no", "yes", "", "y", "ye", "no", "yes"):
        a.send("out", f"to {topic}", topic=topic)
    stage.note("received", stage.wait_count(b, 2))


def a_topic_is_a_prefix(stage: Stage) -> None:
    a, b = stage.agents("a", "b")
    b.connect(a.bind("PUB", alias="out"), handler={"news": receive})
    stage.warm(a, "out", b, topic="news")
    for topic in ("news.sport", "new", "newsletter", "weather", "news"):
        a.send("out", topic, topic=topic)
    stage.note("received", stage.wait_count(b, 3))


def the_handler_gets_the_subscribed_topic(stage: Stage) -> None:
    a, b = stage.agents("a", "b")
    b.connect(a.bind("PUB", alias="out"), handler={"fo": receive_topic})
    stage.warm(a, "out", b, topic="fo")
    a.send("out", 1, topic="foobar")
    a.send("out", 2, topic="fo")
    stage.note("received", stage.wait_count(b, 2))


def the_handler_of_everything_gets_an_empty_topic(stage: Stage) -> None:
    a, b = stage.agents("a", "b")
    b.connect(a.bind("PUB", alias="out"), handler=receive_topic)
    stage.warm(a, "out", b)
    a.send("out", 1, topic="foobar")
    stage.note("received", stage.wait_count(b, 1))


def a_method_with_the_topic(stage: Stage) -> None:
    class Reader(stage.m.Agent):
        def on_init(self):
            self.received = []

        def read(self, message, topic):
            self.received.append([message, topic])

        def skim(self, message):
            self.received.append([message, "skimmed"])

    (a,) = stage.agents("a")
    b = stage.agent("b", base=Reader)
    b.connect(a.bind("PUB", alias="out"), handler={"r": "read", "s": "skim"})
    stage.warm(a, "out", b, topic="r")
    stage.warm(a, "out", b, topic="s")
    a.send("out", 1, topic="r")
    a.send("out", 2, topic="s")
    stage.note("received", stage.wait_count(b, 2))


def topics_as_bytes(stage: Stage) -> None:
    a, b = stage.agents("a", "b")
    b.connect(a.bind("PUB", alias="out"), handler={b"\x00\x01": receive_topic})
    stage.warm(a, "out", b, topic=b"\x00\x01")
    a.send("out", 1, topic=b"\x00\x01\x02")
    a.send("out", 2, topic=b"\x00")
    a.send("out", 3, topic=b"\x00\x01")
    stage.note("received", stage.wait_count(b, 2))


def text_and_bytes_name_the_same_topic(stage: Stage) -> None:
    a, b = stage.agents("a", "b")
    b.connect(a.bind("PUB", alias="out"), handler={"t": receive})
    stage.warm(a, "out", b, topic=b"t")
    a.send("out", 1, topic=b"t")
    a.send("out", 2, topic="t")
    stage.note("received", stage.wait_count(b, 2))


def a_topic_beyond_ascii(stage: Stage) -> None:
    a, b = stage.agents("a", "b")
    b.connect(a.bind("PUB", alias="out"), handler={"größe": receive_topic})
    stage.warm(a, "out", b, topic="größe")
    a.send("out", 1, topic="größe")
    a.send("out", 2, topic="groß")
    a.send("out", 3, topic="größenordnung")
    stage.note("received", stage.wait_count(b, 2))


def a_topic_with_the_byte_80(stage: Stage) -> None:
    def publish(agent, topic):
        agent.send("out", [1], topic=topic)

    a, b = stage.agents("a", "b")
    b.connect(a.bind("PUB", alias="out"), handler={b"t": receive})
    stage.warm(a, "out", b, topic="t")
    a.execute_as_method(publish, b"t\x80x")
    stage.wait(lambda: b.get_attr("received") or not b.is_running())
    stage.note("received", b.get_attr("received"))


def several_subscribers(stage: Stage) -> None:
    a, b, c = stage.agents("a", "b", "c")
    address = a.bind("PUB", alias="out")
    b.connect(address, handler=receive)
    c.connect(address, handler={"c": receive})
    stage.warm(a, "out", c, topic="c")
    stage.warm(a, "out", b)
    for number in range(5):
        a.send("out", number, topic="c" if number % 2 else "d")
    stage.note("b", stage.wait_count(b, 5))
    stage.note("c", [item for item in stage.wait_count(c, 2) if isinstance(item, int)])


def sub_binds_and_publishers_connect(stage: Stage) -> None:
    a, c, b = stage.agents("a", "c", "b")
    address = b.bind("SUB", handler={"a": receive, "c": receive})
    stage.note("kind and role", [address.kind, address.role])
    for agent, topic in ((a, "a"), (c, "c")):
        agent.connect(address, alias="out")
        stage.warm(agent, "out", b, topic=topic)
    a.send("out", 1, topic="a")
    a.send("out", 2, topic="x")
    stage.wait_count(b, 1)
    c.send("out", 3, topic="c")
    stage.note("received", stage.wait_count(b, 2))


def sub_binds_with_one_handler(stage: Stage) -> None:
    a, b = stage.agents("a", "b")
    a.connect(b.bind("SUB", alias="in", handler=receive), alias="out")
    stage.warm(a, "out", b)
    a.send("out", 1, topic="any")
    stage.note("received", stage.wait_count(b, 1))


def sub_needs_a_handler(stage: Stage) -> None:
    (a,) = stage.agents("a")
    stage.raises("bind", lambda: a.bind("SUB"), "This socket requires a handler!")


def connecting_sub_needs_a_handler(stage: Stage) -> None:
    a, b = stage.agents("a", "b")
    address = a.bind("PUB", alias="out")
    stage.raises("connect", lambda: b.connect(address), "This socket requires a handler!")


def publishing_without_subscribers_blocks_nobody(stage: Stage) -> None:
    (a,) = stage.agents("a")
    a.bind("PUB", alias="out")
    for number in range(100):
        a.send("out", number, topic="x")
    stage.note("answers", a.ping())


def a_late_subscriber_misses_what_was_before(stage: Stage) -> None:
    a, b = stage.agents("a", "b")
    address = a.bind("PUB", alias="out")
    a.send("out", "lost")
    b.connect(address, handler=receive)
    stage.warm(a, "out", b)
    a.send("out", "seen")
    stage.note("received", stage.wait_count(b, 1))


def raw_without_topics(stage: Stage) -> None:
    a, b = stage.agents("a", "b")
    b.connect(a.bind("PUB", alias="out", serializer="raw"), handler=receive_bytes)
    stage.wait(lambda: (a.send("out", b"warm"), b.get_attr("received"))[1])
    a.send("out", b"\x00\x80\xff")
    stage.wait(lambda: b"\x00\x80\xff" in b.get_attr("received"))
    stage.note("last", b.get_attr("received")[-1])


def raw_with_a_topic_keeps_it_in_front(stage: Stage) -> None:
    a, b = stage.agents("a", "b")
    b.connect(a.bind("PUB", alias="out", serializer="raw"), handler={"topic": receive_bytes})
    stage.wait(lambda: (a.send("out", b" warm", topic="topic"), b.get_attr("received"))[1])
    a.send("out", b" body", topic="topic")
    stage.wait(lambda: b.get_attr("received")[-1] != b"topic warm" and b.get_attr("received")[-1] != b" warm")
    stage.note("last", b.get_attr("received")[-1])


def json_with_topics(stage: Stage) -> None:
    a, b = stage.agents("a", "b")
    b.connect(a.bind("PUB", alias="out", serializer="json"), handler={"j": receive_topic})
    stage.warm(a, "out", b, topic="j")
    a.send("out", {"a": [1, None, "ü"]}, topic="json")
    stage.note("received", stage.wait_count(b, 1))


def values_of_all_kinds(stage: Stage) -> None:
    a, b = stage.agents("a", "b")
    b.connect(a.bind("PUB", alias="out"), handler={"t": receive})
    stage.warm(a, "out", b, topic="t")
    values = [None, 0, 1.5, "", "ümläut", b"\x80\x80", [], {"a": [1]}]
    for value in values:
        a.send("out", value, topic="t")
    stage.note("received", stage.wait_count(b, len(values)))


def in_order_across_topics(stage: Stage) -> None:
    def flood(agent):
        for number in range(500):
            agent.send("out", number, topic=f"t{number % 7}")

    a, b = stage.agents("a", "b")
    b.connect(a.bind("PUB", alias="out"), handler={f"t{number}": receive for number in range(7)})
    for number in range(7):
        stage.warm(a, "out", b, topic=f"t{number}")
    a.execute_as_method(flood)
    stage.note("received", stage.wait_count(b, 500) == list(range(500)))


def a_large_publication(stage: Stage) -> None:
    def size(agent, message):
        agent.received.append(message if len(message) < 10 else len(message))

    def blow(agent):
        agent.send("out", b"x" * 5_000_000, topic="big")

    a, b = stage.agents("a", "b")
    b.connect(a.bind("PUB", alias="out"), handler={"big": size})
    stage.warm(a, "out", b, topic="big")
    a.execute_as_method(blow)
    stage.note("received", stage.wait_count(b, 1))


def a_failing_handler(stage: Stage) -> None:
    def refuse(agent, message):
        if message == "bad":
            raise ValueError("refused bad")
        agent.received.append(message)

    a, b = stage.agents("a", "b")
    b.connect(a.bind("PUB", alias="out"), handler=refuse)
    stage.warm(a, "out", b)
    a.send("out", "bad")
    stage.wait(lambda: "refused bad" in stage.output(), "the error is written")
    stage.note("publisher runs", a.is_running())
    stage.note("registered", sorted(stage.ns.agents()))
