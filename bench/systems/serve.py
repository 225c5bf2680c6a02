"""The loop of a system's process: command in, result out."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

WAIT_SECONDS = 30.0
WARM_UP_SECONDS = 0.1


def claim_output() -> int:
    """The descriptor of results; from now on what is printed goes to standard error."""
    results = os.dup(1)
    os.set_inheritable(results, False)
    os.dup2(2, 1)
    return results


def serve(results: int, commands: Mapping[str, Callable[..., dict[str, Any]]]) -> None:
    """Serve standard input until it ends."""
    for line in sys.stdin:
        command = json.loads(line)
        result = commands[command.pop("do")](**command)
        os.write(results, json.dumps(result).encode() + b"\n")


def until(condition: Callable[[], Any], what: str) -> Any:
    """Ask until the answer is true; returns it."""
    deadline = time.monotonic() + WAIT_SECONDS
    while not (found := condition()):
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what}: not within {WAIT_SECONDS:g} s")
        time.sleep(0.01)
    return found


def burst(size: int) -> int:
    """Messages between two looks at the clock."""
    return 1 if size > 10_000 else 16


def quantiles(samples: list[float]) -> dict[str, float]:
    """Median and 99th percentile, microseconds, of seconds."""
    ordered = sorted(samples)
    return {"p50": ordered[len(ordered) // 2] * 1e6, "p99": ordered[len(ordered) * 99 // 100] * 1e6}


def memory_mb(processes: list[int]) -> float | None:
    """Share of the memory (PSS) of each process on average; None where /proc does not tell."""
    try:
        shares = [int(Path(f"/proc/{pid}/smaps_rollup").read_text().split("\nPss:")[1].split()[0]) for pid in processes]
    except OSError:
        return None
    return sum(shares) / 1024 / len(shares)


class Counter:
    """What counts messages at a receiver, in every system."""

    def __init__(self) -> None:
        self.n = 0
        self.first = self.last = 0.0

    def take(self, _message: Any) -> None:
        """The handler."""
        self.n += 1
        self.last = now = time.monotonic()
        if self.n == 1:
            self.first = now

    def seen(self) -> tuple[int, float, float]:
        """(count, time of the first, time of the last)."""
        return self.n, self.first, self.last

    def reset(self) -> None:
        """Begin again."""
        self.n = 0


def blast(send: Callable[[Any], Any], size: int, seconds: float) -> int:
    """Send for so long; how many were sent. In every system."""
    body, several, n = bytes(size), range(burst(size)), 0
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        for _ in several:
            send(body)
        n += len(several)
    return n
