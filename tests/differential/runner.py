"""Plays scenarios in host processes with deadlines, several at a time, and ends everything that they leave behind."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import select
import signal
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Iterable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.differential.catalogue import Needs, catalogue
from tests.support.wait import wait_for

ROOT = Path(__file__).resolve().parents[2]
MARK = "DIFFERENTIAL_RUN"
PREFIXES = ("OSBRAIN_", "GANGLION_")


@dataclass(frozen=True)
class Result:
    """One scenario on one library.

    Attributes:
        transcript: (key, value) in order.
        failure: why it did not reach its end: a traceback, or that it was killed at its deadline.
        problems: what went wrong when its name servers were shut down.
        seconds: how long it took, without closing.
        output: what it and its agents printed, when it failed.
    """

    transcript: list[tuple[str, Any]]
    failure: str | None = None
    problems: list[str] = field(default_factory=list)
    seconds: float = 0.0
    closing: float = 0.0
    output: str = ""


def marked(mark: str) -> list[int]:
    """Processes whose environment holds this run's mark: those that a host started, wherever they went."""
    needle = f"{MARK}={mark}".encode()
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        with contextlib.suppress(OSError):
            if needle in (entry / "environ").read_bytes().split(b"\0") and (entry / "stat").read_bytes().rpartition(b") ")[2][:1] != b"Z":
                found.append(int(entry.name))
    return found


def end_marked(mark: str) -> list[int]:
    """Kill every process of this mark; returns those that were there."""
    found: set[int] = set()

    def none_left() -> bool:
        pids = marked(mark)
        found.update(pids)
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return not pids

    wait_for(none_left, timeout=20, what=f"processes of {mark} end")
    return sorted(found)


class Host:
    """A running host process; killed with everything it started when it is closed.

    Args:
        player: a library, or a library, "+" and its backend for agents.
        needs: of the scenarios that it is to play.
        directory: for logs and sockets.
    """

    def __init__(self, player: str, needs: Needs, directory: Path) -> None:
        library, _, backend = player.partition("+")
        self.mark = uuid.uuid4().hex
        self.needs = needs
        self.log = directory / f"{library}-{self.mark}.log"
        runtime = directory / self.mark[:8]
        runtime.mkdir(mode=0o700)
        environment = {key: value for key, value in os.environ.items() if not key.startswith(PREFIXES)}
        environment |= {MARK: self.mark, "XDG_RUNTIME_DIR": str(runtime), "PYTHONUNBUFFERED": "1", "PYTHONFAULTHANDLER": "1"}
        environment |= {prefix + key: value for key, value in needs.environment.items() for prefix in PREFIXES}
        receive, send = os.pipe()
        command = [sys.executable, "-m", "tests.differential.host", library, str(self.log), str(send), *([backend] if backend else [])]
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                command, cwd=ROOT, env=environment, stdin=subprocess.PIPE, stdout=log, stderr=log, pass_fds=(send,), start_new_session=True
            )
        os.close(send)
        self._receive = receive
        self._buffer = b""

    def play(self, scenario: str, seconds: float) -> Result:
        """Have it play one scenario."""
        start = self.log.stat().st_size
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(scenario.encode() + b"\n")
            self._process.stdin.flush()
        line = self._line(time.monotonic() + seconds)
        output = self.log.read_bytes()[start:].decode(errors="replace")
        if line is None:
            ended = self._process.poll()
            why = f"killed after {seconds} s" if ended is None else f"the host ended with {ended}"
            return Result([], failure=why, output=output[-4000:])
        told = json.loads(line)
        told["transcript"] = [(key, value) for key, value in told["transcript"]]
        return Result(**told, output=output[-4000:] if told["failure"] or told["problems"] else "")

    def _line(self, deadline: float) -> bytes | None:
        while b"\n" not in self._buffer:
            readable, _, _ = select.select([self._receive], [], [], max(0.0, min(0.5, deadline - time.monotonic())))
            if readable:
                data = os.read(self._receive, 1 << 20)
                if not data:
                    return None
                self._buffer += data
            elif time.monotonic() >= deadline or self._process.poll() is not None:
                return None
        line, _, self._buffer = self._buffer.partition(b"\n")
        return line

    def close(self, patience: float = 0.0) -> list[int]:
        """End the host; returns the processes that had not ended by themselves within `patience` seconds. All are gone after it."""
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        if patience:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(patience)
            with contextlib.suppress(TimeoutError):
                wait_for(lambda: not marked(self.mark), timeout=patience)
        left = end_marked(self.mark)
        self._process.wait(10)
        os.close(self._receive)
        return left


class Run:
    """Scenarios by players (see Host), played by `workers` threads in the given order; results are futures.

    Args:
        plays: (player, scenario), in the order in which results will be asked for.
        workers: hosts at a time.
    """

    def __init__(self, plays: Iterable[tuple[str, str]], *, workers: int = 4) -> None:
        self._scenarios = catalogue()
        self._directory = tempfile.TemporaryDirectory(prefix="diff-")
        self._results: dict[tuple[str, str], Future[Result]] = {}
        self._queues: dict[tuple[str, str], queue.SimpleQueue[str]] = {}
        self._stop = threading.Event()
        self.left: dict[str, list[str]] = {}
        for player, scenario in plays:
            self._results[player, scenario] = Future()
            self._queues.setdefault((player, _key(self._scenarios[scenario][1].environment)), queue.SimpleQueue()).put(scenario)
        self._threads = [threading.Thread(target=self._work, name=f"plays-{n}") for n in range(workers)]
        for thread in self._threads:
            thread.start()

    def result(self, player: str, scenario: str, within: float = 110.0) -> Result:
        """What came out of it; waits for it."""
        return self._results[player, scenario].result(within)

    def again(self, player: str, scenario: str) -> Result:
        """Play it once more in a host of its own, beside the others."""
        needs = self._scenarios[scenario][1]
        host = Host(player, needs, Path(self._directory.name))
        try:
            return host.play(scenario, needs.seconds)
        finally:
            host.close()

    def leftovers(self, player: str, within: float = 60.0) -> list[str]:
        """Wait until all is played and the hosts have ended; what outlived the hosts of a player."""
        end = time.monotonic() + within
        for thread in self._threads:
            thread.join(max(0.0, end - time.monotonic()))
            assert not thread.is_alive(), "scenarios are still being played"
        return self.left.get(player, [])

    def close(self) -> None:
        """End all hosts."""
        self._stop.set()
        for thread in self._threads:
            thread.join()
        self._directory.cleanup()

    def _work(self) -> None:
        host: Host | None = None
        current: tuple[str, str] | None = None
        while not self._stop.is_set():
            taken = self._take(current)
            if taken is None:
                break
            where, scenario = taken
            if host is not None and where != current:
                self._note_left(current, host.close(patience=5.0))
                host = None
            needs = self._scenarios[scenario][1]
            host = host or Host(where[0], needs, Path(self._directory.name))
            current = where
            try:
                result = host.play(scenario, needs.seconds)
            except Exception as error:  # noqa: BLE001 - raised again where the result is asked for
                self._results[where[0], scenario].set_exception(error)
                host.close()
                host = None
                continue
            self._results[where[0], scenario].set_result(result)
            if result.problems or (result.failure and not result.transcript):
                host.close()
                host = None
        if host is not None:
            self._note_left(current, host.close(patience=5.0))

    def _take(self, current: tuple[str, str] | None) -> tuple[tuple[str, str], str] | None:
        """The next scenario, of the player and environment that this worker's host already has while there is one."""
        busiest = sorted(self._queues, key=lambda where: -self._queues[where].qsize())
        for where in [*([current] if current else []), *busiest]:
            with contextlib.suppress(queue.Empty):
                return where, self._queues[where].get_nowait()
        return None

    def _note_left(self, where: tuple[str, str] | None, left: list[int]) -> None:
        if where is not None and left:
            self.left.setdefault(where[0], []).append(f"{len(left)} processes outlived the host")


def _key(environment: Mapping[str, str]) -> str:
    return json.dumps(dict(sorted(environment.items())))
