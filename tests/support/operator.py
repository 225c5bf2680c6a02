"""The operator as a process of its own, against any API server."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.support.wait import wait_for

AGENT_IMAGE = "localhost/ganglion-agent:test"
STOP_SECONDS = 20.0


@dataclass
class OperatorProcess:
    """A running operator; a context manager that ends it.

    Arguments:
        kubeconfig: who it is and where the API server is.
        namespaces: what it serves; empty for all.
        options: further command-line options.
    """

    kubeconfig: Path
    namespaces: tuple[str, ...] = ()
    options: tuple[str, ...] = ()
    agent_image: str = AGENT_IMAGE
    child: subprocess.Popen[bytes] | None = None
    log: Path = field(default_factory=Path)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.kill()
        # pytest shows it when the test has failed.
        print(self.text())
        self.log.unlink(missing_ok=True)

    def start(self) -> None:
        """Start the process; returns at once."""
        if not self.log.name:
            handle, name = tempfile.mkstemp(prefix="ganglion-operator-", suffix=".log")
            os.close(handle)
            self.log = Path(name)
        command = [
            sys.executable, "-m", "ganglion_operator",
            f"--agent-image={self.agent_image}",
            "--health-address=127.0.0.1:0",
            f"--namespaces={','.join(self.namespaces)}",
            *(["--namespace", self.namespaces[0]] if self.namespaces else []),
            "--leader-elect=false",
            *self.options,
        ]  # fmt: skip
        environment = {**os.environ, "KUBECONFIG": str(self.kubeconfig)}
        self.log.write_bytes(b"")
        with self.log.open("ab") as output:
            self.child = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", "--", *command],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=environment,
            )

    def text(self) -> str:
        """What it has logged in this life."""
        return self.log.read_text(errors="replace")

    @property
    def port(self) -> int:
        """Port of /livez, /readyz and /metrics."""

        def logged() -> int:
            assert self.child is not None
            if self.child.poll() is not None:
                raise AssertionError(f"the operator ended with {self.child.returncode}\n{self.text()}")
            found = re.search(r'"port": (\d+)', self.text())
            return int(found[1]) if found else 0

        return wait_for(logged, timeout=60, what="the operator answers")

    def get(self, path: str) -> tuple[int, str]:
        """Status code and text of one of its pages."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=10) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()

    def wait_ready(self, timeout: float = 60.0) -> None:
        """Return when its first list is complete."""
        wait_for(lambda: self.get("/readyz")[0] == 200, timeout=timeout, what="operator ready")

    def metric(self, name: str, **labels: str) -> float:
        """Sum of the samples of a metric that have these labels."""
        total = 0.0
        for line in self.get("/metrics")[1].splitlines():
            match = re.fullmatch(rf"{re.escape(name)}(?:\{{(.*)\}})? (\S+)", line)
            if match and all(f'{key}="{value}"' in (match[1] or "") for key, value in labels.items()):
                total += float(match[2])
        return total

    def writes(self) -> float:
        """Calls that change something, without Leases and the canary."""
        body = self.get("/metrics")[1]
        total = 0.0
        for verb, kind, value in re.findall(r'rest_client_requests_total\{code="[^"]*",kind="([^"]*)",verb="([^"]*)"\} (\S+)', body):
            if kind != "GET" and verb not in ("Lease", "ConfigMap"):
                total += float(value)
        return total

    def quiet(self) -> bool:
        """Whether nothing waits for a worker and no worker works."""
        return not self.metric("workqueue_depth") and not self.metric("controller_runtime_active_workers")

    def stop(self, timeout: float = STOP_SECONDS) -> int:
        """SIGTERM; returns the exit status."""
        assert self.child is not None
        self.child.send_signal(signal.SIGTERM)
        return self.child.wait(timeout=timeout)

    def kill(self) -> None:
        """SIGKILL, if it still runs."""
        if self.child is not None and self.child.poll() is None:
            self.child.kill()
            self.child.wait()
