"""Starts, kills and freezes the processes of a data-plane test, and reads what they left."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ganglion.wire.control import Ledger
from tests.support.wait import wait_for

ROOT = Path(__file__).resolve().parents[2]


class World:
    """One test's processes. Replicas are in process, or pairs of an agent and a sidecar."""

    def __init__(self, path: Path, *, sidecars: bool) -> None:
        self.path = path
        self.sidecars = sidecars
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self._starts: Counter[str] = Counter()
        self._configs: dict[str, dict[str, Any]] = {}
        for name in ("adverts", "state", "out"):
            (path / name).mkdir()

    def replica(self, name: str, program: str, *channels: dict[str, Any], **args: Any) -> None:
        """Start a replica: one process, or two."""
        run_dir = self.path / name
        run_dir.mkdir()
        base = {"world": str(self.path), "run_dir": str(run_dir), "channels": list(channels), "name": name}
        if self.sidecars:
            self._configs[f"{name}/sidecar"] = {**base, "kind": "sidecar"}
            self._configs[name] = {**base, "kind": "behind", "program": program, "args": args}
            self.start(f"{name}/sidecar")
        else:
            self._configs[name] = {**base, "kind": "process", "program": program, "args": args}
        self.start(name)

    def start(self, process: str) -> None:
        """Start one process (again)."""
        self._starts[process] += 1
        child = self.processes[process] = subprocess.Popen([sys.executable, "-m", "tests.support.node"], cwd=ROOT, stdin=subprocess.PIPE)
        assert child.stdin is not None
        child.stdin.write(json.dumps({**self._configs[process], "start": self._starts[process]}).encode())
        child.stdin.close()

    def kill(self, process: str) -> None:
        """SIGKILL, and reap."""
        child = self.processes.pop(process)
        child.kill()
        child.wait(10)

    def leave(self, replica: str) -> None:
        """Take a replica off the directory, as the name server does when its lease ends."""
        (self.path / "adverts" / f"{replica}.json").unlink()

    def freeze(self, process: str) -> None:
        """SIGSTOP."""
        os.kill(self.processes[process].pid, signal.SIGSTOP)

    def thaw(self, process: str) -> None:
        """SIGCONT."""
        os.kill(self.processes[process].pid, signal.SIGCONT)

    def handled(self) -> Counter[str]:
        """All lines that sinks have logged."""
        return Counter(line for path in (self.path / "out").iterdir() for line in path.read_text().splitlines())

    def handled_size(self) -> int:
        """Bytes that sinks have logged; cheap to poll."""
        return sum(path.stat().st_size for path in (self.path / "out").iterdir())

    def state(self, source: str) -> tuple[Ledger, bool, int]:
        """(ledger, ended, receivers) as a source published them."""
        with contextlib.suppress(FileNotFoundError):
            values = json.loads((self.path / "state" / f"{source}.json").read_text())
            half = len(Ledger.__struct_fields__)
            return Ledger(*values[half : 2 * half]), values[-2], values[-1]
        return Ledger(), False, 0

    def await_progress(self, more_bytes: int) -> None:
        """Wait until sinks have logged so much more."""
        target = self.handled_size() + more_bytes
        wait_for(lambda: self.handled_size() >= target, timeout=60, what=f"sinks have logged {target} bytes")

    def await_end(self, *sources: str, timeout: float = 90) -> None:
        """Wait until every source has ended with its ledger at rest."""
        for source in sources:
            wait_for(lambda source=source: self.state(source)[1], timeout=timeout, what=f"{source} ended; {self.state(source)}")  # type: ignore[misc]

    def close(self) -> None:
        """End every process."""
        for child in self.processes.values():
            with contextlib.suppress(ProcessLookupError):
                child.send_signal(signal.SIGCONT)
                child.terminate()
        for child in self.processes.values():
            try:
                child.wait(10)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait(10)
                raise


@contextmanager
def world(path: Path, *, sidecars: bool) -> Iterator[World]:
    """A world that ends with the block; every process must end by itself on SIGTERM."""
    made = World(path, sidecars=sidecars)
    try:
        yield made
    finally:
        made.close()


def alias(alias: str, name: str, role: str, *, bind: bool, **other: Any) -> dict[str, Any]:
    """A channel of a replica."""
    return {"alias": alias, "name": name, "role": role, "bind": bind, **other}
