"""The command line: exit codes, help, nothing printed as success on failure, and lean imports."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from ganglion.cli import main
from ganglion.cli.app import _COMMANDS, _PROCESSES


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    # Left by a run_nameserver of other tests.
    for variable in ("GANGLION_NAMESERVER_ADDRESS", "OSBRAIN_NAMESERVER_ADDRESS"):
        monkeypatch.delenv(variable, raising=False)


@pytest.mark.parametrize(
    "arguments",
    [
        ["nonsense"],
        ["up"],
        ["validate"],
        ["scale", "a"],
        ["scale", "a", "--replicas", "many"],
        ["get", "pods"],
        ["up", "-f", "x", "--log-format", "xml"],
    ],
)
def test_a_bad_command_line_is_64(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 64
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    "arguments", [["get"], ["down"], ["stack", "a"], ["scale", "a", "--replicas", "2"], ["delete", "agent", "a"], ["get", "-d", "shop"]]
)
def test_without_a_domain_it_is_69(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 69
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "running" in captured.err


def test_bad_manifests_are_78_with_one_line_each(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.yaml").write_text("kind: Agent\nmetadata: {name: x}\napiVersion: ganglion.dev/v1alpha1\nspec: {replicas: -1}\n")
    for command in ("validate", "up"):
        assert main([command, "-f", str(tmp_path)]) == 78
        captured = capsys.readouterr()
        assert captured.out == ""
        assert all(line.startswith("error: ") for line in captured.err.splitlines())
        assert "spec.replicas: found -1" in captured.err


def test_validate_tells_what_is_valid(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["validate", "-f", "examples/wordcount"]) == 0
    assert capsys.readouterr().out == "valid: 1 NameServer, 2 Channels, 3 Agents\n"


def test_help_of_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    for command in (*_COMMANDS, *_PROCESSES):
        assert main([command, "--help"]) == 0
        text = capsys.readouterr().out
        assert text.lower().startswith(f"usage: ganglion {command}")
        assert len(text.splitlines()) > 4


def test_a_drain_without_a_run_directory_is_78(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.delenv("GANGLION_RUN_DIR", raising=False)
    assert main(["drain"]) == 78
    assert "GANGLION_RUN_DIR" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("module", "unwanted"),
    [
        ("ganglion.cli.app", ("pydantic", "yaml", "rich", "zmq", "asyncio")),
        ("ganglion.cli.drain", ("pydantic", "yaml", "rich", "asyncio", "click.testing")),
        ("ganglion.local.zygote", ("pydantic", "yaml", "rich", "zmq", "asyncio")),
    ],
)
def test_imports_stay_lean(module: str, unwanted: tuple[str, ...]) -> None:
    code = f"import sys, {module}; print(*[name for name in {unwanted!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.split() == []


def test_logs_of_nobody_are_not_a_question_of_the_domain(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["logs", "nobody"]) == 1
    assert capsys.readouterr().err == "error: there are no logs yet\n"
    for domain, agent in (("east", "worker"), ("west", "worker"), ("west", "sink")):
        logs = tmp_path / "state" / "ganglion" / domain / "logs"
        logs.mkdir(parents=True, exist_ok=True)
        (logs / f"{agent}-0.log").write_text(f"{agent} of {domain}\n")
    assert main(["logs", "nobody"]) == 1
    assert capsys.readouterr().err == "error: nobody has printed nothing in any domain (east, west), or does not exist\n"
    assert main(["logs", "worker"]) == 1
    assert "several domains fit (east, west)" in capsys.readouterr().err
    assert main(["logs", "sink"]) == 0
    assert capsys.readouterr().out == "sink of west\n"
