"""A process that is forked ahead of its agent: used where it fits, and never anybody's when it does not."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ganglion import Agent, run_agent, run_nameserver
from ganglion.imperative import ahead
from ganglion.imperative import host as hosts
from ganglion.imperative.errors import AgentStartError
from tests.support.wait import wait_for


class Told(Agent):
    """Tells what it finds around it."""

    def on_init(self) -> None:
        print(f"{self.name} begins", flush=True)

    def here(self, variable: str) -> tuple[int, str | None, str]:
        return os.getpid(), os.environ.get(variable), str(Path.cwd())


class Broken(Agent):
    """Raises in on_init."""

    def on_init(self) -> None:
        raise LookupError("no such luck")


def _is_alive(pid: int) -> bool:
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False


def _waiting() -> int:
    """Make two agents; the process that waits for the next one."""
    host = hosts.host()
    # Not in a fixture: pytest names the phase of a test in the environment, and agents of one phase do not fit into the next.
    _dismiss()
    run_agent("a", base=Told)
    run_agent("b", base=Told)

    def found() -> int | None:
        process = host._ahead._waiting if host._ahead is not None else None
        return host._spawner.pid(process.id) if process is not None and process.connection is not None and host._spawner else None

    pid = wait_for(found, what="a process ahead")
    assert pid is not None
    return pid


def _dismiss() -> None:
    host = hosts.host()
    if host._loop is not None and host._ahead is not None:
        host._loop.call_soon_threadsafe(host._ahead.dismiss)


@pytest.fixture
def ns(monkeypatch: pytest.MonkeyPatch) -> Any:
    # As long as a busy machine may take from one line of a test to the next.
    monkeypatch.setattr(ahead, "KEEP_SECONDS", 300.0)
    ns = run_nameserver()
    yield ns
    ns.shutdown()
    _dismiss()


def test_the_next_agent_runs_in_it_with_the_output_of_now(ns: Any, tmp_path: Path) -> None:
    pid = _waiting()
    before = os.dup(1)
    with (tmp_path / "out").open("wb") as file:
        os.dup2(file.fileno(), 1)
    try:
        agent = run_agent("c", base=Told)
    finally:
        os.dup2(before, 1)
        os.close(before)
    assert agent.here("HOME")[0] == pid
    assert (tmp_path / "out").read_text() == "c begins\n"
    assert ns.agents() == ["a", "b", "c"]
    # It is an agent's process as any other.
    os.kill(pid, signal.SIGKILL)
    wait_for(lambda: "c" not in ns.agents(), what="its name to be free")


def test_an_error_in_it_is_told_and_the_next_one_starts(ns: Any) -> None:
    pid = _waiting()
    with pytest.raises(AgentStartError, match="no such luck"):
        run_agent("c", base=Broken)
    wait_for(lambda: not _is_alive(pid), what="its process to end")
    assert run_agent("c", base=Told).here("HOME")[0] != pid


def test_other_surroundings_get_another_process(ns: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pid = _waiting()
    monkeypatch.setenv("SOMETHING_NEW", "1")
    monkeypatch.chdir(tmp_path)
    other, value, folder = run_agent("c", base=Told).here("SOMETHING_NEW")
    assert (value, folder) == ("1", str(tmp_path))
    assert other != pid
    wait_for(lambda: not _is_alive(pid), what="the one that did not fit to end")


def test_one_that_was_killed_is_not_missed(ns: Any) -> None:
    pid = _waiting()
    os.kill(pid, signal.SIGKILL)
    wait_for(lambda: not _is_alive(pid), what="its end")
    agents = [run_agent(name, base=Told) for name in "cde"]
    assert pid not in {agent.here("HOME")[0] for agent in agents}


def test_it_does_not_stay(ns: Any) -> None:
    pid = _waiting()
    host = hosts.host()
    assert host._ahead is not None
    assert host._loop is not None
    timer = host._ahead._timer
    assert timer is not None
    assert 0 < timer.when() - host._loop.time() <= ahead.KEEP_SECONDS
    host._loop.call_soon_threadsafe(timer._run)
    wait_for(lambda: not _is_alive(pid), what="its end")
    assert (host._ahead._waiting, host._ahead._expected) == (None, {})


PROGRAM = """
from ganglion import run_agent, run_nameserver
from ganglion.imperative import ahead, host
from tests.support.wait import wait_for
ahead.KEEP_SECONDS = 300.0
ns = run_nameserver()
for name in "ab":
    run_agent(name)
wait_for(lambda: host.host()._ahead._waiting.connection, what="it waits")
print(host.host()._spawner.pid(host.host()._ahead._waiting.id))
ns.shutdown()
"""


def test_it_does_not_outlive_the_program() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=60, check=True)
    assert done.stderr == ""
    assert not _is_alive(int(done.stdout))
