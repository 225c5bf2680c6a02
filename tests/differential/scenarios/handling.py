"""Handlers of PULL: functions, methods, lists, what is refused, what fails."""

# Written as users write: without types, on a library that is known at run time only.
# mypy: ignore-errors
from __future__ import annotations

from tests.differential.handlers import receive
from tests.differential.stage import Stage


def handler_is_a_lambda(stage: Stage) -> None:
    a, b = stage.agents("a", "b")
    a.connect(b.bind("PULL", handler=lambda agent, message: agent.received.append(message + 1)), alias="out")
    a.send("out", 41)
    stage.note("received", stage.wait_count(b, 1))


def handler_is_a_nested_function(stage: Stage) -> None:
    offset = 100

    def add(agent, message):
        agent.received.append(message + offset)

    a, b = stage.agents("a", "b")
    a.connect(b.bind("PULL", handler=add), alias="out")
    a.send("out", 1)
    stage.note("received", stage.wait_count(b, 1))


def handler_is_a_method_name(stage: Stage) -> None:
    class Collector(stage.m.Agent):
        def collect(self, message):
            self.received.append(["collect", message])

    (b,) = stage.agents("b", base=Collector)
    (a,) = stage.agents("a")
    a.connect(b.bind("PULL", handler="collect"), alias="out")
    a.send("out", "x")
    stage.note("received", stage.wait_count(b, 1))


def handler_is_a_bound_method(stage: Stage) -> None:
    class Collector(stage.m.Agent):
        def on_init(self):
            self.received = []
            self.bind("PULL", alias="in", handler=self.collect)

        def collect(self, message):
            self.received.append(["collect", self.name, message])

    b = stage.agent("b", base=Collector)
    (a,) = stage.agents("a")
    a.connect(b.addr("in"), alias="out")
    a.send("out", "x")
    stage.note("received", stage.wait_count(b, 1))


def handler_overridden_in_a_subclass(stage: Stage) -> None:
    class Base(stage.m.Agent):
        def on_init(self):
            self.received = []
            self.bind("PULL", alias="in", handler=self.collect)

        def collect(self, message):
            self.received.append(["base", message])

    class Derived(Base):
        def collect(self, message):
            super().collect(message)
            self.received.append(["derived", message])

    b = stage.agent("b", base=Derived)
    (a,) = stage.agents("a")
    a.connect(b.addr("in"), alias="out")
    a.send("out", "x")
    stage.note("received", stage.wait_count(b, 2))


def handler_name_set_as_method(stage: Stage) -> None:
    def collect(self, message):
        self.received.append(["set", message])

    (b,) = stage.agents("b")
    b.set_method(collect)
    stage.raises("bind", lambda: b.bind("PULL", handler="collect").kind, "collect")


def several_handlers(stage: Stage) -> None:
    a, b = stage.agents("a", "b")
    handlers = [
        lambda agent, message: agent.received.append(["first", message]),
        lambda agent, message: agent.received.append(["second", message]),
    ]
    a.connect(b.bind("PULL", handler=handlers), alias="out")
    for number in range(3):
        a.send("out", number)
    stage.note("received", stage.wait_count(b, 6))


def a_tuple_of_handlers(stage: Stage) -> None:
    def second(agent, message):
        agent.received.append(["second", message])

    a, b = stage.agents("a", "b")
    a.connect(b.bind("PULL", handler=(receive, second)), alias="out")
    a.send("out", "x")
    stage.note("received", stage.wait_count(b, 2))


def handler_sends_on(stage: Stage) -> None:
    def square(agent, message):
        agent.send("next", message**2)

    a, b, c = stage.agents("a", "b", "c")
    b.connect(c.bind("PULL", handler=receive), alias="next")
    a.connect(b.bind("PULL", handler=square), alias="out")
    for number in range(10):
        a.send("out", number)
    stage.note("received", stage.wait_count(c, 10))


def handler_binds_while_it_runs(stage: Stage) -> None:
    def open_up(agent, message):
        agent.bind("PUSH", alias=message)

    a, b = stage.agents("a", "b")
    a.connect(b.bind("PULL", handler=open_up), alias="out")
    a.send("out", "fresh")
    stage.wait(lambda: b.has_socket("fresh"))
    stage.note("kind", b.addr("fresh").kind)


def backlog_while_the_receiver_is_busy(stage: Stage) -> None:
    def slow_first(agent, message):
        if message == 0:
            agent.elapsed = True
            stage_free(0.3)
        agent.received.append(message)

    def stage_free(seconds):
        import threading

        threading.Event().wait(seconds)

    a, b = stage.agents("a", "b")
    a.connect(b.bind("PULL", handler=slow_first), alias="out")
    for number in range(500):
        a.send("out", number)
    stage.note("received", stage.wait_count(b, 500) == list(range(500)))


def pull_needs_a_handler(stage: Stage) -> None:
    (a,) = stage.agents("a")
    stage.raises("bind", lambda: a.bind("PULL"), "This socket requires a handler!")


def connecting_pull_needs_a_handler(stage: Stage) -> None:
    a, b = stage.agents("a", "b")
    address = a.bind("PUSH", alias="out")
    stage.raises("connect", lambda: b.connect(address), "This socket requires a handler!")


def an_unknown_handler_name(stage: Stage) -> None:
    (a,) = stage.agents("a")
    stage.raises("bind", lambda: a.bind("PULL", handler="missing"), "missing")


def a_handler_of_a_wrong_type(stage: Stage) -> None:
    (a,) = stage.agents("a")
    stage.raises("bind", lambda: a.bind("PULL", handler=3))


def a_failing_handler(stage: Stage) -> None:
    def refuse(agent, message):
        raise ValueError(f"refused {message}")

    a, b = stage.agents("a", "b")
    a.connect(b.bind("PULL", handler=refuse), alias="out")
    a.send("out", "this")
    stage.wait(lambda: "refused this" in stage.output(), "the error is written")
    stage.note("registered", "b" in stage.ns.agents())
    stage.note("sender runs", a.is_running())
    stage.note("attribute", b.get_attr("name"))


def fate_after_a_failing_handler(stage: Stage) -> None:
    def refuse(agent, message):
        raise ValueError("refused")

    a, b = stage.agents("a", "b")
    a.connect(b.bind("PULL", handler=refuse), alias="out")
    a.send("out", "this")
    stage.note_fate(b)
    stage.raises("safe call", b.ping, "Agent must be running")


def handler_changes_attributes(stage: Stage) -> None:
    def add(agent, message):
        agent.total += message
        agent.received.append(agent.total)

    a, b = stage.agents("a", "b", attributes={"total": 10})
    a.connect(b.bind("PULL", handler=add), alias="out")
    for number in (1, 2, 3):
        a.send("out", number)
    stage.note("received", stage.wait_count(b, 3))
    stage.note("total", b.get_attr("total"))


def a_handler_of_no_requests_that_yields(stage: Stage) -> None:
    def receive(agent, message):
        yield message

    (a,) = stage.agents("a")
    stage.raises("bind", lambda: a.bind("PULL", alias="in", handler=receive).kind)
