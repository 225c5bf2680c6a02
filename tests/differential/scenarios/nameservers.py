"""Name servers: what they list, addresses, several of them, shutting down."""

# Written as users write: without types, on a library that is known at run time only.
# mypy: ignore-errors
from __future__ import annotations

import os
import time

from tests.differential.catalogue import needs
from tests.differential.handlers import receive
from tests.differential.stage import Stage


def an_empty_one(stage: Stage) -> None:
    stage.note("agents", stage.ns.agents())
    stage.note("ping", stage.ns.ping())


def agents_in_the_order_of_registration(stage: Stage) -> None:
    for name in ("zoe", "adam", "mia"):
        stage.agent(name)
    stage.note("agents", stage.ns.agents())


def a_name_twice(stage: Stage) -> None:
    stage.agent("a")
    stage.raises("run_agent", lambda: stage.agent("a"), "already registered")
    stage.note("agents", stage.ns.agents())
    stage.note("the first lives", stage.ns.proxy("a").ping())


def its_address(stage: Stage) -> None:
    address = stage.ns.addr()
    stage.note("address", address)
    stage.note("type", type(address).__name__)
    stage.note("port", 0 < address.port < 65536)


def a_random_port_lies_in_the_range(stage: Stage) -> None:
    stage.note("in the range", 10000 <= stage.ns.addr().port <= 20000)


def the_address_of_an_alias(stage: Stage) -> None:
    (a,) = stage.agents("a")
    address = a.bind("PUSH", alias="out")
    stage.note("equal", stage.ns.addr("a", "out") == address)
    stage.note("twice", stage.ns.addr("a", "out") == a.addr("out"))


def a_chosen_address(stage: Stage) -> None:
    port = stage.ns.addr().port
    stage.ns.shutdown()
    again = stage.wait(lambda: _try(lambda: stage.nameserver(f"127.0.0.1:{port}")), "the port is free")
    stage.note("port", again.addr().port == port)
    stage.note("ping", again.ping())


def a_chosen_port(stage: Stage) -> None:
    port = stage.ns.addr().port
    stage.ns.shutdown()
    again = stage.wait(lambda: _try(lambda: stage.nameserver(stage.m.SocketAddress("127.0.0.1", port))), "the port is free")
    stage.note("port", again.addr().port == port)


def _try(call):
    try:
        return call()
    except RuntimeError:
        return None


def an_address_in_use(stage: Stage) -> None:
    address = stage.ns.addr()
    stage.raises("run_nameserver", lambda: stage.m.run_nameserver(address), "Address already in use")


def the_environment_names_it(stage: Stage) -> None:
    address = stage.ns.addr()
    names = [key for key, value in os.environ.items() if key.endswith("_NAMESERVER_ADDRESS") and value == str(address)]
    stage.note("set", bool(names))


def a_proxy_without_address(stage: Stage) -> None:
    stage.agent("a")
    stage.note("agents", stage.m.NSProxy().agents())


def a_proxy_with_address(stage: Stage) -> None:
    stage.agent("a")
    address = stage.ns.addr()
    stage.note("SocketAddress", stage.m.NSProxy(address).agents())
    stage.note("text", stage.m.NSProxy(nsaddr=f"{address.host}:{address.port}").agents())


def nobody_there(stage: Stage) -> None:
    stage.raises("NSProxy", lambda: stage.m.NSProxy(nsaddr="127.0.0.1:9", timeout=0.2), "Could not locate the name server!")


def run_agent_with_an_address(stage: Stage) -> None:
    address = stage.ns.addr()
    stage.agent("a", nsaddr=address)
    stage.agent("b", nsaddr=str(address))
    stage.note("agents", stage.ns.agents())


def two_name_servers(stage: Stage) -> None:
    first = stage.ns
    a = stage.agent("a", nsaddr=first.addr())
    second = stage.nameserver()
    b = stage.agent("b", nsaddr=second.addr(), attributes={"received": []})
    stage.note("first", first.agents())
    stage.note("second", second.agents())
    a.connect(b.bind("PULL", handler=receive), alias="out")
    a.send("out", "across")
    stage.note("received", stage.wait_count(b, 1))


def the_same_name_at_two_name_servers(stage: Stage) -> None:
    first = stage.ns
    second = stage.nameserver()
    stage.agent("a", nsaddr=first.addr(), attributes={"x": 1})
    stage.agent("a", nsaddr=second.addr(), attributes={"x": 2})
    stage.note("x", [first.proxy("a").get_attr("x"), second.proxy("a").get_attr("x")])


def the_last_one_is_the_default(stage: Stage) -> None:
    first = stage.ns
    second = stage.nameserver()
    stage.agent("a")
    stage.note("first", first.agents())
    stage.note("second", second.agents())


def shutdown_ends_it(stage: Stage) -> None:
    address = stage.ns.addr()
    stage.agents("a", "b")
    stage.ns.shutdown()
    stage.raises("NSProxy", lambda: stage.m.NSProxy(address, timeout=0.3), "Could not locate the name server!")


def shutdown_of_an_empty_one(stage: Stage) -> None:
    address = stage.ns.addr()
    stage.note("answer", stage.ns.shutdown())
    stage.raises("NSProxy", lambda: stage.m.NSProxy(address, timeout=0.3), "Could not locate the name server!")


def shutdown_of_the_agents_only(stage: Stage) -> None:
    stage.agents("a", "b", "c")
    stage.note("answer", stage.ns.shutdown_agents())
    stage.note("agents", stage.ns.agents())
    stage.note("ping", stage.ns.ping())
    stage.note("names are free", stage.agent("a").ping())


def shutdown_includes_stopped_agents(stage: Stage) -> None:
    a, _b = stage.agents("a", "b")
    a.stop()
    stage.wait_stopped(a)
    stage.ns.shutdown_agents()
    stage.note("agents", stage.ns.agents())


def shutdown_includes_failed_agents(stage: Stage) -> None:
    a, _b = stage.agents("a", "b")
    stage.raises("call", a.raise_exception, "User raised")
    stage.ns.shutdown_agents()
    stage.note("agents", stage.ns.agents())


def shutdown_with_a_blocked_agent(stage: Stage) -> None:
    a, _b = stage.agents("a", "b")
    a.bind("PUSH", alias="out")
    a.unsafe.after(0, "send", "out", "nobody")
    started = time.monotonic()
    stage.ns.shutdown(timeout=3)
    stage.note("within the time", time.monotonic() - started < 4)


def shutdown_runs_an_override(stage: Stage) -> None:
    class Polite(stage.m.Agent):
        def shutdown(self):
            self.send("out", f"{self.name} leaves")
            super().shutdown()

    first = stage.ns
    (witness,) = stage.agents("witness")
    address = witness.bind("PULL", handler=receive)
    second = stage.nameserver()
    for name in ("a", "b"):
        stage.agent(name, base=Polite, nsaddr=second.addr()).connect(address, alias="out")
    second.shutdown()
    stage.note("received", sorted(stage.wait_count(witness, 2)))
    stage.note("the other one", first.agents())


def shutdown_while_messages_flow(stage: Stage) -> None:
    def flow(agent):
        agent.send("out", agent.name)

    a, b = stage.agents("a", "b")
    address = b.bind("PULL", handler=receive)
    a.connect(address, alias="out")
    a.each(0.001, flow)
    stage.wait_count(b, 5)
    stage.ns.shutdown_agents()
    stage.note("agents", stage.ns.agents())


def shutdown_by_another_proxy(stage: Stage) -> None:
    stage.agent("a")
    address = stage.ns.addr()
    stage.m.NSProxy(address).shutdown()
    stage.raises("NSProxy", lambda: stage.m.NSProxy(address, timeout=0.3), "Could not locate the name server!")


def shutdown_in_the_order_sink_first(stage: Stage) -> None:
    source, sink = stage.agents("source", "sink")
    source.connect(sink.bind("PULL", handler=receive), alias="out")
    source.send("out", 1)
    stage.wait_count(sink, 1)
    sink.shutdown()
    stage.wait_gone("sink")
    source.send("out", 2)
    stage.note("the source answers", source.ping())
    source.shutdown()
    stage.wait_gone("source")
    stage.note("agents", stage.ns.agents())


@needs(seconds=40)
def a_second_life(stage: Stage) -> None:
    for _ in range(3):
        ns = stage.nameserver()
        agent = stage.agent("a", nsaddr=ns.addr())
        stage.note("agents", [ns.agents(), agent.ping()])
        ns.shutdown()


def agents_of_a_class_of_its_own(stage: Stage) -> None:
    class Own(stage.m.NameServer):
        def ping(self):
            return "my own pong"

    ns = stage.nameserver(base=Own)
    stage.note("ping", ns.ping())
    stage.note("agents", [stage.agent("a").ping(), ns.agents()])
