"""What runs on the hosts of test_two_hosts: `alpha` has the name server and plays all patterns with the agent of `beta`.

Each prints a word when it is ready for what the test does next, and goes on when it reads a line.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Any

import pytest

from ganglion import Agent, CommunicationError, NSProxy, Proxy, run_agent, run_forwarder, run_logger, run_nameserver
from ganglion.cli import main as ganglion
from ganglion.helper import logger_received, wait_agent_attr
from ganglion.imperative.errors import CallTimeout
from tests.integration.imperative.test_watching import known
from tests.support.wait import wait_for

NAMESERVER = "alpha.example:17500"


class Keeper(Agent):
    def on_init(self) -> None:
        self.received: list[Any] = []

    def keep(self, message: Any) -> None:
        self.received.append(message)

    def double(self, message: Any) -> Any:
        if message is None:
            raise ValueError("nothing to double")
        return message * 2

    def serve(self, message: Any, peer: bytes) -> None:
        self.send("desk", message * 2, topic=peer)

    def gone(self, departure: Any) -> None:
        self.received.append((departure.agent, departure.reason))

    def call_back(self, proxy: Proxy) -> None:
        # It came in a message, and is a proxy to an agent of the other host.
        self.received.append(proxy.unsafe.ping())


def _say(word: str) -> None:
    print(word, flush=True)
    sys.stdin.readline()


def _got(agent: Proxy, expected: list[Any]) -> None:
    assert wait_agent_attr(agent, value=expected, timeout=10), (agent, agent.received, expected)
    agent.set_attr(received=[])


def _sent_until_heard(sender: Proxy, receiver: Proxy, message: Any, **options: Any) -> None:
    def heard() -> bool:
        sender.send("out", message, **options)
        return message in receiver.received

    wait_for(heard, timeout=10, what="a publication")
    for agent in (sender, receiver):
        agent.close_all()
    receiver.set_attr(received=[])


def push_pull(here: Proxy, there: Proxy) -> None:
    here.connect(there.bind("PULL", handler="keep"), alias="out")
    here.send("out", {"n": 1})
    _got(there, [{"n": 1}])


def pull_push(here: Proxy, there: Proxy) -> None:
    address = there.bind("PUSH", alias="out")
    here.connect(address, handler="keep")
    there.send("out", (1, {2}))
    _got(here, [(1, {2})])


def pub_sub(here: Proxy, there: Proxy) -> None:
    there.connect(here.bind("PUB", alias="out"), handler={"news": "keep"})
    _sent_until_heard(here, there, "m", topic="news")


def sub_pub(here: Proxy, there: Proxy) -> None:
    here.connect(there.bind("SUB", handler="keep"), alias="out")
    _sent_until_heard(here, there, "m")


def req_rep(here: Proxy, there: Proxy) -> None:
    here.connect(there.bind("REP", handler="double"), alias="ask")
    assert here.send_recv("ask", 21) == 42
    with pytest.raises(ValueError, match="nothing to double"):
        here.send_recv("ask", None)


def rep_req(here: Proxy, there: Proxy) -> None:
    here.connect(there.bind("REQ", alias="ask"), handler="double")
    assert there.send_recv("ask", 4) == 8


def pair(here: Proxy, there: Proxy) -> None:
    here.connect(there.bind("PAIR", alias="line", handler="keep"), alias="line", handler="keep")
    here.send("line", 1)
    there.send("line", 2)
    _got(there, [1])
    _got(here, [2])


def dealer_router(here: Proxy, there: Proxy) -> None:
    here.connect(there.bind("ROUTER", alias="desk", handler="serve"), alias="line", handler="keep")
    for number in (1, 2, 3):
        here.send("line", number)
    _got(here, [2, 4, 6])


def router_dealer(here: Proxy, there: Proxy) -> None:
    here.connect(there.bind("DEALER", alias="line", handler="keep"), alias="desk", handler="serve")
    there.send("line", 4)
    _got(there, [8])


def codecs(here: Proxy, there: Proxy) -> None:
    for name, message in (("msgpack", [1, b"x"]), ("msgpack+blosc", "x" * 100_000), ("json", {"a": [1]}), ("raw", b"raw"), ("dill", {1})):
        here.connect(there.bind("PULL", handler="keep", serializer=name), alias=name)
        here.send(name, message)
        _got(there, [message])


def async_rep(here: Proxy, there: Proxy) -> None:
    here.connect(there.bind("ASYNC_REP", handler="double"), alias="ask", handler="keep")
    for number in (1, 2, 3):
        here.send("ask", number)
    _got(here, [2, 4, 6])


def sync_pub(here: Proxy, there: Proxy) -> None:
    here.connect(there.bind("SYNC_PUB", alias="out", handler="double"), alias="in", handler="keep")
    _heard_twice(here, there)


def _heard_twice(here: Proxy, there: Proxy) -> None:
    def heard() -> bool:
        there.send("out", "p")
        return "p" in here.received

    wait_for(heard, timeout=10, what="a publication")
    here.send("in", 21, handler="keep")
    wait_for(lambda: 42 in here.received, timeout=10, what="the reply")


def proxies(here: Proxy, there: Proxy) -> None:
    there.set_method(triple=lambda _agent, value: value * 3)
    assert Proxy("b", NAMESERVER).triple(2) == 6
    with pytest.raises(ZeroDivisionError):
        there.execute_as_function(lambda: 1 / 0)
    here.connect(there.bind("PULL", handler="call_back"), alias="out")
    here.send("out", here)
    _got(there, ["pong"])


def futures(here: Proxy, there: Proxy) -> None:
    under_way = [proxy.future.double(number) for proxy in (here, there) for number in range(20)]
    assert [one.result(10) for one in under_way] == [2 * number for number in range(20)] * 2
    with pytest.raises(ValueError, match="nothing to double"):
        there.future.double(None).result(10)


def forwarders(here: Proxy, there: Proxy) -> None:
    hub = run_forwarder("hub", NAMESERVER, addr="alpha.example", transport="tcp")
    there.connect(hub.addr("publishers"), alias="out")
    here.connect(hub.addr("subscribers"), handler={"news": "keep"})
    _sent_until_heard(there, here, "m", topic="news")
    hub.shutdown()


def watches(here: Proxy, there: Proxy) -> None:
    # An agent of this host, seen from the other one, and told why it has gone.
    brief = run_agent("brief", NAMESERVER, addr="alpha.example", transport="tcp")
    there.watch("brief", "gone")
    known(there, "brief")
    brief.kill()
    _got(there, [("brief", "Killed")])
    there.unwatch("brief")


def loggers(here: Proxy, there: Proxy) -> None:
    logger = run_logger("logger", NAMESERVER, addr="alpha.example")
    address = logger.bind("SUB", "remote", {"INFO": "log_handler"}, transport="tcp")
    there.set_logger(address)

    def heard() -> bool:
        there.log_info("from beta")
        return bool(logger_received(logger, "from beta", timeout=0.1))

    wait_for(heard, timeout=10, what="a log message of the other host")
    there.close("_logger")
    logger.shutdown()


PATTERNS: tuple[Callable[[Proxy, Proxy], None], ...] = (
    push_pull,
    pull_push,
    pub_sub,
    sub_pub,
    req_rep,
    rep_req,
    pair,
    dealer_router,
    router_dealer,
    codecs,
    async_rep,
    sync_pub,
    proxies,
    futures,
    forwarders,
    watches,
    loggers,
)


def alpha() -> None:
    ns = run_nameserver(NAMESERVER)
    here = run_agent("a", addr="alpha.example", base=Keeper, transport="tcp")
    _say("up")
    there = ns.proxy("b")
    for pattern in PATTERNS:
        pattern(here, there)
        for agent in (here, there):
            agent.close_all()
            agent.set_attr(received=[])
        print(f"done {pattern.__name__}", flush=True)
    assert ganglion(["stack", "b", "-n", NAMESERVER]) == 0
    _say("cut me off")
    began = time.monotonic()
    with pytest.raises((CallTimeout, CommunicationError)):
        there.within(1.0).ping()
    assert time.monotonic() - began < 3
    wait_for(lambda: ns.agents() == ["a"], timeout=15, what="the name of who vanished to be free")
    _say("plug me in")
    wait_for(lambda: ns.agents() == ["a", "b"], timeout=15, what="the other host to be back")
    assert there.ping() == "pong"
    ns.shutdown()
    print("ended", flush=True)


def beta() -> None:
    agent = run_agent("b", NAMESERVER, addr="beta.example", base=Keeper, transport="tcp")
    assert NSProxy(NAMESERVER).agents() == ["a", "b"]
    assert agent.ping() == "pong"
    _say("up")


if __name__ == "__main__":
    {"alpha": alpha, "beta": beta}[sys.argv[1]]()
