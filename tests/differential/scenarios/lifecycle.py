"""An agent's life: hooks, attributes, inheritance, stop, shutdown, kill."""

# Written as users write: without types, on a library that is known at run time only.
# mypy: ignore-errors
from __future__ import annotations

from tests.differential.handlers import receive
from tests.differential.stage import Stage


def order_of_hooks(stage: Stage) -> None:
    class Traced(stage.m.Agent):
        def on_init(self):
            self.trace = [["on_init", self.is_running()]]

        def before_loop(self):
            self.trace.append(["before_loop", self.is_running()])

    a = stage.agent("a", base=Traced)
    stage.note("trace", a.get_attr("trace"))
    stage.note("running", a.is_running())


def idle_runs_when_nothing_comes(stage: Stage) -> None:
    class Idler(stage.m.Agent):
        def on_init(self):
            self.idled = 0

        def idle(self):
            self.idled += 1

    a = stage.agent("a", base=Idler)
    stage.wait(lambda: a.unsafe.get_attr("idled") >= 1, "idle")
    stage.note("running", a.is_running())


def attributes_are_there_in_on_init(stage: Stage) -> None:
    class Curious(stage.m.Agent):
        def on_init(self):
            self.seen = [self.name, self.size]

    a = stage.agent("a", base=Curious, attributes={"size": 7})
    stage.note("seen", a.get_attr("seen"))


def attributes_of_run_agent(stage: Stage) -> None:
    a = stage.agent("a", attributes={"x": 1, "y": [2, {"z": None}]})
    stage.note("x", a.get_attr("x"))
    stage.note("y", a.get_attr("y"))


def an_attribute_that_exists(stage: Stage) -> None:
    stage.raises("name", lambda: stage.agent("a", attributes={"name": "b"}), 'already has "name"')
    stage.note("agents", stage.ns.agents())


def an_attribute_named_like_a_method(stage: Stage) -> None:
    stage.raises("bind", lambda: stage.agent("a", attributes={"bind": 1}), "bind")
    stage.note("agents", stage.ns.agents())


def on_init_fails(stage: Stage) -> None:
    class Broken(stage.m.Agent):
        def on_init(self):
            raise ValueError("not today")

    stage.raises("run_agent", lambda: stage.agent("a", base=Broken), "ValueError", "not today")
    stage.note("agents", stage.ns.agents())
    stage.note("the name is free", stage.agent("a").ping())


def on_init_binds(stage: Stage) -> None:
    class Server(stage.m.Agent):
        def on_init(self):
            self.received = []
            self.bind("PULL", alias="in", handler=receive)
            self.bind("PUB", alias="out")

    b = stage.agent("b", base=Server)
    (a,) = stage.agents("a")
    stage.note("kinds", [b.addr("in").kind, b.addr("out").kind])
    a.connect(b.addr("in"), alias="out")
    a.send("out", 1)
    stage.note("received", stage.wait_count(b, 1))


def before_loop_sends(stage: Stage) -> None:
    class Greeter(stage.m.Agent):
        def before_loop(self):
            self.connect(self.target, alias="out")
            self.send("out", f"hello from {self.name}")

    (b,) = stage.agents("b")
    address = b.bind("PULL", handler=receive)
    stage.agent("a", base=Greeter, attributes={"target": address})
    stage.note("received", stage.wait_count(b, 1))


def two_levels_of_inheritance(stage: Stage) -> None:
    class Base(stage.m.Agent):
        def on_init(self):
            self.trace = ["base"]

        def who(self):
            return "base"

        def common(self):
            return [self.who(), self.trace]

    class Derived(Base):
        def on_init(self):
            super().on_init()
            self.trace.append("derived")

        def who(self):
            return "derived"

    stage.note("base", stage.agent("a", base=Base).common())
    stage.note("derived", stage.agent("b", base=Derived).common())


def class_attributes_and_properties(stage: Stage) -> None:
    class Rich(stage.m.Agent):
        limit = 3

        def on_init(self):
            self.items = [1, 2]

        @property
        def size(self):
            return len(self.items)

        @staticmethod
        def double(value):
            return value * 2

        @classmethod
        def of(cls):
            return cls.limit

    a = stage.agent("a", base=Rich)
    stage.note("class attribute", a.get_attr("limit"))
    stage.note("property", a.get_attr("size"))
    stage.note("static", a.double(21))
    stage.note("class method", a.of())


def a_mixin(stage: Stage) -> None:
    class Counting:
        def count(self):
            self.total += 1
            return self.total

    class Counter(Counting, stage.m.Agent):
        def on_init(self):
            self.total = 0

    a = stage.agent("a", base=Counter)
    stage.note("counts", [a.count(), a.count()])


def an_agent_overrides_ping(stage: Stage) -> None:
    class Loud(stage.m.Agent):
        def ping(self):
            return super().ping() + "!"

    stage.note("ping", stage.agent("a", base=Loud).ping())


def its_name(stage: Stage) -> None:
    stage.note("given", stage.agent("Alice-1.b_c").get_attr("name"))
    stage.note("none", stage.agent().get_attr("name"))
    stage.note("agents", stage.ns.agents())


def stop(stage: Stage) -> None:
    (a,) = stage.agents("a")
    stage.note("answer", a.stop())
    stage.wait_stopped(a)
    stage.note("agents", stage.ns.agents())
    stage.note("running", a.is_running())


def a_stopped_agent_refuses_safe_calls(stage: Stage) -> None:
    (a,) = stage.agents("a")
    a.stop()
    stage.wait_stopped(a)
    stage.raises("ping", a.ping, "Agent must be running to safely execute methods!")
    stage.note("unsafe", a.unsafe.ping())
    stage.note("attribute", a.get_attr("received"))


def a_stopped_agent_keeps_its_sockets(stage: Stage) -> None:
    a, b = stage.agents("a", "b")
    address = b.bind("PULL", alias="in", handler=receive)
    a.connect(address, alias="out")
    b.stop()
    stage.wait_stopped(b)
    a.send("out", "into the queue")
    stage.note("has the socket", b.unsafe.has_socket("in"))
    stage.note("same address", b.unsafe.addr("in") == address)
    stage.note("received", b.get_attr("received"))


def a_stopped_agent_is_killed(stage: Stage) -> None:
    (a,) = stage.agents("a")
    a.stop()
    stage.wait_stopped(a)
    a.oneway.kill()
    stage.wait_gone("a")
    stage.note("agents", stage.ns.agents())


def shutdown(stage: Stage) -> None:
    a, _b = stage.agents("a", "b")
    a.shutdown()
    stage.wait_gone("a")
    stage.note("agents", stage.ns.agents())


def shutdown_unsafe(stage: Stage) -> None:
    a, _b = stage.agents("a", "b")
    a.unsafe.shutdown()
    stage.wait_gone("a")
    stage.note("agents", stage.ns.agents())


def shutdown_oneway(stage: Stage) -> None:
    a, _b = stage.agents("a", "b")
    stage.note("answer", a.oneway.shutdown())
    stage.wait_gone("a")
    stage.note("agents", stage.ns.agents())


def shutdown_after_a_delay(stage: Stage) -> None:
    a, _b = stage.agents("a", "b")
    a.after(0.05, "shutdown")
    stage.wait_gone("a")
    stage.note("agents", stage.ns.agents())


def shutdown_from_a_handler(stage: Stage) -> None:
    def leave(agent, message):
        agent.send("out", f"bye, {message}")
        agent.shutdown()

    a, b, c = stage.agents("a", "b", "c")
    b.connect(c.bind("PULL", handler=receive), alias="out")
    a.connect(b.bind("PULL", handler=leave), alias="to b")
    a.send("to b", "bob")
    stage.wait_gone("b")
    stage.note("received", stage.wait_count(c, 1))
    stage.note("agents", stage.ns.agents())


def shutdown_lets_the_handler_finish(stage: Stage) -> None:
    def slow(agent, message):
        import threading

        agent.started = True
        threading.Event().wait(0.4)
        agent.send("out", "finished")

    a, b, c = stage.agents("a", "b", "c", attributes={"started": False})
    b.connect(c.bind("PULL", handler=receive), alias="out")
    a.connect(b.bind("PULL", handler=slow), alias="to b")
    a.send("to b", 1)
    stage.wait(lambda: b.unsafe.get_attr("started"))
    b.unsafe.shutdown()
    stage.wait_gone("b")
    stage.note("received", stage.wait_count(c, 1))


def the_name_is_free_after_shutdown(stage: Stage) -> None:
    (a,) = stage.agents("a")
    a.set_attr(mine=1)
    a.shutdown()
    stage.wait_gone("a")
    again = stage.agent("a")
    stage.raises("old attribute", lambda: again.get_attr("mine"), "mine")
    stage.note("ping", again.ping())


def kill(stage: Stage) -> None:
    a, _b = stage.agents("a", "b")
    a.oneway.kill()
    stage.wait_gone("a")
    stage.note("agents", stage.ns.agents())


def kill_a_busy_agent(stage: Stage) -> None:
    (a,) = stage.agents("a")
    a.bind("PUSH", alias="out")
    a.unsafe.after(0, "send", "out", "nobody takes it")
    a.oneway.kill()
    stage.wait_gone("a")
    stage.note("agents", stage.ns.agents())


def calling_an_agent_that_has_gone(stage: Stage) -> None:
    (a,) = stage.agents("a")
    a.shutdown()
    stage.wait_gone("a")

    def refused():
        try:
            a.ping()
        except Exception:  # noqa: BLE001 - which error is another scenario's question
            return True
        return False

    stage.wait(refused, "calls are refused")
    stage.note("refused", refused())


def fate_after_an_exception(stage: Stage) -> None:
    (a,) = stage.agents("a")
    stage.raises("call", a.raise_exception, "User raised an exception!")
    stage.note_fate(a)
    stage.note("registered", stage.ns.agents())


def an_exception_leaves_the_attributes_readable(stage: Stage) -> None:
    a = stage.agent("a", attributes={"x": 5})
    stage.raises("call", a.raise_exception, "User raised an exception!")
    stage.note("x", a.get_attr("x"))


def sockets_of_an_agent_that_shut_down_are_removed(stage: Stage) -> None:
    (a,) = stage.agents("a")
    before = stage.socket_files()
    for alias in ("one", "two", "three"):
        a.bind("PUSH", alias=alias, transport="ipc")
    stage.note("three more", stage.socket_files() - before)
    a.shutdown()
    stage.wait_gone("a")
    stage.wait(lambda: stage.socket_files() <= before, "the files are removed")
    stage.note("gone", stage.socket_files() <= before)


def run_agent_with_an_address(stage: Stage) -> None:
    a = stage.agent("a", addr="127.0.0.1")
    address = a.bind("PUSH", transport="tcp")
    stage.note("host", address.address.host)
    stage.note("ping", a.ping())


def many_agents(stage: Stage) -> None:
    names = [f"agent{number}" for number in range(12)]
    for name in names:
        stage.agent(name)
    stage.note("agents", stage.ns.agents())
    stage.note("pings", [stage.ns.proxy(name).ping() for name in names])
