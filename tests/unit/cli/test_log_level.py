"""`ganglion log-level` for an agent in a cluster, as far as a kubectl that is none takes it."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from ganglion.cli import main


@pytest.fixture
def kubectl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is the whole PATH."""
    monkeypatch.setenv("PATH", str(tmp_path))
    return tmp_path


def answers(folder: Path, level: str) -> Path:
    """Make a kubectl that prints a level; the file with the arguments that it got."""
    asked = folder / "asked"
    (folder / "kubectl").write_text(f'#!/bin/sh\necho "$*" >>{shlex.quote(str(asked))}\necho {level}\n')
    (folder / "kubectl").chmod(0o755)
    return asked


@pytest.mark.parametrize(
    ("level", "taken", "code", "text"),
    [
        ("debug", "Debug", 0, "worker logs DEBUG and above"),
        ("default", "", 0, "worker logs what it did at its start"),
        # An API server drops fields that its CRD does not have.
        ("debug", "", 1, "Agent/worker: the cluster did not take spec.logLevel"),
    ],
)
def test_what_the_cluster_has_then_is_told(
    kubectl: Path, level: str, taken: str, code: int, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = answers(kubectl, taken)
    assert main(["log-level", "agent/worker", level, "--context", "far", "--namespace", "team"]) == code
    assert asked.read_text().startswith("--context far --namespace team patch agents.ganglion.dev worker --type=merge -p {")
    said = capsys.readouterr()
    assert text in said.out + said.err


@pytest.mark.parametrize(
    "arguments", [["log-level", "agent/{}", "DEBUG", "--namespace", "team"], ["connect", "--namespace", "team", "--", "{}"]]
)
@pytest.mark.parametrize("name", ["--kubeconfig=/tmp/other", "-f", "", "Worker", "a/b"])
def test_a_name_is_no_option_of_kubectl(kubectl: Path, arguments: list[str], name: str, capsys: pytest.CaptureFixture[str]) -> None:
    asked = answers(kubectl, "Debug")
    assert main([argument.format(name) for argument in arguments]) == 64
    assert f"found {name!r}; must consist of" in capsys.readouterr().err
    assert not asked.exists()
