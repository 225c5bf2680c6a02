"""What an agent logs is changed while it runs, by a program and by the command."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from ganglion import run_logger
from ganglion.cli import main
from tests.integration.imperative.conftest import Stage
from tests.support.wait import wait_for


def _say(agent: Any, word: str) -> None:
    for log in (agent.log_debug, agent.log_info, agent.log_warning, agent.log_error):
        log(word)


def _hang(agent: Any, pipe: str) -> None:
    # Opening a named pipe blocks until somebody opens its other end.
    Path(pipe).read_text()


def _levels(logger: Any, word: str) -> list[str]:
    """Levels at which `word` was logged, once the last of them has come."""
    wait_for(lambda: any(line.endswith(f": {word}") for line in logger.get_attr("log_history_error")), what=f"{word!r} in the log")
    return [
        level
        for level in ("debug", "info", "warning", "error")
        if any(line.endswith(f": {word}") for line in logger.get_attr(f"log_history_{level}"))
    ]


def test_levels_change_while_agents_run(stage: Stage, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    logger = run_logger("logger")
    a, b = stage.agent("a"), stage.agent("b")
    for agent in (a, b):
        agent.set_logger(logger)
        # Publications before the subscription is known are lost.
        wait_for(lambda: (agent.log_error("there?"), logger.get_attr("log_history_error"))[1], what="the connection")  # noqa: B023
        logger.set_attr(log_history_error=[])

    a.execute_as_method(_say, "default")
    assert _levels(logger, "default") == ["info", "warning", "error"]
    a.set_log_level("debug")
    a.execute_as_method(_say, "all")
    assert _levels(logger, "all") == ["debug", "info", "warning", "error"]

    a.set_method(_hang)
    a.oneway.after(0, "_hang", str(pipe))
    address = str(stage.ns.addr())
    assert main(["log-level", "a", "error", "--nameserver", address, "--timeout", "20"]) == 0, (
        "a handler that hangs does not keep it from changing"
    )
    assert capsys.readouterr().out.endswith("a logs ERROR and above\n")
    with pipe.open("w"):
        pass
    a.execute_as_method(_say, "few")
    assert _levels(logger, "few") == ["error"]
    b.execute_as_method(_say, "other")
    assert _levels(logger, "other") == ["info", "warning", "error"], "each agent has a level of its own"


def test_wrong_levels_are_refused(
    stage: Stage, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    agent = stage.agent("a")
    for level in ("LOUD", 7, None):
        with pytest.raises(ValueError, match="must be one of DEBUG, INFO"):
            agent.set_log_level(level)
    assert main(["log-level", "a", "loud", "-n", str(stage.ns.addr())]) == 64
    assert main(["log-level", "b", "INFO", "-n", str(stage.ns.addr())]) == 1
    assert "agent 'b' does not exist; there are: a" in capsys.readouterr().err
    for name in ("GANGLION_NAMESERVER_ADDRESS", "OSBRAIN_NAMESERVER_ADDRESS"):
        monkeypatch.delenv(name, raising=False)
    assert main(["log-level", "a", "default", "-n", str(stage.ns.addr())]) == 64
    assert "those of run_agent begin with INFO" in capsys.readouterr().err
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    assert main(["log-level", "a", "INFO"]) == 69
    assert "no domain is running here, --nameserver is not given, and GANGLION_NAMESERVER_ADDRESS is not set" in capsys.readouterr().err
