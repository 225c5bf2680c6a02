"""`ganglion connect`, as far as a kubectl that is none takes it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ganglion.cli import main

READY = {"metadata": {"uid": "u"}, "spec": {"adHoc": "Allowed"}, "status": {"publicKey": "k" * 40}}


@pytest.fixture
def kubectl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is the whole PATH."""
    monkeypatch.setenv("PATH", str(tmp_path))
    return tmp_path


def answers(folder: Path, server: dict[str, Any], forward: str = "exit 1") -> None:
    """Make a kubectl that knows one NameServer."""
    script = f"""#!/bin/sh
case "$*" in
  "config view"*) echo team;;
  "--namespace team get nameservers.ganglion.dev lab"*) echo '{json.dumps(server)}';;
  *get*) echo 'Error from server (NotFound): no such thing' >&2; exit 1;;
  *"create token lab-nameserver --audience ganglion:team/u/ad-hoc.visitor"*) echo token;;
  *port-forward*) {forward};;
  *) exit 2;;
esac
"""
    (folder / "kubectl").write_text(script)
    (folder / "kubectl").chmod(0o755)


def test_without_kubectl_it_says_so(kubectl: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["connect", "lab"]) == 69
    assert "kubectl: not found on the PATH" in capsys.readouterr().err


def test_an_unknown_name_server_is_told(kubectl: Path, capsys: pytest.CaptureFixture[str]) -> None:
    answers(kubectl, READY)
    assert main(["connect", "zoo"]) == 1
    assert "no such thing" in capsys.readouterr().err


@pytest.mark.parametrize("spec", [{}, {"adHoc": "Forbidden"}])
def test_a_domain_that_forbids_it_names_the_field(kubectl: Path, spec: dict[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    answers(kubectl, {**READY, "spec": spec})
    assert main(["connect", "lab"]) == 1
    assert "NameServer team/lab: spec.adHoc is Forbidden" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments", [["zoo", "-n", "other"], ["-n", "other", "zoo"], ["zoo", "--namespace=other", "--", "program", "-n", "own", "--flag"]]
)
def test_the_namespace_may_stand_on_either_side(kubectl: Path, arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    answers(kubectl, READY)
    assert main(["connect", *arguments]) == 1
    assert "kubectl --namespace other get nameservers.ganglion.dev zoo" in capsys.readouterr().err


def test_without_a_key_it_asks_for_the_operator(kubectl: Path, capsys: pytest.CaptureFixture[str]) -> None:
    answers(kubectl, {**READY, "status": {}})
    assert main(["connect", "lab"]) == 69
    assert "it has no key yet" in capsys.readouterr().err


@pytest.mark.parametrize(("forward", "text"), [("echo pod is gone >&2; exit 1", "pod is gone"), ("exit 0", "nothing was forwarded")])
def test_ports_that_cannot_be_forwarded_are_told(tmp_path: Path, forward: str, text: str) -> None:
    answers(tmp_path, READY, forward)
    environment = {**os.environ, "PATH": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-m", "ganglion", "connect", "lab"], env=environment, capture_output=True, text=True, timeout=30, check=False
    )
    assert done.returncode == 69
    assert done.stdout == ""
    assert text in done.stderr
