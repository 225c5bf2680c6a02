"""The debugger in thread mode as the how-to shows it, and `ganglion stack` for agents that programs make."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ganglion import Proxy, run_agent, run_nameserver
from ganglion.cli import main
from tests.integration.imperative.conftest import Stage
from tests.support.wait import wait_for

HOWTO = Path(__file__).parents[3] / "docs" / "howto" / "debugging.md"


def _program(tmp_path: Path) -> Path:
    (code,) = re.findall(r"```python\n(.*?)```", HOWTO.read_text(), re.DOTALL)
    path = tmp_path / "program.py"
    path.write_text(code)
    return path


def test_a_breakpoint_in_a_handler(tmp_path: Path) -> None:
    path = _program(tmp_path)
    commands = "p agent.name, doubled\np message\np agent.is_running()\nup\nc\n"
    done = subprocess.run([sys.executable, str(path)], input=commands, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert "handler()\n-> agent.received = doubled\n(Pdb) ('bob', 42)\n(Pdb) 21\n(Pdb) True\n" in done.stdout
    assert done.stdout.endswith("bob has 42\n")


def test_a_breakpoint_in_a_process_is_an_error_that_is_logged(tmp_path: Path) -> None:
    path = _program(tmp_path)
    path.write_text(path.read_text().replace(', backend="thread"', "").replace("timeout=3600", "timeout=0.5"))
    done = subprocess.run([sys.executable, str(path)], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=False)
    assert "BdbQuit" in done.stderr
    assert done.returncode == 0, done.stderr


def _hang(agent: Any, pipe: str) -> None:
    # Opening a named pipe blocks until somebody opens its other end.
    Path(pipe).read_text()


def _hold_the_lock(agent: Any) -> None:
    # In C, and without giving the interpreter to anybody else.
    sum(range(10**14))


def _hanging(proxy: Proxy, function: Any, *arguments: Any) -> None:
    proxy.set_method(function)
    proxy.oneway.after(0, function.__name__, *arguments)


def _shown(name: str, ns: Any, capsys: pytest.CaptureFixture[str], *parts: str) -> None:
    def shown() -> bool:
        code = main(["stack", name, "--nameserver", str(ns.addr()), "--timeout", "5"])
        out = capsys.readouterr().out
        return code == 0 and all(part in out for part in parts)

    wait_for(shown, what=f"{parts} in the stack of {name}")


def test_where_an_agent_hangs(stage: Stage, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    agent = stage.agent("a")
    _hanging(agent, _hang, str(pipe))
    _shown("a", stage.ns, capsys, "in _hang", "a-control: writes this")
    with pipe.open("w"):
        pass
    assert agent.ping() == "pong"
    assert main(["stack", "b", "-n", str(stage.ns.addr())]) == 1
    assert "agent 'b' does not exist; there are: a" in capsys.readouterr().err


def test_an_agent_whose_interpreter_is_held(capsys: pytest.CaptureFixture[str]) -> None:
    ns = run_nameserver()
    agent = run_agent("a")
    pid = agent.execute_as_method(lambda _agent: os.getpid())
    _hanging(agent, _hold_the_lock)

    def shown() -> bool:
        code = main(["stack", "a", "--nameserver", str(ns.addr()), "--timeout", "0.3"])
        out = capsys.readouterr().out
        return code == 0 and "fault handler" in out and "in _hold_the_lock" in out

    wait_for(shown, what="the fault handler's view")
    os.kill(pid, signal.SIGKILL)
    wait_for(lambda: ns.agents() == [], what="the name to be free")
    ns.shutdown()


def test_the_environment_names_the_name_server(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    ns = run_nameserver()
    run_agent("a")
    assert main(["stack", "a"]) == 0
    assert capsys.readouterr().out.startswith("a (process ")
    ns.shutdown()
    assert main(["stack", "a"]) == 69
    assert "Could not locate the name server" in capsys.readouterr().err


def test_a_name_server_is_not_also_a_domain(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["stack", "a", "-n", "127.0.0.1:1", "-d", "shop"]) == 64
    assert "give one of them" in capsys.readouterr().err
