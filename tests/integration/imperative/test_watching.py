"""Who watches an agent hears of its end once, with its reason, also when the name server was gone meanwhile."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from ganglion import Agent, Proxy, run_agent, run_nameserver
from ganglion.imperative import leases, nameserver
from tests.integration.imperative.conftest import Stage
from tests.support.wait import wait_for


class Guard(Agent):
    """Keeps what it hears."""

    def on_init(self) -> None:
        self.heard: list[tuple[str, str]] = []
        self.lives: list[str] = []

    def gone(self, departure: Any) -> None:
        self.heard.append((departure.agent, departure.reason))
        self.lives.append(departure.incarnation)

    async def slowly(self, departure: Any) -> None:
        await asyncio.sleep(0)
        self.heard.append((departure.replica, departure.reason))

    def fails(self, departure: Any) -> None:
        raise ValueError(departure.agent)


def pid_of(agent: Any) -> int:
    return os.getpid()


def heard(guard: Proxy, *expected: tuple[str, str], timeout: float = 10.0) -> None:
    """Wait for all of it, in any order; nothing else may have come."""
    wait_for(lambda: len(guard.get_attr("heard")) >= len(expected), timeout=timeout, what=f"{expected}")
    assert sorted(guard.get_attr("heard")) == sorted(expected)
    guard.set_attr(heard=[])


def known(guard: Proxy, *names: str) -> None:
    """Wait until the guard knows who lives under these names: of who ends before that it hears only that nobody has the name."""

    def lives(agent: Any) -> dict[str, Any]:
        watching = agent._core.watched._tell.__self__.control._watching
        # Another thread changes it.
        return {name: dict(found) for name, found in list(watching._known.items())}

    assert guard.list_watched() == list(names)
    wait_for(lambda: all(guard.execute_as_method(lives).values()), what="the watch")


def test_ends_and_their_reasons(stage: Stage) -> None:
    one, other = (stage.agent(name, base=Guard) for name in ("one", "other"))
    a, b = stage.agent("a"), stage.agent("b")
    for name in ("a", "b"):
        one.watch(name, "gone")
    other.watch("b", "slowly")
    known(one, "a", "b")
    known(other, "b")
    a.shutdown()
    heard(one, ("a", "Shutdown"))
    b.kill()
    heard(one, ("b", "Killed"))
    heard(other, ("b", "Killed"))

    # Who has the name next is watched, too; after `unwatch` nobody.
    again, b = stage.agent("a"), stage.agent("b")
    known(one, "a", "b")
    other.unwatch("b")
    with pytest.raises(KeyError, match="is not watched; watched: nobody"):
        other.unwatch("b")
    again.kill()
    b.shutdown()
    heard(one, ("a", "Killed"), ("b", "Shutdown"))
    assert len(set(one.get_attr("lives"))) == 4
    assert other.get_attr("heard") == []

    # A handler that raises is logged, and the next one is called.
    stage.agent("c")
    one.watch("c", ["gone"])
    one.watch("a", "fails")
    a = stage.agent("a")
    one.unwatch("b")
    known(one, "a", "c")
    a.shutdown()
    Proxy("c", stage.ns.addr()).shutdown()
    heard(one, ("c", "Shutdown"))


def test_what_cannot_be_watched_is_told(stage: Stage) -> None:
    guard = stage.agent("guard", base=Guard)
    guard.watch("nobody", "gone")
    heard(guard, ("nobody", "Unknown"))
    late = stage.agent("nobody")
    known(guard, "nobody")
    late.shutdown()
    heard(guard, ("nobody", "Shutdown"))
    with pytest.raises(ValueError, match="watch: found ''; pass the name of an agent"):
        guard.watch("", "gone")
    with pytest.raises(Exception, match="nothing"):
        guard.watch("a", "nothing")
    assert guard.list_watched() == ["nobody"]


def test_a_watch_of_on_init_is_told_when_the_loop_runs(stage: Stage) -> None:
    class Early(Guard):
        def on_init(self) -> None:
            super().on_init()
            self.watch("a", self.gone)

    a = stage.agent("a")
    guard = stage.agent("guard", base=Early)
    known(guard, "a")
    a.kill()
    heard(guard, ("a", "Killed"))


def test_a_killed_process_is_told_at_once_and_a_frozen_one_after_its_lease(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (leases, nameserver):
        monkeypatch.setattr(module, "LEASE_SECONDS", 5.0)
    ns = run_nameserver(backend="thread")
    guard, killed, frozen = run_agent("guard", base=Guard), run_agent("killed"), run_agent("frozen")
    for name in ("killed", "frozen"):
        guard.watch(name, "gone")
    known(guard, "killed", "frozen")
    pids = [agent.execute_as_method(pid_of) for agent in (killed, frozen)]
    os.kill(pids[1], signal.SIGSTOP)
    os.kill(pids[0], signal.SIGKILL)
    heard(guard, ("killed", "Killed"))
    heard(guard, ("frozen", "LeaseEnded"), timeout=30)
    # It lives on, and comes back; when it ends it is the same life, which was told.
    os.kill(pids[1], signal.SIGCONT)
    wait_for(lambda: "frozen" in ns.agents(), what="its next beat")
    frozen.shutdown()
    wait_for(lambda: not Path(f"/proc/{pids[1]}").exists(), what="its end")
    assert guard.get_attr("heard") == []
    ns.shutdown()


def test_ends_while_the_name_server_was_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    class Killable(nameserver.NameServer):
        def pid(self) -> int:
            return os.getpid()

    ns = run_nameserver(base=Killable)
    guard = run_agent("guard", base=Guard)
    agents = {name: run_agent(name) for name in ("stays", "dies", "comes")}
    for name in agents:
        guard.watch(name, "gone")
    pids = {name: agent.execute_as_method(pid_of) for name, agent in agents.items()}
    known(guard, *agents)

    os.kill(ns._call("pid"), signal.SIGKILL)
    for name in ("dies", "comes"):
        os.kill(pids[name], signal.SIGKILL)
        wait_for(lambda: not Path(f"/proc/{pids[name]}").exists(), what="its end")  # noqa: B023
    for module in (leases, nameserver):
        monkeypatch.setattr(module, "LEASE_SECONDS", 5.0)
    ns = run_nameserver(ns.addr(), backend="thread")
    run_agent("comes")
    heard(guard, ("comes", "Replaced"), ("dies", "LeaseEnded"), timeout=30)
    wait_for(lambda: "stays" in ns.agents(), what="the one that stays to come back")
    agents["stays"].shutdown()
    heard(guard, ("stays", "Shutdown"))
    ns.shutdown()
