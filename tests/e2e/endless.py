"""The word count for as long as a test breaks things: part of the run's ConfigMap, beside the example that it is made of.

The ventilator sends passes until a file says that this is enough, so that no fault comes too late, however slow the machine is. Workers wait as
much as they work: all queues are full whenever something is killed, and the processors are free for what the cluster does about it.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import wordcount

from ganglion import Agent

WAIT_SECONDS = 0.03
"""What a worker takes over each file beside the counting: two of them then need about half a core."""


def ventilate(agent: Agent) -> None:
    """Send all files again and again.

    Attributes:
        enough: path of the file with which the current pass becomes the last one; workers hurry with the rest of it.
    """
    folder = wordcount.library()
    paths, enough = wordcount.files(folder), Path(agent.get_attr("enough"))
    turn = sent = 0
    while not enough.exists():
        for path in paths:
            wait = 0.0 if enough.exists() else WAIT_SECONDS
            agent.send("tasks", {"pass": turn, "file": str(path.relative_to(folder)), "text": path.read_bytes(), "wait": wait})
            sent += 1
        turn += 1
    print(f"SENT {sent} files in {turn} passes", flush=True)


class Worker(wordcount.Worker):
    """Takes its time."""

    def count(self, task: dict[str, Any]) -> None:
        self.log_debug("counting %s", task["file"])
        time.sleep(task["wait"])
        super().count(task)


class Sink(wordcount.Sink):
    """Compares with as many passes as it has seen some file of; the test compares their number with what was sent."""

    def on_end(self, alias: str) -> None:
        self.set_attr(passes=len({turn for turn, _ in self.totals.seen}))
        super().on_end(alias)
