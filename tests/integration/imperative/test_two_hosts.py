"""Two hosts with names, as network namespaces: everything that crosses hosts, and a cable that is pulled."""

from __future__ import annotations

import contextlib
import os
import secrets
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.imperative.two_hosts import PATTERNS
from tests.support.netns import Host, missing, two_hosts

ROOT = Path(__file__).parents[3]


@contextlib.contextmanager
def program(host: Host, role: str, secret: str) -> Iterator[subprocess.Popen[str]]:
    with tempfile.TemporaryDirectory(prefix="gh-", dir="/tmp") as own:
        # Nothing of one host's file system helps the other.
        env = {**os.environ, "GANGLION_JOIN_SECRET": secret, "XDG_STATE_HOME": own, "XDG_RUNTIME_DIR": own}
        command = host.command(sys.executable, "-m", "tests.integration.imperative.two_hosts", role)
        with subprocess.Popen(command, env=env, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
            try:
                yield process
            finally:
                process.kill()


def _until(process: subprocess.Popen[str], word: str) -> list[str]:
    """Lines up to this one."""
    lines = []
    assert process.stdout is not None
    for line in process.stdout:
        lines.append(line.rstrip())
        if lines[-1] == word:
            return lines
    pytest.fail(f"it ended before {word!r}:\n" + "\n".join(lines))


def _go_on(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()


@pytest.mark.timeout(90)
def test_everything_that_crosses_hosts() -> None:
    if reason := missing():
        pytest.skip(reason)
    secret = secrets.token_hex(16)
    with two_hosts("alpha.example", "beta.example") as (first, second), program(first, "alpha", secret) as alpha:
        _until(alpha, "up")
        with program(second, "beta", secret) as beta:
            _until(beta, "up")
            _go_on(alpha)
            lines = _until(alpha, "cut me off")
            assert [line for line in lines if line.startswith("done ")] == [f"done {pattern.__name__}" for pattern in PATTERNS]
            assert "Thread b-control: writes this" in lines
            second.cable(plugged=False)
            _go_on(alpha)
            _until(alpha, "plug me in")
            second.cable(plugged=True)
            _go_on(alpha)
            _until(alpha, "ended")
            assert alpha.wait(20) == 0
            _go_on(beta)
            # Its agent was shut down from the other host, so its program has nothing to wait for.
            assert beta.wait(20) == 0
