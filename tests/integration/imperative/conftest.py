"""A name server for each test, in both backends."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from typing import Any

import pytest

from ganglion import NSProxy, Proxy, run_agent, run_nameserver


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


@pytest.fixture(params=["process", "thread"])
def stage(request: pytest.FixtureRequest, _secret: None) -> Iterator[Stage]:
    ns = run_nameserver(backend=request.param)
    yield Stage(ns, request.param)
    ns.shutdown(timeout=10)
