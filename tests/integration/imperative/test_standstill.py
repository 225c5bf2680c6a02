"""Name servers and agents that stand still, calls that fail half-way."""

from __future__ import annotations

import os
import signal
import tempfile
import time
from pathlib import Path
from typing import Any

import pytest

from ganglion import NameServer, run_agent, run_nameserver
from ganglion.imperative import host as hosts
from ganglion.imperative.settings import config
from tests.integration.imperative.conftest import Stage
from tests.support.wait import wait_for


def pid_of(agent: Any) -> int:
    return os.getpid()


class Telling(NameServer):
    """Tells its process."""

    def pid(self) -> int:
        return os.getpid()


def test_a_name_server_that_stands_still_does_not_hold_up_a_shutdown() -> None:
    ns = run_nameserver(base=Telling)
    pid = int(ns.pid())
    os.kill(pid, signal.SIGSTOP)
    try:
        start = time.monotonic()
        with pytest.raises(TimeoutError):
            ns.shutdown(timeout=1)
        assert time.monotonic() - start < 6
    finally:
        os.kill(pid, signal.SIGCONT)
    ns.shutdown()


def test_a_mode_is_for_one_call_even_when_it_fails(stage: Stage) -> None:
    agent = stage.agent("a", attributes={"x": 5})
    for mode in ("oneway", "unsafe"):
        with pytest.raises(AttributeError):
            getattr(getattr(agent, mode), "nothing")  # noqa: B009 - a name that the agent lacks
        assert agent.get_attr("x") == 5
        assert agent.ping() == "pong"


def test_an_agent_whose_name_was_taken_says_so_once(capfd: pytest.CaptureFixture[str]) -> None:
    ns = run_nameserver()
    first = run_agent("a")
    pid = first.execute_as_method(pid_of)
    os.kill(pid, signal.SIGSTOP)
    # A beat may still have been on its way.
    wait_for(lambda: ns.remove("a") == 0, what="the name to be free")
    second = run_agent("a")
    os.kill(pid, signal.SIGCONT)
    told = "another agent has taken the name 'a'"
    seen = ""

    def is_told() -> bool:
        nonlocal seen
        seen += capfd.readouterr().err
        return told in seen

    wait_for(is_told, timeout=10, what="the warning")
    beats = second.execute_as_method(pid_of)
    assert beats != pid
    with pytest.raises(TimeoutError):
        # Three beats.
        wait_for(lambda: not is_told() or seen.count(told) > 1, timeout=3)
    os.kill(pid, signal.SIGKILL)
    ns.shutdown()


def test_a_file_that_was_too_young_for_one_look_is_found_by_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    with tempfile.TemporaryDirectory(prefix="gi-", dir="/tmp") as folder:
        monkeypatch.setitem(config, "IPC_DIR", Path(folder))
        ns = run_nameserver()
        agent = run_agent("a")
        pid = agent.execute_as_method(pid_of)
        host = hosts.host()
        loop = host._loop
        assert loop is not None

        def somebody_was_killed_before() -> None:
            if host._sweep is not None:
                host._sweep.cancel()
            host._sweep = loop.call_later(0.8, host._sweep_now)

        loop.call_soon_threadsafe(somebody_was_killed_before)
        address = agent.bind("PULL", alias="in", handler=lambda _agent, _message: None)
        os.kill(pid, signal.SIGKILL)
        wait_for(lambda: not address.address.exists(), timeout=10, what="the file to be removed")
        ns.shutdown()
