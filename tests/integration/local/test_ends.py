"""Ends under load: whoever works leaves in order, what was sent is handled, and nobody waits in vain."""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.local.domain import CODE, Desk, agent, channel, desk, pipeline, server, write
from tests.support.wait import wait_for

pytestmark = pytest.mark.timeout(180)

ENDS_CODE = (
    CODE
    + '''

class Endless(Agent):
    """Sends for ever, and says how much."""

    def on_init(self):
        self.sent = 0
        self.each(0.001, self.tick)

    def tick(self):
        self.send("work", self.sent)
        self.sent += 1

    def on_exit(self):
        print("SENT", self.sent, flush=True)


class Relay(Agent):
    def take(self, number):
        self.send("results", number)

    def on_exit(self):
        print(f"{self.name} on_exit", flush=True)


class Counter(Agent):
    def on_init(self):
        self.seen = set()

    def take(self, number):
        self.seen.add(number)

    def on_exit(self):
        print("SEEN", len(self.seen), flush=True)


class Round(Agent):
    """Passes on what it gets, for ever; `first` messages start it."""

    def before_loop(self):
        for number in range(int(self.get_attr("first"))):
            self.send("out", number)

    def take(self, number):
        self.send("out", number)

    def on_exit(self):
        print(f"{self.name} on_exit", flush=True)


class Manager(Agent):
    """Hands out work and collects the answers."""

    def on_init(self):
        self.sent = 0
        self.answers = set()
        self.each(0.002, self.tick)

    def tick(self):
        self.send("out", self.sent)
        self.sent += 1

    def take(self, number):
        self.answers.add(number)

    def on_exit(self):
        print("SENT", self.sent, "SEEN", len(self.answers), flush=True)
'''
)


@pytest.fixture
def user(tmp_path: Path) -> Iterator[Desk]:
    with desk(tmp_path / "home") as found:
        yield found


def delivered(user: Desk, name: str) -> int:
    return int(user.status("Channel", name).get("delivered", 0))


def number_after(word: str, output: str) -> int:
    found = re.findall(rf"{word} (\d+)", output)
    assert len(found) == 1, (word, output)
    return int(found[0])


def loaded(plane: str, *, timeout: int) -> list[dict[str, Any]]:
    """A source that never ends, three workers, a sink; and a program that ignores SIGTERM."""
    deaf = agent("deaf", "", [])
    deaf["spec"] = {
        "nameServerRef": {"name": "shop"},
        "container": {"image": "any", "command": ["sh", "-c", "trap '' TERM; while :; do sleep 1; done"]},
    }
    return [
        server(shutdown={"timeoutSeconds": timeout}),
        channel("work", highWaterMark=64),
        channel("results", bind="Pull"),
        agent("source", "agents:Endless", [("work", "Push", None)], dataPlane=plane),
        agent("worker", "agents:Relay", [("work", "Pull", "take"), ("results", "Push", None)], replicas=3, dataPlane=plane),
        agent("sink", "agents:Counter", [("results", "Pull", "take")], dataPlane=plane),
        deaf,
    ]


@pytest.mark.parametrize(("plane", "how"), [("Sidecar", "ctrl-c"), ("InProcess", "ctrl-c"), ("Sidecar", "down")])
def test_the_end_under_load_with_a_frozen_agent_and_one_that_ignores_sigterm(user: Desk, tmp_path: Path, plane: str, how: str) -> None:
    folder = write(tmp_path / "app", loaded(plane, timeout=20), ENDS_CODE)
    healthy = ("source-0", "worker-1", "worker-2", "sink-0")
    if how == "down":
        assert user.command("up", "-f", str(folder), "--detach").returncode == 0
    else:
        process = user.up(folder, "--log-level", "DEBUG")
    wait_for(lambda: user.ready("worker-0", *healthy) or len(user.replicas()) == 6, what="all replicas")
    wait_for(lambda: all(user.replicas()[name]["ready"] for name in healthy), timeout=60, what="readiness")
    wait_for(lambda: delivered(user, "results") > 100, timeout=60, what="results")
    run = user.run
    os.kill(user.replicas()["worker-0"]["pid"], signal.SIGSTOP)
    began = time.monotonic()
    if how == "down":
        done = user.command("down", timeout=60)
        assert "down" in done.stdout + done.stderr
        output = "".join(path.read_text() for path in sorted((user.home / "ganglion" / "shop" / "logs").glob("*.log")))
    else:
        process.send_signal(signal.SIGINT)
        assert process.wait(40) == 130
        # How long a process takes to exit after that is the machine's affair.
        heard = (user.home / "ganglion" / "shop" / "logs" / "shop.nameserver.log").read_text()
        assert [name for name in healthy if f"{name} says goodbye" not in heard] == [], f"the name server leaves last\n{heard}"
        output = user.output()
        [killed] = [line for line in output.splitlines() if "killed because they did not end in time" in line]
        assert set(re.findall(r"\w+-\d", killed)) == {"worker-0", "deaf-0"}
    assert time.monotonic() - began < 30
    assert output.count("worker on_exit") == 2
    assert number_after("SEEN", output) == number_after("SENT", output)
    user.assert_nothing_left(run)


def loop(plane: str, left: str, right: str) -> list[dict[str, Any]]:
    """Two agents, each behind the other."""
    objects: list[dict[str, Any]] = [
        server(shutdown={"timeoutSeconds": 60}),
        channel("there", ack="Handler"),
        channel("back", ack="Handler"),
    ]
    for name, target, out, back, first in (("left", left, "there", "back", 20), ("right", right, "back", "there", 0)):
        body = agent(name, f"agents:{target}", [], dataPlane=plane, attributes={"first": first})
        body["spec"]["channels"] = [
            {"alias": "out", "channelRef": {"name": out}, "role": "Push"},
            {"alias": "in", "channelRef": {"name": back}, "role": "Pull", "handler": "take"},
        ]
        objects.append(body)
    return objects


@pytest.mark.parametrize("plane", ["Sidecar", "InProcess"])
def test_a_loop_does_not_hold_up_the_end(user: Desk, tmp_path: Path, plane: str) -> None:
    process = user.up(write(tmp_path / "app", loop(plane, "Round", "Round"), ENDS_CODE))
    wait_for(lambda: delivered(user, "there") > 100, timeout=60, what="messages that go round")
    process.send_signal(signal.SIGINT)
    assert process.wait(25) == 130
    assert {"left on_exit", "right on_exit"} <= set(re.findall(r"\w+ on_exit", user.output()))
    assert "killed" not in user.output()


@pytest.mark.parametrize("plane", ["Sidecar", "InProcess"])
def test_who_hands_out_work_gets_all_answers_before_the_end(user: Desk, tmp_path: Path, plane: str) -> None:
    process = user.up(write(tmp_path / "app", loop(plane, "Manager", "Round"), ENDS_CODE))
    wait_for(lambda: delivered(user, "back") > 100, timeout=60, what="answers")
    process.send_signal(signal.SIGINT)
    assert process.wait(25) == 130
    assert number_after("SEEN", user.output()) == number_after("SENT", user.output())


@pytest.mark.parametrize(("plane", "target"), [("Sidecar", "nowhere:Sink"), ("InProcess", "nowhere:Sink"), ("Sidecar", "agents:Broken")])
def test_a_sink_that_cannot_start_holds_up_nobody(user: Desk, tmp_path: Path, plane: str, target: str) -> None:
    objects = pipeline(tmp_path / "report", stop=tmp_path / "stop", plane=plane)
    objects[0] = server(shutdown={"timeoutSeconds": 60})
    objects[-1]["spec"]["class"] = target
    process = user.up(write(tmp_path / "app", objects, ENDS_CODE))
    wait_for(lambda: "cannot start; shutting down" in user.output(), timeout=60, what="the verdict")
    # A few seconds on an idle machine; without receivers to wait for, never the domain's bound.
    assert process.wait(20) == 78
    assert user.output().count("Agent/sink: ConfigurationError") == 1
    user.assert_nothing_left(None)
