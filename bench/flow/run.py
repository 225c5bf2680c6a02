"""One run of a flow: processes of any kind pass messages, shared memory counts what arrives."""

from __future__ import annotations

import gc
import multiprocessing
import os
import shutil
import signal
import socket
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from multiprocessing.sharedctypes import RawArray
from pathlib import Path
from typing import Any

from ganglion.runtime.connections import DesiredPeer
from ganglion.runtime.sockets import CurveKeys
from ganglion.wire.control import Incarnation

WARM_UP_SECONDS = 0.7
SAMPLES = 20000
LIFE = Incarnation("bench", 1, 0)


@dataclass
class Setup:
    """One run: who is who, and what the processes count in shared memory."""

    size: int
    workers: int
    rate: int
    folder: Path
    sender: CurveKeys = field(default_factory=CurveKeys.generate)
    stage: CurveKeys = field(default_factory=CurveKeys.generate)
    keys: list[CurveKeys] = field(default_factory=list)
    ports: list[int] = field(default_factory=list)
    counts: Any = None
    latencies: Any = None

    def __post_init__(self) -> None:
        self.keys = [CurveKeys.generate() for _ in range(self.workers)]
        *self.ports, self.stage_port = free_ports(self.workers + 1)
        self.counts = RawArray("Q", self.workers)
        self.latencies = [RawArray("q", SAMPLES if self.rate else 1) for _ in range(self.workers)]

    def endpoint(self, worker: int) -> str:
        return f"tcp://127.0.0.1:{self.ports[worker]}"

    def leg(self, name: str) -> Path:
        path = self.folder / name
        path.mkdir(exist_ok=True)
        return path

    def receivers(self) -> dict[str, DesiredPeer]:
        return {
            f"worker-{i}": DesiredPeer(f"worker-{i}", "worker", LIFE, self.keys[i].public, self.endpoint(i)) for i in range(self.workers)
        }

    def stages(self) -> dict[str, DesiredPeer]:
        endpoint = f"tcp://127.0.0.1:{self.stage_port}"
        return {"stage-0": DesiredPeer("stage-0", "stage", LIFE, self.stage.public, endpoint)}

    def senders(self) -> dict[str, DesiredPeer]:
        return {"source-0": DesiredPeer("source-0", "source", LIFE, self.sender.public, "")}

    def handler(self, worker: int) -> Callable[[Any], None]:
        """Counts; in latency runs, also takes the time since the body was made."""
        counts, latencies = self.counts, self.latencies[worker]
        n = 0

        def count(_body: Any) -> None:
            nonlocal n
            n += 1
            counts[worker] = n

        def measure(body: Any) -> None:
            nonlocal n
            if n < SAMPLES:
                latencies[n] = time.perf_counter_ns() - int.from_bytes(body[:8], "little")
            n += 1
            counts[worker] = n

        return measure if self.rate else count

    def body(self) -> bytes:
        return time.perf_counter_ns().to_bytes(8, "little") + bytes(self.size - 8)


def free_ports(count: int) -> list[int]:
    """Ports that were free a moment ago."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [sock.getsockname()[1] for sock in sockets]
    for sock in sockets:
        sock.close()
    return ports


def _child(run: Callable[[], None]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    gc.freeze()
    gc.set_threshold(200_000, 50, 50)
    run()


def cpu_seconds(pid: int) -> float:
    """User and system time of a process."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


Roles = Callable[[str, Setup], dict[str, Callable[[], None]]]
"""(case, setup) → role → what its process runs."""


@dataclass
class Result:
    """Of one run."""

    per_second: float
    cpu: dict[str, float]
    latencies: list[int]


def run(case: str, size: int, workers: int, *, seconds: float, rate: int = 0, roles: Roles) -> Result:
    """Start all processes of a case, wait until messages flow, measure.

    Args:
        case: given to `roles`.
        size: bytes of a message.
        workers: receivers.
        seconds: how long to measure.
        rate: messages per second; 0: as many as go through.
        roles: what the processes of the case run.
    Raises:
        TimeoutError: no message within 20 s.
        RuntimeError: a process ended.
    """
    folder = Path(tempfile.mkdtemp(prefix="gb"))
    setup = Setup(size, workers, rate, folder)
    processes = {}
    fork = multiprocessing.get_context("fork")
    try:
        for name, what in roles(case, setup).items():
            processes[name] = fork.Process(target=_child, args=(what,), daemon=True)
            processes[name].start()
        deadline = time.monotonic() + 20
        while not all(setup.counts):
            if time.monotonic() > deadline:
                raise TimeoutError(f"{case}: no messages after 20 s: {list(setup.counts)}")
            time.sleep(0.01)
        time.sleep(WARM_UP_SECONDS)
        used = {name: cpu_seconds(process.pid or 0) for name, process in processes.items()}
        count, began = sum(setup.counts), time.perf_counter()
        first = list(setup.counts)
        time.sleep(seconds)
        done, took = sum(setup.counts) - count, time.perf_counter() - began
        ended = [name for name, process in processes.items() if not process.is_alive()]
        if ended:
            raise RuntimeError(f"{case}: ended: {', '.join(ended)}")
        cpu: dict[str, float] = {}
        for name, process in processes.items():
            role = name.rstrip("0123456789 ")
            cpu[role] = cpu.get(role, 0.0) + (cpu_seconds(process.pid or 0) - used[name]) / max(done, 1) * 1e6
        samples = [setup.latencies[w][i] for w in range(workers) for i in range(first[w], min(setup.counts[w], SAMPLES))] if rate else []
        return Result(done / took, cpu, samples)
    finally:
        for process in processes.values():
            process.kill()
        for process in processes.values():
            process.join()
        shutil.rmtree(folder, ignore_errors=True)
