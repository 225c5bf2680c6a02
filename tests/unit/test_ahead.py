"""What `make test` runs beside its tiers: a command to its end, and another that is ended with it, with all that it started."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from hack.kind.steps import ROOT, KindError
from tests.e2e import ahead
from tests.e2e.ahead import beside
from tests.support.wait import wait_for

# Goes on until SIGTERM, which it takes as a step that fails: it says so. Its own child hears nothing of that.
ENDLESS = """
import os, signal, subprocess, sys
child = subprocess.Popen([sys.executable, "-c", "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(flush=True); signal.pause()"],
                         stdout=subprocess.PIPE)
child.stdout.readline()
signal.signal(signal.SIGTERM, lambda *_: (print("taken apart", flush=True), os._exit(130)))
print(child.pid, flush=True)
signal.pause()
"""
RUN = """
import signal, sys
from pathlib import Path
from tests.e2e.ahead import beside
# Who runs the tests in the background may have them ignore it.
signal.signal(signal.SIGINT, signal.default_int_handler)
sys.exit(beside({words!r}, {making!r}, Path({log!r})))
"""


def until(path: Path) -> list[str]:
    """A command that waits for the first line of a file, and ends with 7."""
    return ["sh", "-c", f"until grep -q . {path}; do sleep 0.01; done; exit 7"]


def gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].startswith("Z")


def told(log: Path) -> tuple[int, list[str]]:
    first, *more = log.read_text().splitlines()
    return int(first), more


def test_the_other_one_is_ended_with_all_it_started(tmp_path: Path) -> None:
    log = tmp_path / "log"
    assert beside(until(log), [sys.executable, "-c", ENDLESS], log) == 7
    child, more = told(log)
    assert more == ["taken apart"]
    wait_for(lambda: gone(child), what="its child to be gone")


def test_a_failure_of_the_other_one_is_told_and_changes_nothing(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    log = tmp_path / "log"
    assert beside(until(log), ["sh", "-c", "echo no disk; exit 1"], log) == 7
    said = capfd.readouterr().err
    assert "could not be made ahead" in said
    assert "  no disk" in said


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_ends_both(tmp_path: Path, number: signal.Signals) -> None:
    log, mark = tmp_path / "log", tmp_path / "mark"
    # As make does it: SIGINT comes from the terminal to all of the group, SIGTERM is passed on.
    words = ["sh", "-c", f"trap 'echo ended >>{mark}; exit 1' INT TERM; echo runs >{mark}; while :; do sleep 0.05; done"]
    text = RUN.format(words=words, making=[sys.executable, "-c", ENDLESS], log=str(log))
    process = subprocess.Popen([sys.executable, "-c", text], cwd=ROOT, start_new_session=True)
    try:
        wait_for(lambda: all(file.exists() and file.read_text().endswith("\n") for file in (log, mark)), what="both to run")
        if number == signal.SIGINT:
            os.killpg(process.pid, number)
        else:
            process.send_signal(number)
        assert process.wait(30) == 130
    finally:
        process.kill()
        process.wait()
    assert mark.read_text().split() == ["runs", "ended"]
    child, more = told(log)
    assert more == ["taken apart"]
    wait_for(lambda: gone(child), what="the child of the other one to be gone")


@pytest.mark.parametrize(("failures", "status"), [(1, 0), (ahead.TRIES, 1)])
def test_a_cluster_that_could_not_be_made_is_tried_again(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, failures: int, status: int
) -> None:
    tried: list[str] = []

    def build(_provider: object) -> None:
        tried.append("images")
        if len(tried) <= failures:
            raise KindError("nodes booted too slowly")

    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setattr(ahead, "select", lambda *_: None)
    monkeypatch.setattr(ahead, "build_images", build)
    monkeypatch.setattr(ahead, "kind_cluster", lambda **_: contextlib.nullcontext())
    monkeypatch.setattr(ahead, "install", lambda *_: None)
    assert ahead._make() == status
    assert len(tried) == 2
