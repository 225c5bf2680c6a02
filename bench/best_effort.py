"""Best-effort PushPull: two sidecars against two hand-written proxies, and the in-process plane against bare pyzmq. Messages per second.

    python -m bench.best_effort [--rounds 5] [--sizes 32,1024,65536] [--seconds 1.5] [--cases ...]

Cases (one sender, one receiver; every role is a process; rounds interleaved, medians of the rounds' ratios):

- `chain`: PUSH → zmq.proxy → CURVE → zmq.proxy → PULL, as one would write it by hand;
- `plain legs`: the same plain programs, with two sidecars' steerable proxies between them;
- `sdk peers`: outlet → sidecar → CURVE → sidecar → inlet, with batches;
- `raw CURVE`, `raw NULL`: PUSH → PULL, a loop that receives, decodes and calls the handler;
- `plane CURVE`, `plane NULL`: outlet → inlet in process.

All handlers get a decoded message (the identity codec) and count it.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import sys
from collections.abc import Callable
from typing import Any

import zmq

from bench.dataplane import admit, cpu_columns
from bench.flow.plain import decode, pull, pull_proxy, push, push_proxy, send_plain
from bench.flow.run import Result, Setup, run
from bench.report import RESULTS, render
from ganglion.runtime.carrier_legs import Network
from ganglion.runtime.carrier_plane import CarrierPlane
from ganglion.runtime.connections import DesiredPeer
from ganglion.runtime.loop import DataLoop
from ganglion.runtime.plane import InletSpec
from ganglion.runtime.proxied import ProxiedChannel
from ganglion.runtime.reactor import Reactor
from ganglion.runtime.sockets import make_context
from ganglion.wiring import AgentWiring, ChannelWiring, NameServerWiring, WiringDocument

CASES = ("chain", "plain legs", "sdk peers", "raw CURVE", "plane CURVE", "raw NULL", "plane NULL")
BASELINES = {"plain legs": "chain", "sdk peers": "chain", "plane CURVE": "raw CURVE", "plane NULL": "raw NULL"}
TARGETS = {"plain legs": 0.95, "sdk peers": 1.3, "plane CURVE": 0.9, "plane NULL": 0.9}
TARGET_1KIB_CURVE = 1.3
ALIAS = "jobs"


def document(role: str, *, frames: str) -> tuple[WiringDocument, ChannelWiring]:
    """Wiring of one end; the receiver binds."""
    channel = ChannelWiring(
        alias=ALIAS,
        channel="bench",
        pattern="PushPull",
        role="Push" if role == "Push" else "Pull",
        peer_role="Pull" if role == "Push" else "Push",
        bind=role == "Pull",
        carrier="Proxy",
        frames="Bare" if frames == "Bare" else "Ganglion",
        speaks="Plain" if frames == "Bare" else "Sdk",
        delivery="BestEffort",
        ack="Causal",
        codec="Raw",
        high_water_mark=1024,
        max_message_bytes=1 << 20,
        linger_seconds=0,
        overflow="Block",
    )
    server = NameServerWiring(name="bench", namespace="bench", uid="bench", endpoint="", public_key="")
    agent = AgentWiring(name="bench", namespace="bench", run="Always", data_plane="Sidecar")
    return WiringDocument(name_server=server, agent=agent, channels=(channel,)), channel


def fresh_reactor() -> Reactor:
    """In a loop of this process."""
    loop = DataLoop()
    asyncio.set_event_loop(loop)
    return Reactor(loop)


def network(setup: Setup, role: str, *, curve: bool) -> Network:
    """Sockets of one end; handshakes are answered where it binds."""
    context = make_context()
    if role == "Push":
        return Network(context, "127.0.0.1", 0, setup.sender if curve else None)
    if curve:
        admit(context, document("Pull", frames="Ganglion")[1], setup.senders())
    return Network(context, "127.0.0.1", setup.ports[0], setup.keys[0] if curve else None)


def peers(setup: Setup, role: str) -> dict[str, DesiredPeer]:
    """The other end."""
    return setup.receivers() if role == "Push" else setup.senders()


def sidecar(setup: Setup, role: str, *, frames: str) -> None:
    """One end's sidecar."""
    reactor = fresh_reactor()
    wiring, channel = document(role, frames=frames)
    folder = setup.leg(role)
    proxied = ProxiedChannel(network(setup, role, curve=True), wiring, channel, reactor, run_dir=folder, replica=role)
    proxied.apply(peers(setup, role))
    reactor.loop.run_forever()


def plain_push(setup: Setup) -> None:
    """A plain program behind a sidecar."""
    out = zmq.Context().socket(zmq.PUSH)
    out.connect(f"ipc://{setup.leg('Push')}/{ALIAS}.sock")
    send_plain(setup, out.send)


def plain_pull(setup: Setup) -> None:
    """A plain program behind a sidecar."""
    into = zmq.Context().socket(zmq.PULL)
    into.connect(f"ipc://{setup.leg('Pull')}/{ALIAS}.sock")
    handler, recv = setup.handler(0), into.recv
    while True:
        handler(decode(recv()))


def raw_push(setup: Setup) -> None:
    """A bare sender without CURVE."""
    out = zmq.Context().socket(zmq.PUSH)
    out.connect(setup.endpoint(0))
    send_plain(setup, out.send)


def raw_pull(setup: Setup) -> None:
    """A bare receiver without CURVE."""
    into = zmq.Context().socket(zmq.PULL)
    into.bind(setup.endpoint(0))
    handler, recv = setup.handler(0), into.recv
    while True:
        handler(decode(recv()))


def plane(setup: Setup, role: str, reactor: Reactor, *, behind: bool, curve: bool) -> tuple[CarrierPlane, ChannelWiring]:
    """The SDK's plane of one end."""
    wiring, channel = document(role, frames="Ganglion")
    if behind:
        made = CarrierPlane(wiring, reactor, role, behind=(make_context(), setup.leg(role)))
    else:
        made = CarrierPlane(wiring, reactor, role, network=network(setup, role, curve=curve))
    return made, channel


def agent_sender(setup: Setup, *, behind: bool, curve: bool = True) -> None:
    """Sends from the loop's thread."""
    reactor = fresh_reactor()
    made, channel = plane(setup, "Push", reactor, behind=behind, curve=curve)
    outlet = made.outlet(channel)
    made.apply({ALIAS: peers(setup, "Push")})
    reactor.loop.call_soon(lambda: send_plain(setup, outlet.send))
    reactor.loop.run_forever()


def agent_receiver(setup: Setup, *, behind: bool, curve: bool = True) -> None:
    """Receives in the loop."""
    reactor = fresh_reactor()
    made, channel = plane(setup, "Pull", reactor, behind=behind, curve=curve)
    made.inlet(channel, InletSpec(ALIAS, decode, setup.handler(0))).start()
    made.apply({ALIAS: peers(setup, "Pull")})
    reactor.loop.run_forever()


def roles(case: str, setup: Setup) -> dict[str, Callable[[], None]]:
    """Role → what its process runs."""
    if case == "chain":
        return {
            "receiver sidecar": lambda: pull_proxy(setup, 0),
            "receiver": lambda: pull(setup, 0, direct=False),
            "sender sidecar": lambda: push_proxy(setup),
            "sender": lambda: push(setup, direct=False),
        }
    if case == "plain legs":
        return {
            "receiver sidecar": lambda: sidecar(setup, "Pull", frames="Bare"),
            "receiver": lambda: plain_pull(setup),
            "sender sidecar": lambda: sidecar(setup, "Push", frames="Bare"),
            "sender": lambda: plain_push(setup),
        }
    if case == "sdk peers":
        return {
            "receiver sidecar": lambda: sidecar(setup, "Pull", frames="Ganglion"),
            "receiver": lambda: agent_receiver(setup, behind=True),
            "sender sidecar": lambda: sidecar(setup, "Push", frames="Ganglion"),
            "sender": lambda: agent_sender(setup, behind=True),
        }
    if case == "raw CURVE":
        return {"receiver": lambda: pull(setup, 0, direct=True), "sender": lambda: push(setup, direct=True)}
    if case == "raw NULL":
        return {"receiver": lambda: raw_pull(setup), "sender": lambda: raw_push(setup)}
    curve = case == "plane CURVE"
    return {
        "receiver": lambda: agent_receiver(setup, behind=False, curve=curve),
        "sender": lambda: agent_sender(setup, behind=False, curve=curve),
    }


def rows(results: dict[tuple[str, int], list[Result]]) -> list[dict[str, Any]]:
    """Medians, spread, ratios to the baseline of the same round, CPU."""
    found = []
    for (case, size), runs in results.items():
        rates = [result.per_second for result in runs]
        row: dict[str, Any] = {"case": f"{case} {size} B", "median": statistics.median(rates), "low": min(rates), "high": max(rates)}
        baseline = BASELINES.get(case)
        others = results.get((baseline, size)) if baseline is not None else None
        if others:
            ratios = [mine.per_second / other.per_second for mine, other in zip(runs, others, strict=True)]
            target = TARGET_1KIB_CURVE if (case, size) == ("plane CURVE", 1024) else TARGETS[case]
            ratio = statistics.median(ratios)
            row |= {
                "of": baseline,
                "ratio": ratio,
                "ratios": f"{min(ratios):.2f}-{max(ratios):.2f}",
                "target": target,
                "met": ratio >= target,
            }
        found.append(row | cpu_columns(runs))
    return found


def main(arguments: list[str] | None = None) -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--sizes", default="32,1024,65536")
    parser.add_argument("--seconds", type=float, default=1.5)
    parser.add_argument("--cases", default=",".join(CASES))
    options = parser.parse_args(arguments)
    results: dict[tuple[str, int], list[Result]] = {}
    for number in range(options.rounds):
        for size in map(int, options.sizes.split(",")):
            for case in options.cases.split(","):
                results.setdefault((case, size), []).append(run(case, size, 1, seconds=options.seconds, roles=roles))
        print(f"round {number + 1} of {options.rounds}", file=sys.stderr, flush=True)
    title = "Best-effort PushPull, messages per second (CURVE but for the last two cases)"
    render(title, rows(results), RESULTS / "best-effort.json", RESULTS / "best-effort.png")


if __name__ == "__main__":
    main()
