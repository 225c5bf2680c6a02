"""Time until 100 local agents are registered and wired, against a forkserver that starts 100 bare pyzmq processes.

    python bench/local_start.py [--agents 100] [--rounds 5] [--json FILE]

Each figure is taken in a fresh process, rounds interleaved. The clock starts before the forking process is started and stops when

- baseline: each process, forked with zmq imported, has sent one message over its own socket;
- agents: the name server counts each as joined and connected to a peer on its channel (one sender, all others receive), CURVE on.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

TARGET = 2.0
"""Largest ratio of the in-process plane to the baseline."""
CODE = "from ganglion import Agent\n\n\nclass Idle(Agent):\n    def take(self, message):\n        pass\n"


def _bare(endpoint: str) -> None:
    import zmq

    context = zmq.Context()
    socket = context.socket(zmq.DEALER)
    socket.connect(endpoint)
    socket.send(b"ready")
    socket.recv()
    socket.close()
    context.term()


def baseline(count: int) -> float:
    """Seconds until `count` forked pyzmq processes have said hello."""
    import zmq

    context = zmq.Context()
    socket = context.socket(zmq.ROUTER)
    port = socket.bind_to_random_port("tcp://127.0.0.1")
    processes = multiprocessing.get_context("forkserver")
    processes.set_forkserver_preload(["zmq", "bench.local_start"])
    started = time.perf_counter()
    children = [processes.Process(target=_bare, args=(f"tcp://127.0.0.1:{port}",)) for _ in range(count)]
    for child in children:
        child.start()
    names = [socket.recv_multipart()[0] for _ in range(count)]
    seconds = time.perf_counter() - started
    for name in names:
        socket.send_multipart([name, b""])
    for child in children:
        child.join(30)
    socket.close()
    context.term()
    return seconds


def _objects(count: int, plane: str) -> list[dict[str, Any]]:
    def item(kind: str, name: str, spec: dict[str, Any]) -> dict[str, Any]:
        return {"apiVersion": "ganglion.dev/v1alpha1", "kind": kind, "metadata": {"name": name}, "spec": spec}

    def idle(name: str, replicas: int, role: str) -> dict[str, Any]:
        channel = {"alias": "work", "channelRef": {"name": "work"}, "role": role, **({"handler": "take"} if role == "Pull" else {})}
        code = {"inline": {"idle.py": CODE}}
        return item(
            "Agent",
            name,
            {
                "nameServerRef": {"name": "bench"},
                "class": "idle:Idle",
                "code": code,
                "channels": [channel],
                "replicas": replicas,
                "dataPlane": plane,
            },
        )

    channel = item("Channel", "work", {"nameServerRef": {"name": "bench"}, "pattern": "PushPull"})
    return [item("NameServer", "bench", {}), channel, idle("hub", 1, "Push"), idle("leaf", count - 1, "Pull")]


class _Silent:
    def line(self, replica: str, source: str, text: str) -> None:
        if source != "agent":
            print(f"{replica}/{source} | {text}", file=sys.stderr)

    def say(self, text: str, *, level: str = "info") -> None:
        if level != "info":
            print(text, file=sys.stderr)

    def refresh(self) -> None:
        pass


def agents(count: int, plane: str) -> float:
    """Seconds until `count` agents are joined and wired."""
    from ganglion.local.bundle import Bundle
    from ganglion.local.environment import Options
    from ganglion.local.spawner import Spawner
    from ganglion.local.state import StateDirectory
    from ganglion.local.supervisor import Supervisor

    bundle = Bundle.from_json({"objects": _objects(count, plane), "configMaps": [], "secrets": {}, "places": {}})
    spawner = Spawner()

    async def measure(state: StateDirectory) -> float:
        started = time.perf_counter()
        spawner.start()
        supervisor = Supervisor(bundle, state, spawner, Options(), _Silent(), stay=True)
        life = asyncio.ensure_future(supervisor.run())
        seconds = 0.0
        while not life.done():
            wired = sum(group.counts.wired for group in supervisor.groups.values())
            if wired == count:
                seconds = time.perf_counter() - started
                break
            await asyncio.wait([life], timeout=0.005)
        supervisor.end("measured", 0)
        await life
        return seconds

    with tempfile.TemporaryDirectory() as home:
        os.environ["XDG_STATE_HOME"] = home
        with StateDirectory("bench") as state:
            return asyncio.run(measure(state))


def _fresh(what: str, count: int) -> float:
    # Not `-m`: the children of a forkserver import the main module of their parent again, which would slow the baseline down.
    call = f"baseline({count})" if what == "baseline" else f"agents({count}, {what!r})"
    command = [sys.executable, "-c", f"from bench.local_start import agents, baseline; print({call})"]
    root = Path(__file__).resolve().parent.parent
    done = subprocess.run(command, capture_output=True, text=True, cwd=root, timeout=300, check=False)
    if done.returncode:
        raise SystemExit(f"{what}: {done.stderr[-2000:]}")
    return float(done.stdout.split()[-1])


def main() -> int:
    """Print the table; exit code 1 when the target is missed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--agents", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    figures: dict[str, list[float]] = {"baseline": [], "InProcess": [], "Sidecar": []}
    for _ in range(options.rounds):
        for what, seconds in figures.items():
            seconds.append(_fresh(what, options.agents))
    reference = statistics.median(figures["baseline"])
    print(f"{options.agents} agents, {options.rounds} rounds, seconds until joined and wired")
    rows = []
    for what, seconds in figures.items():
        median = statistics.median(seconds)
        rows.append({"what": what, "median": median, "min": min(seconds), "max": max(seconds), "ratio": median / reference})
        print(f"{what:10}  {median:.3f}  ({min(seconds):.3f} .. {max(seconds):.3f})  {median / reference:.2f}x")
    if options.json is not None:
        options.json.write_text(json.dumps({"agents": options.agents, "rows": rows}, indent=1))
    return 0 if statistics.median(figures["InProcess"]) / reference <= TARGET else 1


if __name__ == "__main__":
    sys.exit(main())
