"""Best effort in local mode: kills lose messages, and the counts never hide it."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.local.domain import CODE, Desk, desk, pipeline, reported, squares, write
from tests.support.wait import wait_for

pytestmark = pytest.mark.timeout(180)

LASTING_CODE = (
    CODE
    + '''

def ventilate_and_stay(agent):
    """Messages are large: of small ones the kernel would keep 100,000, half a minute's work after the last kill."""
    stop, number, padding = agent.get_attr("until"), 0, bytes(4000)
    while not os.path.exists(stop):
        agent.send("work", [number, padding])
        number += 1
    Path(agent.get_attr("sent")).write_text(str(number))
    agent.end("work")


class Unpacker(Worker):
    def square(self, message):
        super().square(message[0])


class LastingSink(Sink):
    """Stays when all is done: its counts can be looked at."""

    def shutdown(self):
        pass
'''
)


@pytest.fixture
def user(tmp_path: Path) -> Iterator[Desk]:
    with desk(tmp_path / "home") as found:
        yield found


@pytest.mark.parametrize("plane", ["Sidecar", "InProcess"])
def test_best_effort_never_hides_a_loss(user: Desk, tmp_path: Path, plane: str) -> None:
    report, stop = tmp_path / "report.json", tmp_path / "stop"
    objects = pipeline(report, stop=stop, effort=20_000, plane=plane)
    for item in objects:
        if item["kind"] == "Channel":
            item["spec"]["delivery"] = "BestEffort"
    source, worker, sink = objects[-3:]
    source["spec"] |= {"class": "agents:ventilate_and_stay", "run": "Always"}
    worker["spec"]["class"] = "agents:Unpacker"
    sink["spec"] |= {"class": "agents:LastingSink", "run": "Always"}
    process = user.up(write(tmp_path / "app", objects, LASTING_CODE))

    def count(name: str, field: str = "delivered") -> int:
        return int(user.status("Channel", name).get(field, 0))

    for victim in ("worker-0", "worker-1", "worker-0/sidecar" if plane == "Sidecar" else "worker-0"):
        done = count("results")
        wait_for(lambda: count("results") > done + 50, timeout=60, what=f"work before {victim} is killed")  # noqa: B023
        name, _, part = victim.partition("/")
        member = "sidecarPid" if part else "pid"
        pid = wait_for(lambda: user.replicas().get(name, {}).get(member), what=f"a process id of {victim}")  # noqa: B023
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        wait_for(lambda: user.replicas().get(name, {}).get(member) not in (None, pid), what=f"the restart of {victim}")  # noqa: B023
    stop.touch()
    wait_for(report.exists, timeout=90, what="the end of the stream")
    found = reported(report)
    assert found["duplicates"] == 0
    sent = int(stop.with_name("stop.sent").read_text())
    assert found["squares"].items() <= squares(sent).items()
    lost = sent - len(found["squares"])
    assert lost > 0, "no kill lost anything: nothing was tested"
    wait_for(lambda: (count("work", "accepted"), count("results")) == (sent, len(found["squares"])), what="the last counts")
    unaccounted = {name: count(name, "unaccounted") for name in ("work", "results")}
    assert sum(unaccounted.values()) >= lost, f"{lost} of {sent} lost, unaccounted for: {unaccounted}"
    process.send_signal(signal.SIGINT)
    assert process.wait(40) == 130
