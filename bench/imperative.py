"""Agents that a program makes, against bare pyzmq and osBrain: messages, publications, calls, starts, timers.

    python -m bench.imperative [--rounds 5] [--seconds 0.4] [--only push,publish,call,flight,start,timers]

The same program runs on Ganglion and on osBrain, and is written by hand on bare pyzmq: same codec (pickle), same handler, same transport
(ipc; calls: CURVE over tcp, Pyro for osBrain), same kind of loop. Rounds are interleaved: in each, every system does the same work before
the next work begins; a ratio is the median of the rounds' ratios.

- `push N B`: PUSH → PULL, messages handled each second;
- `publish N B, S subscribers`: PUB → SUB with topics, messages handled each second by all subscribers together. A publisher waits for nobody:
  `lost` is the share that subscribers did not get;
- `call`: a proxy's call and its reply, µs; `call p99`;
- `64 in flight`: calls answered each second with 64 under way (osBrain has no such calls);
- `start 100 agents`: seconds until 100 agents were made by `run_agent` and have answered one call each; memory of each;
- `10000 timers`: of one agent, with periods between one and two seconds: share of one CPU, and how late they run.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

from bench.report import RESULTS, plot_ratios, render

SIZES = (32, 1024, 65536, 1 << 20)
SUBSCRIBERS = (1, 8)
WORKS = ("push", "publish", "call", "flight", "start", "timers")
ANSWER_SECONDS = 120.0

MODULES = {"ganglion": ("bench.systems.agents", "ganglion"), "raw": ("bench.systems.raw",), "osbrain": ("bench.systems.agents", "osbrain")}
TARGETS = {
    ("push 32 B, /s", "raw"): 0.9,
    ("push 32 B, /s", "osbrain"): 3.0,
    ("push 1024 B, /s", "raw"): 0.9,
    ("push 1024 B, /s", "osbrain"): 1.5,
    ("push 65536 B, /s", "raw"): 0.9,
    ("push 1048576 B, /s", "raw"): 0.9,
    ("publish 1024 B, 1 subscriber, /s", "raw"): 0.85,
    ("publish 1024 B, 8 subscribers, /s", "raw"): 0.85,
    ("call p50, µs", "raw"): round(1 / 1.15, 2),
    ("64 in flight, /s", "raw"): 0.85,
}
"""(case, anchor) → how many times as quick we are at least."""
START_SECONDS, START_MB = 0.6, 6.0


class System:
    """A process of `bench.systems`."""

    def __init__(self, name: str) -> None:
        self._command = [sys.executable, "-m", *MODULES[name]]
        self._process = subprocess.Popen(self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)

    def do(self, work: str, **arguments: Any) -> dict[str, Any]:
        """Have it do something; its result."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps({"do": work, **arguments}) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"{work} {arguments}: the system's process has ended; run it alone: {' '.join(self._command)}")
        result: dict[str, Any] = json.loads(line)
        return result

    def close(self) -> None:
        """End it and what it has started."""
        with contextlib.suppress(Exception):
            self.do("end")
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


@contextlib.contextmanager
def systems() -> Iterator[dict[str, System]]:
    """All that are installed."""
    names = [name for name in MODULES if name != "osbrain" or importlib.util.find_spec("osbrain") is not None]
    if "osbrain" not in names:
        print("osbrain is not installed: no ratios to it", file=sys.stderr)
    running: dict[str, System] = {}
    try:
        for name in names:
            running[name] = System(name)
        yield running
    finally:
        for system in running.values():
            system.close()


Results = dict[tuple[str, str], list[dict[str, Any]]]


def measure(running: dict[str, System], only: list[str], rounds: int, seconds: float) -> Results:
    """(work, system) → results of the rounds."""
    found: Results = {}

    def each(label: str, work: str, names: tuple[str, ...] = tuple(MODULES), **arguments: Any) -> None:
        for name in names:
            if name in running:
                found.setdefault((label, name), []).append(running[name].do(work, **arguments))

    for number in range(rounds):
        if "push" in only:
            for size in SIZES:
                each(f"push {size} B", "push", size=size, seconds=seconds)
        if "publish" in only:
            for count in SUBSCRIBERS:
                label = f"publish 1024 B, {count} subscriber{'s' if count > 1 else ''}"
                each(label, "publish", size=1024, seconds=seconds, subscribers=count)
        if "call" in only:
            # Short turns: how long a wake-up takes changes with the machine's mood from second to second.
            for _ in range(4):
                each("call", "call", count=250)
        if "flight" in only:
            each("64 in flight", "flight", ("ganglion", "raw"), count=4000, flying=64)
        if "start" in only:
            each("start 100 agents", "start", ("ganglion", "osbrain") if number == 0 else ("ganglion",), agents=100)
        print(f"round {number + 1} of {rounds}", file=sys.stderr, flush=True)
    if "timers" in only:
        each("10000 timers", "timers", ("ganglion",), count=10_000, seconds=4.0)
    return found


def ratio(found: Results, label: str, anchor: str, key: str) -> float | None:
    """Median over the rounds of how many times as quick as an anchor we are; None when it was not measured."""
    theirs = found.get((label, anchor))
    if not theirs:
        return None
    pairs = list(zip(found[label, "ganglion"], theirs, strict=False))
    less_is_better = key != "per_second"
    return float(statistics.median(other[key] / mine[key] if less_is_better else mine[key] / other[key] for mine, other in pairs))


def _compared(found: Results, label: str, key: str, case: str) -> list[dict[str, Any]]:
    """A row for each anchor; one without when there is none."""
    values = [run[key] for run in found[label, "ganglion"]]
    base = {"case": case, "median": statistics.median(values), "low": min(values), "high": max(values)}
    made = []
    for anchor in ("raw", "osbrain"):
        if (times := ratio(found, label, anchor, key)) is None:
            continue
        row = base | {"of": anchor, f"{anchor}'s": statistics.median(run[key] for run in found[label, anchor]), "ratio": times}
        if (target := TARGETS.get((case, anchor))) is not None:
            row |= {"target": target, "met": times >= target}
        made.append(row)
    return made or [base]


def _start(found: Results, label: str) -> list[dict[str, Any]]:
    made = _compared(found, label, "seconds", f"{label}, s")
    memory = found[label, "ganglion"][0]["pss_mb"]
    theirs = found.get((label, "osbrain"), [{}])[0].get("pss_mb")
    if memory is None:
        return made
    row = {"case": f"{label}, MB each", "median": memory, "note": f"target {START_MB:g} MB", "met": memory <= START_MB}
    if theirs is not None:
        row |= {"of": "osbrain", "osbrain's": theirs, "ratio": theirs / memory}
    made[0] |= {"note": f"target {START_SECONDS:g} s", "met": made[0]["median"] <= START_SECONDS}
    return [*made, row]


def rows(found: Results) -> list[dict[str, Any]]:
    """One for each work and anchor."""
    made: list[dict[str, Any]] = []
    for label in dict.fromkeys(label for label, name in found if name == "ganglion"):
        mine = found[label, "ganglion"]
        if label == "call":
            made += [row for key in ("p50", "p99") for row in _compared(found, label, key, f"call {key}, µs")]
        elif label.startswith("start"):
            made += _start(found, label)
        elif label.endswith("timers"):
            (run,) = mine
            late = f"late p50 {run['p50'] / 1000:.2g} ms, p99 {run['p99'] / 1000:.2g} ms, most {run['max'] / 1000:.2g} ms"
            made.append({"case": f"{label}, share of a CPU", "median": run["cpu"], "note": f"{run['runs_per_second']:,.0f} runs/s; {late}"})
        else:
            made += _compared(found, label, "per_second", f"{label}, /s")
            if "lost" in mine[0]:
                lost = {name: statistics.median(run["lost"] for run in runs) for (other, name), runs in found.items() if other == label}
                made[-1]["note"] = "lost " + ", ".join(f"{share:.0%} ({name})" for name, share in lost.items())
    return made


def main(arguments: list[str] | None = None) -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=0.4)
    parser.add_argument("--only", default=",".join(WORKS), help="comma-separated: " + ", ".join(WORKS))
    options = parser.parse_args(arguments)
    only = options.only.split(",")
    if unknown := sorted(set(only) - set(WORKS)):
        parser.error(f"--only: found {unknown[0]!r}; must be of {', '.join(WORKS)}")
    started = time.monotonic()
    with systems() as running:
        found = measure(running, only, options.rounds, options.seconds)
    made = rows(found)
    render("Agents that a program makes; ratio: how many times as quick as bare pyzmq or osBrain", made, RESULTS / "imperative.json")
    plot_ratios("Imperative agents: times as quick as an anchor (black: target)", made, RESULTS / "imperative.png")
    print(f"{time.monotonic() - started:.0f} s", file=sys.stderr)


if __name__ == "__main__":
    main()
