"""A domain that works for ever: a source that counts, workers, and a sink that knows what it has seen."""

from __future__ import annotations

from typing import Any

from tests.e2e.domain import agent, channel, link, name_server

NAME = "zoo"
AGENTS = ("source", "worker", "sink")
WORKERS = 2

CODE = """
    import signal
    import time
    from ganglion import Agent

    class Source(Agent):
        def on_init(self):
            self.sent = 0
            self.each(0.01, self.tick)

        def tick(self):
            for _ in range(20):
                self.send("out", self.sent)
                self.sent += 1

        def on_exit(self):
            print("ON_EXIT", self.sent, flush=True)

    class Worker(Agent):
        def on_init(self):
            self.done = 0

        def work(self, number):
            time.sleep(0.001)
            self.send("out", number)
            self.done += 1

        def on_exit(self):
            print("ON_EXIT", self.done, flush=True)

    class Sink(Agent):
        def on_init(self):
            self.seen = set()

        def take(self, number):
            self.seen.add(number)

        def on_exit(self):
            print("ON_EXIT", len(self.seen), max(self.seen) + 1, flush=True)

    def deaf(agent):
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        print("RUNNING", flush=True)
        while True:
            time.sleep(1)
"""
# A program of its own that holds on to its pod for as long as it is let.
DEAF_PROGRAM = ["sh", "-c", "trap '' TERM INT; echo RUNNING; while :; do sleep 1; done"]


def zoo(*, timeout: int = 30, plane: str = "Sidecar") -> list[dict[str, Any]]:
    """Source → workers → sink.

    Args:
        timeout: `shutdown.timeoutSeconds`.
        plane: `dataPlane` of all of them.
    """
    common = {"code": CODE, "dataPlane": plane}
    work, results = link("in", "work", "Pull", handler="work"), link("out", "results", "Push")
    return [
        name_server(NAME, shutdown={"timeoutSeconds": timeout}),
        channel("work", NAME, "PushPull", bind="Push", highWaterMark=512),
        channel("results", NAME, "PushPull", bind="Pull", highWaterMark=512),
        agent("source", NAME, [link("out", "work", "Push")], class_="agents:Source", **common),
        agent("worker", NAME, [work, results], class_="agents:Worker", replicas=WORKERS, **common),
        agent("sink", NAME, [link("in", "results", "Pull", handler="take")], class_="agents:Sink", **common),
    ]


def stubborn(image: str) -> list[dict[str, Any]]:
    """Two more agents of it that never end by themselves: one of the SDK, and a program in `image`, which has a shell."""
    return [
        agent("deaf", NAME, [], class_="agents:deaf", code=CODE),
        agent("program", NAME, [], container={"image": image, "command": DEAF_PROGRAM}),
    ]
