"""At-least-once PushPull against best-effort ZeroMQ, with CURVE everywhere: messages per second, CPU per message, latency.

    python -m bench.dataplane [--rounds 5] [--sizes 32,1000,16000] [--workers 1,3] [--seconds 1.5] [--cases ...]

Cases (one sender; every role is a process; rounds interleaved, medians shown):

- `proxies`: PUSH → zmq.proxy → CURVE → zmq.proxy → PULL, the best-effort chain that sidecars replace;
- `bare`: PUSH → CURVE → PULL;
- `sidecars`: at least once through two sidecars: credit, acknowledgements and ledger on;
- `in-process`: the same without sidecars;
- `pipeline Causal`, `pipeline Handler`: source → stage → sink in process; the stage's inputs are acknowledged when what it sent is, or
  when its handler returned.

All handlers get a decoded message (the identity codec) and count it.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import multiprocessing
import os
import shutil
import signal
import socket
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from multiprocessing.sharedctypes import RawArray
from pathlib import Path
from typing import Any, Literal

import zmq

from bench.report import RESULTS, render
from ganglion.runtime.connections import DesiredPeer, zap_domain
from ganglion.runtime.endpoint_plane import BehindSidecar, EndpointPlane, InProcess
from ganglion.runtime.links import Host, Identity
from ganglion.runtime.loop import DataLoop
from ganglion.runtime.plane import InletSpec
from ganglion.runtime.reactor import Reactor
from ganglion.runtime.relay import ReceiveRelay, SendRelay
from ganglion.runtime.sockets import Context, CurveKeys, make_context
from ganglion.runtime.zap import ZapHandler, ZapPolicy
from ganglion.wire.control import Incarnation
from ganglion.wiring import ChannelWiring

CASES = ("proxies", "bare", "sidecars", "in-process")
TARGETS = {
    ("sidecars", 32): ("proxies", 1.0),
    ("sidecars", 1000): ("proxies", 1.5),
    ("sidecars", 16000): ("proxies", 1.0),
    ("in-process", 1000): ("bare", 1.4),
}
"""(case, bytes) → (baseline, least ratio)."""
PIPELINES = ("pipeline Causal", "pipeline Handler")
LATENCY_TARGET = 1.3
WARM_UP_SECONDS = 0.7
SAMPLES = 20000


def wiring(role: str, *, bind: bool, name: str = "bench", ack: Literal["Causal", "Handler"] = "Causal") -> ChannelWiring:
    """The channel of the bench, with its defaults."""
    return ChannelWiring(
        alias="in" if role == "Pull" else "out",
        channel=name,
        pattern="PushPull",
        role="Pull" if role == "Pull" else "Push",
        peer_role="Push" if role == "Pull" else "Pull",
        bind=bind,
        carrier="Endpoint",
        frames="Ganglion",
        speaks="Sdk",
        delivery="AtLeastOnce",
        ack=ack,
        codec="Raw",
        high_water_mark=1024,
        max_message_bytes=1 << 20,
        linger_seconds=0,
        overflow="Block",
    )


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


LIFE = Incarnation("bench", 1, 0)


def free_ports(count: int) -> list[int]:
    """Ports that were free a moment ago."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [sock.getsockname()[1] for sock in sockets]
    for sock in sockets:
        sock.close()
    return ports


def decode(body: bytes | memoryview) -> bytes | memoryview:
    """The identity codec."""
    return body


# -- baselines


def push(setup: Setup, *, direct: bool) -> None:
    """A plain sender."""
    context = zmq.Context()
    out = context.socket(zmq.PUSH)
    if direct:
        connect(out, setup)
    else:
        out.connect(f"ipc://{setup.folder}/push")
    send_plain(setup, out.send)


def send_plain(setup: Setup, send: Callable[[bytes], Any]) -> None:
    """Flood, or keep the rate."""
    if not setup.rate:
        body = setup.body()
        while True:
            send(body)
    due = time.perf_counter()
    while True:
        due += 1 / setup.rate
        time.sleep(max(0.0, due - time.perf_counter()))
        send(setup.body())


def connect(out: Any, setup: Setup) -> None:
    """Connect a CURVE client to every worker."""
    out.curve_publickey, out.curve_secretkey = setup.sender.public.encode(), setup.sender.secret.encode()
    for i, keys in enumerate(setup.keys):
        out.curve_serverkey = keys.public.encode()
        out.connect(setup.endpoint(i))


def serve(into: Any, setup: Setup, worker: int) -> None:
    """Bind a CURVE server."""
    keys = setup.keys[worker]
    into.curve_publickey, into.curve_secretkey, into.curve_server = keys.public.encode(), keys.secret.encode(), True
    into.bind(setup.endpoint(worker))


def pull(setup: Setup, worker: int, *, direct: bool) -> None:
    """A plain receiver."""
    context = zmq.Context()
    into = context.socket(zmq.PULL)
    if direct:
        serve(into, setup, worker)
    else:
        into.connect(f"ipc://{setup.folder}/pull-{worker}")
    handler, recv = setup.handler(worker), into.recv
    while True:
        handler(decode(recv()))


def push_proxy(setup: Setup) -> None:
    """The sender's proxy."""
    context = zmq.Context()
    front, back = context.socket(zmq.PULL), context.socket(zmq.PUSH)
    front.bind(f"ipc://{setup.folder}/push")
    connect(back, setup)
    zmq.proxy(front, back)


def pull_proxy(setup: Setup, worker: int) -> None:
    """A receiver's proxy."""
    context = zmq.Context()
    front, back = context.socket(zmq.PULL), context.socket(zmq.PUSH)
    serve(front, setup, worker)
    back.bind(f"ipc://{setup.folder}/pull-{worker}")
    zmq.proxy(front, back)


# -- ganglion


def admit(context: Context, channel: ChannelWiring, peers: dict[str, DesiredPeer]) -> None:
    """Answer CURVE handshakes as the control thread does."""
    policy = ZapPolicy()
    policy.allow(zap_domain(channel), frozenset(peer.key for peer in peers.values()))
    handler = ZapHandler(context, policy)

    def run() -> None:
        while True:
            handler.socket.poll()
            handler.answer()

    threading.Thread(target=run, daemon=True).start()


def place(setup: Setup, worker: int | None, host: Host) -> InProcess:
    """Where a process with network sockets is."""
    if worker is None:
        return InProcess(Identity("source-0", LIFE, host), setup.sender, "tcp://127.0.0.1")
    return InProcess(Identity(f"worker-{worker}", LIFE, host), setup.keys[worker], "tcp://127.0.0.1", {"in": setup.ports[worker]})


def agent_sender(setup: Setup, *, sidecar: bool, pipeline: bool = False) -> None:
    """An agent that sends from its loop's thread."""
    loop = DataLoop()
    asyncio.set_event_loop(loop)
    reactor = Reactor(loop)
    location = BehindSidecar(setup.leg("source"), "source-0") if sidecar else place(setup, None, "process")
    plane = EndpointPlane(reactor, make_context(), (wiring("Push", bind=False),), location)
    outlet = plane.outlet("out")
    if not sidecar:
        plane.apply({"out": setup.stages() if pipeline else setup.receivers()})

    def flood() -> None:
        body = setup.body()
        send = outlet.send
        while True:
            send(body)

    def beat(due: float) -> None:
        outlet.send(setup.body())
        loop.call_at(due + 1 / setup.rate, beat, due + 1 / setup.rate)

    loop.call_soon(*((beat, loop.time()) if setup.rate else (flood,)))
    loop.run_forever()


def agent_stage(setup: Setup, ack: Literal["Causal", "Handler"]) -> None:
    """The middle of a pipeline: sends on whatever it receives."""
    loop = DataLoop()
    asyncio.set_event_loop(loop)
    reactor, context = Reactor(loop), make_context()
    channels = (wiring("Pull", bind=True, ack=ack), wiring("Push", bind=False, name="results"))
    admit(context, channels[0], setup.senders())
    location = InProcess(Identity("stage-0", LIFE, "process"), setup.stage, "tcp://127.0.0.1", {"in": setup.stage_port})
    plane = EndpointPlane(reactor, context, channels, location)
    send = plane.outlet("out").send
    plane.inlet(InletSpec("in", decode, lambda body: void(send(body)))).start()
    plane.apply({"in": setup.senders(), "out": setup.receivers()})
    loop.run_forever()


def void(_value: object) -> None:
    """A handler returns nothing."""


def agent_receiver(setup: Setup, worker: int, *, sidecar: bool, pipeline: bool = False) -> None:
    """An agent that receives."""
    loop = DataLoop()
    asyncio.set_event_loop(loop)
    reactor, context = Reactor(loop), make_context()
    channel = wiring("Pull", bind=True, name="results" if pipeline else "bench")
    peers = {"stage-0": replace(setup.stages()["stage-0"], endpoint="")} if pipeline else setup.senders()
    if not sidecar:
        admit(context, channel, peers)
    location = BehindSidecar(setup.leg(f"worker-{worker}"), f"worker-{worker}") if sidecar else place(setup, worker, "process")
    plane = EndpointPlane(reactor, context, (channel,), location)
    plane.inlet(InletSpec("in", decode, setup.handler(worker))).start()
    plane.apply({"in": peers})
    loop.run_forever()


def sidecar_of(setup: Setup, worker: int | None) -> None:
    """The sidecar of the sender (None) or of a worker."""
    loop = DataLoop()
    asyncio.set_event_loop(loop)
    reactor, context = Reactor(loop), make_context()
    if worker is None:
        sending = SendRelay(reactor, context, wiring("Push", bind=False), place(setup, None, "sidecar"), setup.leg("source"))
        sending.port.set_peers(setup.receivers())
    else:
        channel = wiring("Pull", bind=True)
        admit(context, channel, setup.senders())
        relay = ReceiveRelay(reactor, context, channel, place(setup, worker, "sidecar"), setup.leg(f"worker-{worker}"))
        relay.port.set_peers(setup.senders())
    loop.run_forever()


# -- running


def roles(case: str, setup: Setup) -> dict[str, Callable[[], None]]:
    """Role → what its process runs."""
    each: dict[str, Callable[[int], None]]
    once: dict[str, Callable[[], None]]
    if case == "proxies":
        once = {"sender sidecar": lambda: push_proxy(setup), "sender": lambda: push(setup, direct=False)}
        each = {"receiver sidecar": lambda w: pull_proxy(setup, w), "receiver": lambda w: pull(setup, w, direct=False)}
    elif case == "bare":
        once = {"sender": lambda: push(setup, direct=True)}
        each = {"receiver": lambda w: pull(setup, w, direct=True)}
    elif case == "sidecars":
        once = {"sender sidecar": lambda: sidecar_of(setup, None), "sender": lambda: agent_sender(setup, sidecar=True)}
        each = {"receiver sidecar": lambda w: sidecar_of(setup, w), "receiver": lambda w: agent_receiver(setup, w, sidecar=True)}
    elif case in PIPELINES:
        ack: Literal["Causal", "Handler"] = "Causal" if case.endswith("Causal") else "Handler"
        once = {"stage": lambda: agent_stage(setup, ack), "sender": lambda: agent_sender(setup, sidecar=False, pipeline=True)}
        each = {"receiver": lambda w: agent_receiver(setup, w, sidecar=False, pipeline=True)}
    else:
        once = {"sender": lambda: agent_sender(setup, sidecar=False)}
        each = {"receiver": lambda w: agent_receiver(setup, w, sidecar=False)}
    made: dict[str, Callable[[], None]] = {}
    for name, run in each.items():
        for worker in range(setup.workers):
            made[f"{name} {worker}"] = lambda run=run, worker=worker: run(worker)  # type: ignore[misc]
    return {**made, **once}


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


def run(case: str, size: int, workers: int, *, seconds: float, rate: int = 0, roles: Roles = roles) -> Result:
    """Start all processes of a case, wait until messages flow, measure."""
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


def throughput_rows(results: dict[tuple[str, int, int], list[Result]]) -> list[dict[str, Any]]:
    """Medians, spread, ratios to the baseline, CPU."""
    rows = []
    for (case, size, workers), runs in results.items():
        rates = [result.per_second for result in runs]
        median = statistics.median(rates)
        row: dict[str, Any] = {"case": f"{case} {size} B ×{workers}", "median": median, "low": min(rates), "high": max(rates)}
        baseline, least = TARGETS.get((case, size), ("proxies" if case == "sidecars" else "bare", 0.0))
        others = results.get((baseline, size, workers))
        if case in ("sidecars", "in-process") and others:
            ratios = [mine.per_second / other.per_second for mine, other in zip(runs, others, strict=True)]
            row |= {"of": baseline, "ratio": statistics.median(ratios), "target": least or None}
            row["met"] = row["ratio"] >= least if least else None
        for role in ("sender", "sender sidecar", "stage", "receiver sidecar", "receiver"):
            if role in runs[0].cpu:
                row[f"{role} µs"] = statistics.median(result.cpu[role] for result in runs)
        rows.append(row)
    return rows


def latency_rows(results: dict[str, list[Result]]) -> list[dict[str, Any]]:
    """Median over rounds of each round's percentiles, in µs."""
    rows = []
    for case, runs in results.items():
        percentiles = [statistics.quantiles(result.latencies, n=100) for result in runs]
        p50 = statistics.median(p[49] for p in percentiles) / 1000
        p99 = statistics.median(p[98] for p in percentiles) / 1000
        row: dict[str, Any] = {"case": case, "p50 µs": p50, "p99 µs": p99, "low": min(p[49] for p in percentiles) / 1000}
        row["high"] = max(p[49] for p in percentiles) / 1000
        rows.append(row)
    by_case = {row["case"]: row for row in rows}
    for mine, other in (("sidecars", "proxies"), ("in-process", "bare")):
        if mine in by_case and other in by_case:
            ratio = by_case[mine]["p50 µs"] / by_case[other]["p50 µs"]
            by_case[mine] |= {"of": other, "ratio": ratio, "target": LATENCY_TARGET, "met": ratio <= LATENCY_TARGET}
    return rows


def main(arguments: list[str] | None = None) -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--sizes", default="32,1000,16000")
    parser.add_argument("--workers", default="1,3")
    parser.add_argument("--seconds", type=float, default=1.5)
    parser.add_argument("--cases", default=",".join(CASES))
    parser.add_argument("--no-latency", action="store_true")
    options = parser.parse_args(arguments)
    cases = options.cases.split(",")
    results: dict[tuple[str, int, int], list[Result]] = {}
    latencies: dict[str, list[Result]] = {}
    for number in range(options.rounds):
        for size in map(int, options.sizes.split(",")):
            for workers in map(int, options.workers.split(",")):
                for case in cases:
                    results.setdefault((case, size, workers), []).append(run(case, size, workers, seconds=options.seconds))
        for case in PIPELINES if set(CASES) <= set(cases) else ():
            results.setdefault((case, 1000, 1), []).append(run(case, 1000, 1, seconds=options.seconds))
        if not options.no_latency:
            for case in cases:
                latencies.setdefault(case, []).append(run(case, 1000, 1, seconds=2.0, rate=1000))
        print(f"round {number + 1} of {options.rounds}", file=sys.stderr, flush=True)
    title = "PushPull with CURVE, messages per second (at least once: sidecars, in-process; best effort: proxies, bare)"
    render(title, throughput_rows(results), RESULTS / "dataplane.json", RESULTS / "dataplane.png")
    if latencies:
        title = "One way, single messages of 1,000 B at 1,000/s, µs"
        render(title, latency_rows(latencies), RESULTS / "dataplane-latency.json", RESULTS / "dataplane-latency.png", value="p50 µs")


if __name__ == "__main__":
    main()
