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
import statistics
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any, Literal

from bench.flow.plain import decode, pull, pull_proxy, push, push_proxy, send_plain
from bench.flow.run import LIFE, Result, Setup, run
from bench.report import RESULTS, plot_ratios, render
from ganglion.runtime.connections import DesiredPeer, zap_domain
from ganglion.runtime.endpoint_plane import BehindSidecar, EndpointPlane, InProcess
from ganglion.runtime.links import Host, Identity
from ganglion.runtime.loop import DataLoop
from ganglion.runtime.plane import InletSpec
from ganglion.runtime.reactor import Reactor
from ganglion.runtime.relay import ReceiveRelay, SendRelay
from ganglion.runtime.sockets import Context, make_context
from ganglion.runtime.zap import ZapHandler, ZapPolicy
from ganglion.wiring import ChannelWiring

CASES = ("proxies", "bare", "sidecars", "in-process")
TARGETS = {
    ("sidecars", 32): ("proxies", 1.0),
    ("sidecars", 1000): ("proxies", 1.5),
    ("sidecars", 16000): ("proxies", 1.0),
    ("in-process", 1000): ("bare", 1.4),
}
"""(case, bytes) → (baseline, least ratio)."""
BASELINES = {"sidecars": "proxies", "in-process": "bare", "pipeline Causal": "pipeline Handler"}
"""Compared where there is no target."""
PIPELINES = ("pipeline Causal", "pipeline Handler")
LATENCY_TARGET = 1.3


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
    """An agent whose one callback sends for ever, as a plain sender does."""
    loop = DataLoop()
    asyncio.set_event_loop(loop)
    reactor = Reactor(loop)
    location = BehindSidecar(setup.leg("source"), "source-0") if sidecar else place(setup, None, "process")
    plane = EndpointPlane(reactor, make_context(), (wiring("Push", bind=False),), location)
    outlet = plane.outlet("out")
    if not sidecar:
        plane.apply({"out": setup.stages() if pipeline else setup.receivers()})
    loop.call_soon(lambda: send_plain(setup, outlet.send))
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
    for name, begin in each.items():
        for worker in range(setup.workers):
            made[f"{name} {worker}"] = partial(begin, worker)
    return {**made, **once}


def throughput_rows(results: dict[tuple[str, int, int], list[Result]]) -> list[dict[str, Any]]:
    """Medians, spread, ratios to the baseline, CPU."""
    rows = []
    for (case, size, workers), runs in results.items():
        rates = [result.per_second for result in runs]
        median = statistics.median(rates)
        row: dict[str, Any] = {"case": f"{case} {size} B ×{workers}", "median": median, "low": min(rates), "high": max(rates)}
        baseline, least = TARGETS.get((case, size), (BASELINES.get(case, ""), 0.0))
        others = results.get((baseline, size, workers))
        if others:
            ratios = [mine.per_second / other.per_second for mine, other in zip(runs, others, strict=True)]
            row |= {
                "of": baseline,
                "ratio": statistics.median(ratios),
                "ratios": f"{min(ratios):.2f}-{max(ratios):.2f}",
                "target": least or None,
            }
            row["met"] = row["ratio"] >= least if least else None
        rows.append(row | cpu_columns(runs))
    return rows


def cpu_columns(runs: list[Result]) -> dict[str, float]:
    """CPU µs per message of every process."""
    known = (role for role in ("sender", "sender sidecar", "stage", "receiver sidecar", "receiver") if role in runs[0].cpu)
    return {f"{role} µs": statistics.median(result.cpu[role] for result in runs) for role in known}


def latency_rows(results: dict[str, list[Result]]) -> list[dict[str, Any]]:
    """Median over rounds of each round's percentiles, in µs."""
    rows = []
    for case, runs in results.items():
        percentiles = [statistics.quantiles(result.latencies, n=100) for result in runs]
        p50 = statistics.median(p[49] for p in percentiles) / 1000
        p99 = statistics.median(p[98] for p in percentiles) / 1000
        row: dict[str, Any] = {"case": case, "p50 µs": p50, "p99 µs": p99, "low": min(p[49] for p in percentiles) / 1000}
        row["high"] = max(p[49] for p in percentiles) / 1000
        rows.append(row | cpu_columns(runs))
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
                    results.setdefault((case, size, workers), []).append(run(case, size, workers, seconds=options.seconds, roles=roles))
        for case in PIPELINES if set(CASES) <= set(cases) else ():
            results.setdefault((case, 1000, 1), []).append(run(case, 1000, 1, seconds=options.seconds, roles=roles))
        if not options.no_latency:
            for case in cases:
                latencies.setdefault(case, []).append(run(case, 1000, 1, seconds=2.0, rate=1000, roles=roles))
        print(f"round {number + 1} of {options.rounds}", file=sys.stderr, flush=True)
    title = "PushPull with CURVE, messages per second (at least once: sidecars, in-process; best effort: proxies, bare)"
    rows = throughput_rows(results)
    render(title, rows, RESULTS / "dataplane.json", RESULTS / "dataplane.png")
    plot_ratios(
        "At least once, messages per second: ratio to best effort (line: target)",
        rows,
        RESULTS / "dataplane-ratios.png",
    )
    if latencies:
        title = "One way, single messages of 1,000 B at 1,000/s, µs"
        render(title, latency_rows(latencies), RESULTS / "dataplane-latency.json", RESULTS / "dataplane-latency.png", value="p50 µs")


if __name__ == "__main__":
    main()
