"""Proxies: calls, attributes, methods, safe, unsafe, oneway, errors, sharing."""

# Written as users write: without types, on a library that is known at run time only.
# mypy: ignore-errors
from __future__ import annotations

import copy
import math
import pickle

from tests.differential.catalogue import needs
from tests.differential.handlers import receive
from tests.differential.stage import Stage


def arguments_and_results(stage: Stage) -> None:
    class Echo(stage.m.Agent):
        def back(self, *args, **kwargs):
            return [args, kwargs]

    a = stage.agent("a", base=Echo)
    stage.note("none", a.back())
    stage.note("both", a.back(1, "two", three=3, four=[4]))
    stage.note("types", a.back(None, b"\x00", (1, 2), {3}, {"k": (4,)}, 1.5, True))


def results_of_all_kinds(stage: Stage) -> None:
    (a,) = stage.agents("a")
    for value in (None, False, 0, "", b"", [], {}, (1,), {2}, 2**100, -0.5):
        stage.note("value", a.execute_as_function(lambda v: v, value))


def a_large_argument(stage: Stage) -> None:
    (a,) = stage.agents("a")
    stage.note("size", a.execute_as_function(len, b"x" * 5_000_000))
    stage.note("back", len(a.execute_as_function(lambda n: b"y" * n, 3_000_000)))


def set_and_get_attributes(stage: Stage) -> None:
    (a,) = stage.agents("a")
    stage.note("answer", a.set_attr(x=1, y=[2], z={"three": None}))
    stage.note("values", [a.get_attr("x"), a.get_attr("y"), a.get_attr("z")])
    a.set_attr(x="changed")
    stage.note("changed", a.get_attr("x"))


def attributes_by_assignment(stage: Stage) -> None:
    (a,) = stage.agents("a")
    a.colour = "red"
    stage.note("attribute", a.colour)
    stage.note("get_attr", a.get_attr("colour"))
    a.colour = "blue"
    stage.note("changed", a.colour)


def attributes_set_by_name_are_readable(stage: Stage) -> None:
    (a,) = stage.agents("a")
    a.set_attr(colour="red")
    stage.note("attribute", a.colour)


def an_attribute_that_another_proxy_set(stage: Stage) -> None:
    (a,) = stage.agents("a")
    other = stage.ns.proxy("a")
    a.set_attr(colour="red")
    stage.note("get_attr", other.get_attr("colour"))
    stage.raises("attribute", lambda: other.colour)


def a_method_that_another_proxy_set(stage: Stage) -> None:
    (a,) = stage.agents("a")
    other = stage.ns.proxy("a")
    a.set_method(seven=lambda agent: 7)
    stage.note("same proxy", a.seven())
    stage.raises("other proxy", lambda: other.seven())  # noqa: PLW0108


def a_proxy_made_later_sees_all_methods(stage: Stage) -> None:
    (a,) = stage.agents("a")
    a.set_method(seven=lambda agent: 7)
    stage.raises("later", lambda: stage.ns.proxy("a").seven())


def set_methods(stage: Stage) -> None:
    def set_x(self, value):
        self.x = value

    def add(self, other):
        return self.x + other

    (a,) = stage.agents("a")
    a.set_method(set_x, plus=add)
    a.set_x(40)
    stage.note("plus", a.plus(2))
    stage.note("x", a.get_attr("x"))


def set_method_answers_with_the_name(stage: Stage) -> None:
    def hello(self):
        return "hi"

    (a,) = stage.agents("a")
    stage.note("named by the function", a.set_method(hello))
    stage.note("named by the keyword", a.set_method(greet=hello))
    stage.note("calls", [a.hello(), a.greet()])


def set_method_replaces(stage: Stage) -> None:
    class Speaker(stage.m.Agent):
        def say(self):
            return "first"

    a = stage.agent("a", base=Speaker)
    stage.note("before", a.say())
    a.set_method(say=lambda agent: "second")
    stage.note("after", a.say())


def set_method_with_state_of_the_caller(stage: Stage) -> None:
    factor = 6
    (a,) = stage.agents("a")
    a.set_method(times=lambda agent, value: value * factor)
    stage.note("times", a.times(7))


def methods_call_each_other(stage: Stage) -> None:
    (a,) = stage.agents("a")
    a.set_method(inner=lambda agent, value: value + 1, outer=lambda agent, value: agent.inner(value) * 2)
    stage.note("outer", a.outer(3))


def execute_as_function(stage: Stage) -> None:
    (a,) = stage.agents("a")
    stage.note("builtin", a.execute_as_function(max, [3, 5, 4]))
    stage.note("library", a.execute_as_function(math.hypot, 3, 4))
    stage.note("lambda", a.execute_as_function(lambda x, y=1: x + y, 2, y=3))


def execute_as_method(stage: Stage) -> None:
    def grow(agent, by, *, twice=False):
        agent.size += by * (2 if twice else 1)
        return [agent.name, agent.size]

    a = stage.agent("a", attributes={"size": 1})
    stage.note("once", a.execute_as_method(grow, 2))
    stage.note("twice", a.execute_as_method(grow, 2, twice=True))
    stage.raises("not installed", lambda: a.grow(1))


def oneway_answers_at_once(stage: Stage) -> None:
    def slow(agent):
        import threading

        threading.Event().wait(0.3)
        agent.received.append("done")
        return "never seen"

    (a,) = stage.agents("a")
    a.set_method(slow)
    stage.note("answer", a.oneway.slow())
    stage.note("at the answer", a.unsafe.get_attr("received"))
    stage.note("later", stage.wait_count(a, 1))


def modifiers_last_for_one_call(stage: Stage) -> None:
    def late(agent):
        agent.received.append(1)
        return "answer"

    (a,) = stage.agents("a")
    a.set_method(late)
    stage.note("oneway", a.oneway.late())
    stage.note("then safe", a.late())
    stage.wait_count(a, 2)
    stage.note("unsafe", a.unsafe.late())
    stage.note("safe", a.safe.late())
    stage.note("count", len(a.get_attr("received")))


def unsafe_answers_while_the_agent_is_busy(stage: Stage) -> None:
    def busy(agent):
        import threading

        agent.started = True
        threading.Event().wait(0.5)
        agent.received.append("busy is over")

    a = stage.agent("a", attributes={"started": False, "received": []})
    a.after(0, busy)
    stage.wait(lambda: a.unsafe.get_attr("started"))
    stage.note("unsafe", [a.unsafe.ping(), a.unsafe.get_attr("received")])
    stage.note("safe waits", [a.ping(), a.get_attr("received")])


def safe_calls_never_overlap(stage: Stage) -> None:
    def enter(agent):
        import threading

        agent.inside += 1
        agent.most = max(agent.most, agent.inside)
        threading.Event().wait(0.01)
        agent.inside -= 1

    import threading

    a = stage.agent("a", attributes={"inside": 0, "most": 0})
    proxies = [stage.ns.proxy("a") for _ in range(4)]
    threads = [threading.Thread(target=proxy.execute_as_method, args=(enter,)) for proxy in proxies]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    stage.note("most", a.get_attr("most"))


def unsafe_by_default(stage: Stage) -> None:
    def busy(agent):
        import threading

        agent.started = True
        threading.Event().wait(0.5)
        agent.received.append("busy is over")

    stage.agent("a", attributes={"started": False, "received": []})
    a = stage.m.Proxy("a", safe=False)
    a.after(0, busy)
    stage.wait(lambda: a.get_attr("started"))
    stage.note("default", [a.ping(), a.get_attr("received")])
    stage.note("safe", [a.safe.ping(), a.get_attr("received")])


@needs(DEFAULT_SAFE="false")
def unsafe_by_environment(stage: Stage) -> None:
    def busy(agent):
        import threading

        agent.started = True
        threading.Event().wait(0.5)
        agent.received.append("busy is over")

    a = stage.agent("a", attributes={"started": False, "received": []})
    stage.note("setting", stage.m.config["SAFE"])
    a.after(0, busy)
    stage.wait(lambda: a.get_attr("started"))
    stage.note("default", [a.ping(), a.get_attr("received")])


def a_proxy_by_name(stage: Stage) -> None:
    (a,) = stage.agents("a")
    a.set_attr(x=3)
    stage.note("x", stage.m.Proxy("a").get_attr("x"))
    stage.note("with the address", stage.m.Proxy("a", nsaddr=stage.ns.addr()).get_attr("x"))


def a_proxy_of_an_unknown_name(stage: Stage) -> None:
    stage.agent("a")
    stage.raises("Proxy", lambda: stage.m.Proxy("nobody", timeout=0.2), "nobody")
    stage.raises("ns.proxy", lambda: stage.ns.proxy("nobody", timeout=0.2), "nobody")


def proxies_are_pickled(stage: Stage) -> None:
    (a,) = stage.agents("a")
    a.set_attr(x=3)
    again = pickle.loads(pickle.dumps(a))
    stage.note("x", again.get_attr("x"))
    again.set_attr(x=4)
    stage.note("seen by the first", a.get_attr("x"))


def proxies_are_copied(stage: Stage) -> None:
    (a,) = stage.agents("a")
    stage.raises("ping", lambda: copy.copy(a).ping())


def a_proxy_as_an_argument(stage: Stage) -> None:
    def ask(agent, other):
        return [agent.name, other.get_attr("name"), other.ping()]

    a, b = stage.agents("a", "b")
    stage.note("answer", a.execute_as_method(ask, b))


def a_proxy_as_an_attribute(stage: Stage) -> None:
    a, b = stage.agents("a", "b")
    a.set_attr(friend=b)
    stage.note("name", a.execute_as_method(lambda agent: agent.friend.get_attr("name")))


def a_proxy_in_a_message(stage: Stage) -> None:
    def ask(agent, message):
        agent.received.append([message[0], message[1].get_attr("name")])

    a, b, c = stage.agents("a", "b", "c")
    a.connect(b.bind("PULL", handler=ask, serializer="pickle"), alias="out")

    def tell(agent, proxy):
        agent.send("out", ["about", proxy])

    a.execute_as_method(tell, c)
    stage.note("received", stage.wait_count(b, 1))


def an_agent_looks_another_one_up(stage: Stage) -> None:
    module = stage.library

    def find(agent, name):
        import importlib

        return importlib.import_module(module).Proxy(name).get_attr("x")

    a, b = stage.agents("a", "b")
    b.set_attr(x=12)
    stage.note("x", a.execute_as_method(find, "b"))


def a_proxy_knows_its_name_server(stage: Stage) -> None:
    (a,) = stage.agents("a")
    stage.note("same", a.nsaddr() == stage.ns.addr())


def release_and_call_again(stage: Stage) -> None:
    (a,) = stage.agents("a")
    a.release()
    stage.note("ping", a.ping())


def as_a_context(stage: Stage) -> None:
    stage.agent("a")
    with stage.m.Proxy("a") as a:
        stage.note("ping", a.ping())


def wait_for_running(stage: Stage) -> None:
    (a,) = stage.agents("a")
    stage.note("itself", a.wait_for_running() is a)


def calls_from_several_threads(stage: Stage) -> None:
    import threading

    stage.agent("a", attributes={"total": 0})
    proxies = [stage.ns.proxy("a") for _ in range(4)]

    def add(agent):
        agent.total += 1

    def work(proxy):
        for _ in range(10):
            proxy.execute_as_method(add)

    threads = [threading.Thread(target=work, args=(proxy,)) for proxy in proxies]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    stage.note("total", stage.ns.proxy("a").get_attr("total"))


def a_handler_set_through_a_proxy_sees_its_methods(stage: Stage) -> None:
    def keep(agent, message):
        agent.store(message)

    a, b = stage.agents("a", "b")
    b.set_method(store=lambda agent, message: receive(agent, ["stored", message]))
    a.connect(b.bind("PULL", handler=keep), alias="out")
    a.send("out", 1)
    stage.note("received", stage.wait_count(b, 1))


def private_methods(stage: Stage) -> None:
    class Shy(stage.m.Agent):
        def _secret(self):
            return "told"

    a = stage.agent("a", base=Shy)
    stage.raises("call", lambda: a._secret())  # noqa: PLW0108
    stage.note("running", a.is_running())


def methods_with_names_that_a_proxy_might_use(stage: Stage) -> None:
    class Plain(stage.m.Agent):
        pass

    names = [
        "of",
        "call",
        "cast",
        "life",
        "record",
        "endpoint",
        "lookup",
        "wait",
        "timeout",
        "retry",
        "reset",
        "resolve",
        "agent",
        "target",
        "make",
    ]
    for name in names:
        setattr(Plain, name, lambda self, *args, name=name: [name, *args])
    a = stage.agent("a", base=Plain)
    stage.note("answers", [getattr(a, name)(1, two) for name, two in zip(names, names, strict=True)])


def attributes_with_names_that_a_proxy_might_use(stage: Stage) -> None:
    names = [
        "of",
        "life",
        "record",
        "endpoint",
        "timeout",
        "agent",
        "target",
        "uri",
        "address",
        "nameserver",
        "host",
        "port",
        "alive",
        "id",
    ]
    a = stage.agent("a", attributes={name: f"my {name}" for name in names})
    stage.note("get_attr", [a.get_attr(name) for name in names])
    a.set_attr(**{name: f"new {name}" for name in names})
    stage.note("dots", [getattr(a, name) for name in names])


def one_attribute_value_for_two_agents(stage: Stage) -> None:
    attributes = {"shared": []}
    a, b = (stage.agent(name, attributes=attributes) for name in "ab")
    a.execute_as_method(lambda agent: agent.shared.append(1))
    stage.note("a", a.get_attr("shared"))
    stage.note("b", b.get_attr("shared"))
    stage.note("here", attributes["shared"])
