"""Analyse recordings with workers that join, leave, fail and report errors while the work goes on.

    source --tasks--> worker, helper --results, errors--> collector --notices--> worker, helper
       '------------------------ given-up -------------------^

Every recording ends in exactly one of four ways, and the collector proves it: analysed; damaged, which the worker reports as an error;
skipped, because the collector has told all workers to ignore its sensor; given up by the runtime, because it failed three times.
"""

from __future__ import annotations

import collections
import functools
import math
import os
import zlib
from array import array
from pathlib import Path
from typing import Any

from ganglion import Agent

RATE = 8000
"""Samples per second."""
TONES = (440, 660, 880, 1320)
"""Hz. Which one is in a recording follows from its number, so that the collector knows what a worker must find."""
SENSORS = (
    {"name": "attic", "place": {"floor": 3, "room": "north"}},
    {"name": "hall", "place": {"floor": 0, "room": "entrance"}},
    {"name": "garden", "place": {"floor": 0, "room": None}},
    {"name": "cellar", "place": {"floor": -1, "room": "boiler"}},
)
FAULTY = "cellar"
"""Every second recording of this sensor is damaged."""
PATIENCE = 3
"""Damaged recordings after which a sensor is ignored."""
BUG = 40
"""The recording that shows a bug of the worker: its handler raises, whoever gets it."""
CRASH = 60
"""The recording that ends its worker, as a segmentation fault would."""


class DamagedError(Exception):
    """A recording is not as its sensor sent it."""


@functools.cache
def wave(tone: int) -> bytes:
    """Half a second of a tone, 16 bits a sample."""
    return array("h", (round(9000 * math.sin(2 * math.pi * tone * i / RATE)) for i in range(RATE // 2))).tobytes()


def tone_of(number: int) -> int:
    """What is to be heard in a recording, in Hz."""
    return TONES[number // len(SENSORS) % len(TONES)]


def recording(number: int) -> dict[str, Any]:
    """A recording: of one of the sensors, long or short, two tracks."""
    sensor = SENSORS[number % len(SENSORS)]
    samples = wave(tone_of(number))[: 800 * (1 + number * 7 % 10)]
    tracks = [{"side": side, "samples": samples, "crc": zlib.crc32(samples)} for side in ("left", "right")]
    if sensor["name"] == FAULTY and number // len(SENSORS) % 2:
        tracks[1]["samples"] = samples[:-1]
    rate = 0 if number == BUG else RATE
    return {"id": number, "sensor": sensor, "format": {"rate": rate, "tracks": tracks}, "deadly": number == CRASH}


def power(samples: array[int], rate: int, tone: int) -> float:
    """How much of one frequency there is (Goertzel's algorithm)."""
    factor = 2 * math.cos(2 * math.pi * tone / rate)
    last = before = 0.0
    for sample in samples:
        last, before = sample + factor * last - before, last
    return last * last + before * before - factor * last * before


def analyse(found: dict[str, Any]) -> dict[str, Any]:
    """Loudest tone and peak of each track.

    Raises:
        DamagedError: a checksum is wrong.
    """
    if found["deadly"]:
        os._exit(139)  # no handler, no hook, no goodbye; a signal would not do: a container's first process ignores its own
    tracks = {}
    for track in found["format"]["tracks"]:
        if zlib.crc32(track["samples"]) != track["crc"]:
            raise DamagedError(f"track {track['side']}: the checksum of {len(track['samples'])} bytes is wrong")
        samples = array("h", track["samples"])
        tone = max(TONES, key=functools.partial(power, samples, found["format"]["rate"]))
        tracks[track["side"]] = {"tone": tone, "peak": max(map(abs, samples))}
    return tracks


def produce(agent: Agent) -> None:
    """Send recordings; returning ends the stream, for any number of workers.

    Attributes:
        recordings: how many.
        until: go on until this file exists instead; empty: no such file.
    """
    until = agent.get_attr("until")
    number = 0
    while not Path(until).exists() if until else number < int(agent.get_attr("recordings")):
        agent.send("tasks", recording(number))
        number += 1
    agent.send("results", {"sent": number})


class Worker(Agent):
    """Analyses one recording at a time.

    What it expects to go wrong it reports. What it does not expect is the runtime's business: the recording is handled again, by another
    worker if there is one, and given up after three attempts.
    """

    def on_init(self) -> None:
        self.ignored: set[str] = set()

    def work(self, task: dict[str, Any]) -> None:
        who = {"id": task["id"], "worker": self.replica}
        if task["sensor"]["name"] in self.ignored:
            self.send("results", {**who, "skipped": True})
            return
        try:
            tracks = analyse(task)
        except DamagedError as error:
            self.send("errors", {**who, "sensor": task["sensor"], "error": {"type": type(error).__name__, "message": str(error)}})
            return
        self.send("results", {**who, "tracks": tracks})

    def notice(self, notice: dict[str, Any]) -> None:
        self.ignored.add(notice["ignore"])

    def on_end(self, alias: str) -> None:
        """Every recording is settled. `notices` go on as long as the collector does, and that waits for this end."""
        if alias == "tasks":
            self.end("results")
            self.end("errors")


class Helper(Worker):
    """A worker for a while: leaves in the middle of the work. What it holds by then goes to others.

    Attributes:
        limit: recordings that it takes.
    """

    limit: int

    def on_init(self) -> None:
        super().on_init()
        self.taken = 0

    def work(self, task: dict[str, Any]) -> None:
        super().work(task)
        self.taken += 1
        if self.taken == self.limit:
            self.log_info(f"Leaving after {self.taken} recordings")
            self.shutdown()

    def on_end(self, alias: str) -> None:
        super().on_end(alias)
        self.shutdown()


class Collector(Agent):
    """Collects results, errors and what was given up; has sensors ignored; proves in the end that nothing is missing."""

    def on_init(self) -> None:
        self.sent = -1
        self.outcomes: dict[int, str] = {}
        self.wrong: list[int] = []
        self.repeated = 0
        self.workers: collections.Counter[str] = collections.Counter()
        self.damaged: collections.Counter[str] = collections.Counter()
        self.open = {"results", "errors", "given-up"}

    def settle(self, number: int, outcome: str, worker: str = "") -> bool:
        """Note how a recording ended; false for one that was handled again because its first worker was lost."""
        if number in self.outcomes:
            self.repeated += 1
            return False
        self.outcomes[number] = outcome
        if worker:
            self.workers[worker] += 1
        return True

    def result(self, message: dict[str, Any]) -> None:
        if "sent" in message:
            self.sent = message["sent"]
        elif "skipped" in message:
            self.settle(message["id"], "skipped", message["worker"])
        else:
            self.settle(message["id"], "analysed", message["worker"])
            if any(track["tone"] != tone_of(message["id"]) for track in message["tracks"].values()):
                self.wrong.append(message["id"])

    def error(self, message: dict[str, Any]) -> None:
        sensor = message["sensor"]["name"]
        if self.settle(message["id"], "damaged", message["worker"]):
            self.damaged[sensor] += 1
            self.log_warning(f"{message['worker']}: recording {message['id']} of {sensor}: {message['error']['message']}")
        # Once more with each further error: nobody keeps publications, and a worker that has joined since learns it at its first mistake.
        if self.damaged[sensor] >= PATIENCE:
            self.send("notices", {"ignore": sensor}, topic=f"ignore/{sensor}")

    def give_up(self, task: dict[str, Any]) -> None:
        self.settle(task["id"], "given up")
        self.log_warning(f"Recording {task['id']} was given up")

    def on_end(self, alias: str) -> None:
        self.open.discard(alias)
        if not self.open:
            self.prove()
            self.shutdown()

    def prove(self) -> None:
        for worker, count in sorted(self.workers.items()):
            print(f"{count:7d}  {worker}", flush=True)
        missing = sorted(set(range(self.sent)) - set(self.outcomes))
        # Only a damaged recording may be called damaged, only the faulty sensor's may be skipped. Whatever fails three times is given up.
        lies = sorted(number for number, outcome in self.outcomes.items() if not plausible(number, outcome))
        if self.sent < 0 or missing or lies or self.wrong:
            raise SystemExit(f"NOT proved: sent {self.sent}, missing {missing[:5]}, untrue {lies[:5]}, wrong tone {self.wrong[:5]}")
        counts = collections.Counter(self.outcomes.values())
        given_up = sorted(number for number, outcome in self.outcomes.items() if outcome == "given up")
        print(
            f"PROOF: each of {self.sent} recordings is accounted for: {counts['analysed']} analysed, {counts['damaged']} damaged, "
            f"{counts['skipped']} skipped, {counts['given up']} given up {given_up}; {self.repeated} repetitions dropped",
            flush=True,
        )


def plausible(number: int, outcome: str) -> bool:
    """Whether a recording can have ended like this."""
    faulty = SENSORS[number % len(SENSORS)]["name"] == FAULTY
    damaged = faulty and number // len(SENSORS) % 2 == 1
    match outcome:
        case "analysed":
            return not damaged and number not in (BUG, CRASH)
        case "damaged":
            return damaged
        case "skipped":
            return faulty
        case _:
            return outcome == "given up"
