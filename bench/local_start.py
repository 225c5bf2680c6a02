"""Time until 100 local agents are registered and wired, against a forkserver that starts 100 bare pyzmq processes.

    python -m bench.local_start [--agents 100] [--rounds 5]

Each figure is taken in a fresh process, rounds interleaved. The clock starts before the forking process is started and stops when

- baseline: each process, forked with zmq imported, has sent one message over its own socket;
- floor: what agents do then, in a page of pyzmq, see `bench.local_floor`;
- agents: the name server counts each as joined and connected to a peer on its channel (one sender, all others receive), CURVE on.

Beside the time: CPU that each replica (with its sidecar) had used until then, and its share of the memory (PSS), where /proc tells.
"""

from __future__ import annotations

import argparse
import asyncio
import compileall
import contextlib
import importlib.util
import json
import multiprocessing
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Collection
from pathlib import Path
from typing import Any

from bench.report import RESULTS, render

TARGET = 2.0
"""Largest ratio of the in-process plane to the baseline."""
CODE = "from ganglion import Agent\n\n\nclass Idle(Agent):\n    def take(self, message):\n        pass\n"


def weigh(processes: Collection[int], replicas: int) -> dict[str, float]:
    """CPU used so far and memory of these processes, for each replica; empty where the system does not tell."""
    cpu = pss = 0.0
    try:
        for process in processes:
            for thread in Path(f"/proc/{process}/task").iterdir():
                # A thread may end while it is looked at.
                with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                    cpu += int((thread / "schedstat").read_text().split()[0]) / 1e6
            rollup = Path(f"/proc/{process}/smaps_rollup").read_text()
            pss += int(rollup.split("\nPss:")[1].split()[0]) / 1024
    except OSError:
        return {}
    return {"cpu_ms": cpu / replicas, "pss_mb": pss / replicas}


def _bare(endpoint: str) -> None:
    import zmq

    context = zmq.Context()
    socket = context.socket(zmq.DEALER)
    socket.connect(endpoint)
    socket.send(b"ready")
    socket.recv()
    socket.close()
    context.term()


def baseline(count: int) -> dict[str, float]:
    """`seconds` until `count` forked pyzmq processes have said hello, and what they weigh."""
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
    result = {"seconds": time.perf_counter() - started, **weigh([child.pid for child in children if child.pid is not None], count)}
    for name in names:
        socket.send_multipart([name, b""])
    for child in children:
        child.join(30)
    socket.close()
    context.term()
    return result


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


def agents(count: int, plane: str) -> dict[str, float]:
    """`seconds` until `count` agents are joined and wired, and what they weigh."""
    from ganglion.local.bundle import Bundle
    from ganglion.local.environment import Options
    from ganglion.local.spawner import Spawner
    from ganglion.local.state import StateDirectory
    from ganglion.local.supervisor import Supervisor

    bundle = Bundle.from_json({"objects": _objects(count, plane), "configMaps": [], "secrets": {}, "places": {}})
    spawner = Spawner()

    async def measure(state: StateDirectory) -> dict[str, float]:
        started = time.perf_counter()
        spawner.start()
        supervisor = Supervisor(bundle, state, spawner, Options(), _Silent(), stay=True)
        life = asyncio.ensure_future(supervisor.run())
        result: dict[str, float] = {}
        while not life.done():
            wired = sum(group.counts.wired for group in supervisor.groups.values())
            if wired == count:
                seconds = time.perf_counter() - started
                replicas = [replica for group in supervisor.groups.values() for replica in group.replicas.values()]
                children = [child for replica in replicas for child in (replica.agent, replica.sidecar) if child is not None]
                result = {"seconds": seconds, **weigh([child.pid for child in children if child.pid is not None], count)}
                break
            await asyncio.wait([life], timeout=0.005)
        supervisor.end("measured", 0)
        await life
        if not result:
            raise RuntimeError(f"the domain ended before {count} agents were wired")
        return result

    with tempfile.TemporaryDirectory() as home:
        os.environ["XDG_STATE_HOME"] = home
        with StateDirectory("bench") as state:
            return asyncio.run(measure(state))


def _fresh(what: str, count: int) -> dict[str, float]:
    # Not `-m`: the children of a forkserver import the main module of their parent again, which would slow the baseline down.
    call = f"agents({count}, {what!r})" if what in ("InProcess", "Sidecar") else f"{what}({count})"
    imports = "import json; from bench.local_floor import floor; from bench.local_start import agents, baseline"
    command = [sys.executable, "-c", f"{imports}; print(json.dumps({call}))"]
    root = Path(__file__).resolve().parent.parent
    done = subprocess.run(command, capture_output=True, text=True, cwd=root, timeout=300, check=False)
    if done.returncode:
        raise SystemExit(f"{what}: {done.stderr[-2000:]}")
    return dict(json.loads(done.stdout.splitlines()[-1]))


def main() -> int:
    """Print the table; exit code 1 when the target is missed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--agents", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    # An installed package has its bytecode; a source tree has none where none is written.
    source = importlib.util.find_spec("ganglion")
    for folder in (source.submodule_search_locations or ()) if source is not None else ():
        compileall.compile_dir(folder, quiet=1)
    found: dict[str, list[dict[str, float]]] = {"baseline": [], "floor": [], "InProcess": [], "Sidecar": []}
    for _ in range(options.rounds):
        for what, results in found.items():
            results.append(_fresh(what, options.agents))
    reference = statistics.median(result["seconds"] for result in found["baseline"])
    rows: list[dict[str, Any]] = []
    for what, results in found.items():
        seconds = sorted(result["seconds"] for result in results)
        median = statistics.median(seconds)
        weights: dict[str, float] = {
            key: statistics.median(result[key] for result in results) for key in ("cpu_ms", "pss_mb") if key in results[0]
        }
        row: dict[str, Any] = {"case": what, "median": median, "low": seconds[0], "high": seconds[-1], "ratio": median / reference}
        judged: dict[str, Any] = {"target": TARGET, "reached": median / reference <= TARGET} if what == "InProcess" else {}
        rows.append({**row, **weights, **judged})
    title = f"{options.agents} local agents joined and wired: seconds; CPU and memory of each replica ({options.rounds} rounds)"
    render(title, rows, RESULTS / "local_start.json", RESULTS / "local_start.png")
    return 0 if all(row.get("reached", True) for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
