"""A name server for each test, in both backends."""

from __future__ import annotations

import secrets
import signal
from collections.abc import Iterator
from typing import Any

import pytest

from ganglion import NSProxy, Proxy, run_agent, run_nameserver
from ganglion.imperative import host as hosts
from ganglion.imperative.settings import NAMESERVER_VARIABLES


class Stage:
    """Starts agents with the test's backend."""

    def __init__(self, ns: NSProxy, backend: Any) -> None:
        self.ns = ns
        self.backend = backend

    def agent(self, name: str, **options: Any) -> Proxy:
        return run_agent(name, self.ns.addr(), backend=self.backend, **options)


@pytest.fixture(autouse=True)
def _secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GANGLION_JOIN_SECRET", secrets.token_hex(16))
    for variable in NAMESERVER_VARIABLES:
        # run_nameserver leaves its address there; the next test's programs must not find it.
        monkeypatch.setenv(variable, "")


@pytest.fixture(autouse=True)
def _nobody_stays() -> Iterator[None]:
    """A test that fails may leave agents behind; the interpreter would wait for them at its end."""
    yield
    if hosts._host is None:
        return
    hosts._host.signal_all(signal.SIGKILL)
    for child in hosts._host.alive():
        hosts._host.release(child)


@pytest.fixture(params=["process", "thread"])
def stage(request: pytest.FixtureRequest, _secret: None, _nobody_stays: None) -> Iterator[Stage]:
    ns = run_nameserver(backend=request.param)
    yield Stage(ns, request.param)
    ns.shutdown(timeout=10)
