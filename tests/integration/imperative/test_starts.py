"""Starts that fail: the reason reaches the caller, and nothing is left."""

from __future__ import annotations

import asyncio
import functools
import os
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from ganglion import Agent, run_agent, run_nameserver
from ganglion.codecs.errors import EncodeError
from ganglion.imperative import calls
from ganglion.imperative import host as hosts
from ganglion.imperative.errors import AgentStartError
from ganglion.local.spawner import Program, Spawner, SpawnerError
from tests.integration.imperative.conftest import Stage
from tests.support.wait import wait_for


class Stuck(Agent):
    """Waits in on_init for a file, and tells who it is."""

    folder = ""

    def on_init(self) -> None:
        Path(self.folder, "pid").write_text(str(os.getpid()))
        wait_for(lambda: Path(self.folder, "go").exists(), timeout=20, what="the file")


class Broken(Agent):
    """Raises in on_init."""

    def on_init(self) -> None:
        raise LookupError("no such luck")


class Shaped(Agent):
    """Members of all kinds."""

    def on_init(self) -> None:
        setattr(self, "hidden", 5)  # noqa: B010 - a method, for mypy

    def hidden(self) -> int:
        return 6

    @functools.cached_property
    def lazy(self) -> int:
        return 7

    @property
    def asked(self) -> int:
        return 8

    @staticmethod
    def fixed() -> int:
        return 9

    wrapped = staticmethod(int)


def _is_alive(pid: int) -> bool:
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False


@pytest.mark.parametrize("backend", ["process", "thread"])
def test_an_agent_that_was_given_up_does_not_appear_later(backend: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ns = run_nameserver()
    base = type("Here", (Stuck,), {"folder": str(tmp_path)})
    monkeypatch.setattr(hosts, "START_SECONDS", 2.0)
    with pytest.raises(AgentStartError, match="2 s"):
        run_agent("late", base=base, backend=backend)
    pid = int((tmp_path / "pid").read_text())
    if backend == "process":
        wait_for(lambda: not _is_alive(pid), what="its process to end")
    else:
        (tmp_path / "go").touch()
        wait_for(lambda: not any(thread.name == "agent-late" for thread in threading.enumerate()), what="its thread to end")
    wait_for(lambda: ns.agents() == [], what="its name to be free")
    ns.shutdown()


def test_the_reason_is_told_although_the_end_is_seen_with_it(stage: Stage) -> None:
    if stage.backend == "thread":
        pytest.skip("threads need no report")
    host = hosts.host()
    loop = host._loop
    assert loop is not None
    spawn = host.spawn

    def and_stand_still(role: str, payload: Any) -> hosts.Child:
        child = spawn(role, payload)
        # As on a machine that is overloaded: report and end are there when the loop looks.
        loop.call_soon_threadsafe(time.sleep, 1.0)
        return child

    host.spawn = and_stand_still  # type: ignore[method-assign]
    try:
        with pytest.raises(AgentStartError, match="no such luck"):
            stage.agent("broken", base=Broken)
    finally:
        host.spawn = spawn  # type: ignore[method-assign]
    assert host._expected == {}


def test_what_is_no_agent_is_refused_here(stage: Stage) -> None:
    not_an_agent: Any = dict
    with pytest.raises(TypeError, match=r"base: found .*; must be a class derived from ganglion"):
        stage.agent("x", base=not_an_agent)


def test_an_attribute_that_cannot_travel_is_named(stage: Stage) -> None:
    fails: type[Exception] = EncodeError if stage.backend == "process" else AgentStartError
    with pytest.raises(fails, match="lock"):
        stage.agent("x", attributes={"fine": 1, "guard": threading.Lock()})
    if stage.backend == "process":
        with pytest.raises(EncodeError, match=r"attributes\['guard'\]"):
            stage.agent("x", attributes={"fine": 1, "guard": threading.Lock()})


def test_a_forking_process_that_cannot_start_ends_what_is_asked_of_it() -> None:
    async def scenario() -> int:
        spawner = Spawner(("no_module_of_this_name",))
        spawner.start()
        spawner.attach()
        code: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        try:
            with pytest.raises(SpawnerError):
                await spawner.ready()
            spawner.spawn(Program(env={}, entry="agent"), 1, code.set_result)
            async with asyncio.timeout(5):
                return await code
        finally:
            spawner.close()

    assert asyncio.run(scenario()) == -9


def test_a_method_of_the_class_is_called_without_asking_first(stage: Stage) -> None:
    agent = stage.agent("x", base=Shaped)
    assert agent.fixed() == 9
    # To ask would take a connection of its own.
    record = stage.ns.lookup("x")
    assert record is not None
    assert record.control not in calls._connections()._open
    assert (agent.hidden, agent.lazy, agent.asked, agent.wrapped()) == (5, 7, 8, 0)
