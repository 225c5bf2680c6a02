"""Addresses that other hosts can use: a wildcard is bound, never told."""

from __future__ import annotations

import pytest

from ganglion import NSProxy, Proxy, run_agent, run_nameserver
from ganglion.helper import wait_agent_attr
from tests.support.ports import free_port


@pytest.fixture
def elsewhere(monkeypatch: pytest.MonkeyPatch) -> str:
    """An address of this host that nobody binds by default."""
    monkeypatch.setenv("GANGLION_ADVERTISE_HOST", "127.0.0.9")
    return "127.0.0.9"


def test_what_is_bound_everywhere_is_told_as_one_address(elsewhere: str) -> None:
    ns = run_nameserver("0.0.0.0")
    a, b = run_agent("a", addr="0.0.0.0"), run_agent("b", addr="0.0.0.0", attributes={"received": []})
    record = ns.lookup("a")
    address = b.bind("PULL", handler=lambda agent, message: agent.received.append(message), transport="tcp")
    assert record is not None
    assert {ns.addr().host, address.address.host} == {elsewhere}
    assert record.safe.startswith(f"tcp://{elsewhere}:")
    a.connect(address, alias="out")
    a.send("out", "hello")
    assert wait_agent_attr(b, value=["hello"], timeout=10)
    ns.shutdown()


def test_host_names() -> None:
    where = f"localhost:{free_port()}"
    ns = run_nameserver(where)
    assert str(ns.addr()) == where
    run_agent("a", addr="localhost")
    address = Proxy("a", where).bind("PUSH", transport="tcp")
    assert address.address.host == "localhost"
    NSProxy(where).shutdown()


def test_who_lacks_the_secret_gets_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    ns = run_nameserver()
    own = ns.ping()
    with monkeypatch.context() as other:
        other.setenv("GANGLION_JOIN_SECRET", "x" * 32)
        ns.release()
        with pytest.raises(TimeoutError):
            NSProxy(ns.addr(), timeout=1.0)
        ns.release()
    assert (own, ns.ping()) == ("pong", "pong")
    ns.shutdown()


def test_an_unknown_host_is_told_at_once() -> None:
    with pytest.raises(OSError, match=r"not known|resolution|associated"):
        run_nameserver("no-such-host.invalid:17433")
