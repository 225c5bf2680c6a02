"""Channels of pattern DealerRouter: the example, kills, receivers that go for good, and the end of the domain."""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.local.domain import Desk, agent, channel, desk, reported, server, write
from tests.integration.local.test_domain import kill_and_await
from tests.support.wait import wait_for

pytestmark = pytest.mark.timeout(180)

EXAMPLE = Path(__file__).parents[3] / "examples" / "shelves"

CODE = '''
import asyncio
import json
import os
from pathlib import Path

from ganglion import Agent, UnknownReceiver


def write(path, report):
    Path(path + ".part").write_text(json.dumps(report))
    Path(path + ".part").rename(path)


class Echo(Agent):
    """Sends back what it got: a Dealer to any Router, a Router to the one that asked."""

    def heard(self, body):
        to = self.sent_by if self.get_attr("answers") == "Router" else None
        self.send("talk", [*body, self.replica], to=to)


class Asker(Agent):
    """Has ten numbers under way with each peer until a file exists; then waits for the last echoes."""

    def on_init(self):
        self.next = 0
        self.owed = {}
        self.wrong = []
        self.peers = self.get_attr("peers") or [None]
        self.handle("talk", self.heard)
        self.each(0.01, self.tick)

    def tick(self):
        if os.path.exists(self.get_attr("until")):
            if not self.owed:
                write(self.get_attr("report"), {"asked": self.next, "wrong": self.wrong, "channels": self.channels})
                self.shutdown()
            return
        for peer in self.peers:
            while sum(1 for other in self.owed.values() if other == peer) < 10:
                self.owed[self.next] = peer
                self.send("talk", [self.next, self.replica], to=peer)
                self.next += 1

    def heard(self, body):
        number, asker, echo = body
        if asker != self.replica or echo != self.sent_by or self.owed.get(number, echo) not in (echo, None):
            self.wrong.append([body, self.sent_by, self.owed.get(number)])
        self.owed.pop(number, None)


class Holder(Agent):
    """Handles nothing to its end."""

    async def heard(self, body):
        await asyncio.Event().wait()


class Caller(Agent):
    """Sends to one Dealer until there is no such one any more, and sees that there never was another one."""

    def on_init(self):
        self.sent = 0
        self.errors = []
        self.each(0.01, self.tick)

    def tick(self):
        try:
            self.send("talk", self.sent, to="holder-1")
            self.sent += 1
        except UnknownReceiver as error:
            self.errors.append(str(error))
        try:
            self.send("talk", "nobody", to="holder-7")
        except UnknownReceiver as error:
            if len(self.errors) == 1:
                self.errors.append(str(error))
                self.stop_all_timers()
                write(self.get_attr("report"), {"sent": self.sent, "errors": self.errors})


class Letters(Agent):
    def on_init(self):
        self.bodies = []

    def dead(self, body):
        self.bodies.append(body)
        write(self.get_attr("letters"), self.bodies)
'''


@pytest.fixture
def user(tmp_path: Path) -> Iterator[Desk]:
    with desk(tmp_path / "home") as found:
        yield found


PLAIN = """
import json, os, zmq
context = zmq.Context()
legs = "ipc://" + os.environ["GANGLION_RUN_DIR"] + "/talk"
into, out = context.socket(zmq.REP), context.socket(zmq.PUSH)
into.connect(legs + ".in.sock")
out.connect(legs + ".sock")
while True:
    out.send_string(json.dumps([*json.loads(into.recv()), os.environ["GANGLION_REPLICA"]]))
    into.send(b"")
"""


def conversation(tmp_path: Path, *, plane: str, asks: str, plain: bool = False) -> tuple[Path, Path, Path]:
    """Folder of manifests, the file that ends the asking, and the asker's report."""
    stop, report = tmp_path / "stop", tmp_path / "report.json"
    answers = "Dealer" if asks == "Router" else "Router"
    peers = ["echo-0", "echo-1"] if asks == "Router" else None
    attributes = {"until": str(stop), "report": str(report), "peers": peers}
    echo = agent("echo", "agents:Echo", [("talk", answers, "heard")], replicas=2, attributes={"answers": answers}, dataPlane=plane)
    if plain:
        echo = agent("echo", "", [("talk", answers, None)], replicas=2)
        del echo["spec"]["class"], echo["spec"]["code"]
        echo["spec"]["container"] = {"image": "none", "command": [sys.executable, "-c", PLAIN]}
    objects = [
        # A program that speaks plain ZeroMQ hears of the end when the flow's half of this is over.
        server(shutdown={"timeoutSeconds": 10 if plain else 20}),
        channel("talk", pattern="DealerRouter", codec="Json"),
        echo,
        agent("asker", "agents:Asker", [("talk", asks, None)], run="Once", attributes=attributes, dataPlane=plane),
    ]
    return write(tmp_path / "app", objects, CODE), stop, report


@pytest.mark.parametrize("plane", ["InProcess", "Sidecar"])
def test_the_example(user: Desk, tmp_path: Path, plane: str) -> None:
    folder = tmp_path / "shelves"
    folder.mkdir()
    for path in EXAMPLE.iterdir():
        if path.is_file():
            text = path.read_text().replace("  class: shelves:", f"  dataPlane: {plane}\n  class: shelves:")
            (folder / path.name).write_text(text)
    user.domain = "shelves"
    process = user.up(folder)
    assert process.wait(60) == 0, user.output()
    lines = [line.partition("| ")[2] for line in user.output().splitlines() if line.startswith("librarian-0 | ") and ": " in line]
    assert "Emma: 4 on shelf-2" in lines, "each title was kept at one place"
    assert "Dracula: 2 on shelf-0" in lines


@pytest.mark.parametrize(("plane", "asks"), [("InProcess", "Router"), ("Sidecar", "Router"), ("Sidecar", "Dealer")])
def test_each_answer_comes_from_whom_it_was_asked(user: Desk, tmp_path: Path, plane: str, asks: str) -> None:
    folder, stop, report = conversation(tmp_path, plane=plane, asks=asks)
    process = user.up(folder)
    wait_for(lambda: int(user.status("Channel", "talk").get("delivered", 0)) > 0, timeout=60, what="the first numbers")
    run = user.run
    # A Router that is killed loses what it has not sent: its Dealers keep what they asked, and ask again.
    victims = ["echo-0", "nameserver", "echo-1"] + (["echo-0/sidecar", "asker-0/sidecar"] if plane == "Sidecar" else [])
    for victim in victims:
        kill_and_await(user, process, victim, "talk")
    status = user.status("Channel", "talk")
    assert (status["senders"], status["receivers"], status["bind"], status["delivery"]) == (3, 3, "Router", "AtLeastOnce")
    stop.touch()
    wait_for(report.exists, timeout=60, what="the last echo")
    found = reported(report)
    assert found["asked"] > 0
    assert found["wrong"] == []
    assert found["channels"] == ["talk"], "the code knows one alias"
    assert process.wait(60) == 0, user.output()
    user.assert_nothing_left(run)


def test_a_plain_program_is_a_dealer(user: Desk, tmp_path: Path) -> None:
    folder, stop, report = conversation(tmp_path, plane="Sidecar", asks="Router", plain=True)
    process = user.up(folder)
    wait_for(lambda: int(user.status("Channel", "talk").get("delivered", 0)) > 200, timeout=60, what="numbers there and back")
    stop.touch()
    assert process.wait(60) == 0, user.output()
    found = reported(report)
    assert found["asked"] > 100
    assert found["wrong"] == [], "each program got what was for it, and was named by what its sidecar is known as"


@pytest.mark.parametrize("plane", ["InProcess", "Sidecar"])
def test_what_waits_for_a_replica_that_is_scaled_away_becomes_a_dead_letter(user: Desk, tmp_path: Path, plane: str) -> None:
    report, letters = tmp_path / "report.json", tmp_path / "letters.json"
    objects = [
        server(),
        channel("talk", pattern="DealerRouter", deadLetter={"name": "letters"}),
        channel("letters"),
        agent("holder", "agents:Holder", [("talk", "Dealer", "heard")], replicas=2, dataPlane=plane),
        agent("caller", "agents:Caller", [("talk", "Router", None)], attributes={"report": str(report)}, dataPlane=plane),
        agent("letters", "agents:Letters", [("letters", "Pull", "dead")], attributes={"letters": str(letters)}, dataPlane=plane),
    ]
    process = user.up(write(tmp_path / "app", objects, CODE))
    wait_for(lambda: int(user.status("Channel", "talk").get("inFlight", 0)) > 3, timeout=60, what="messages that a Dealer holds")
    run = user.run
    assert user.command("scale", "agent/holder", "--replicas", "1").returncode == 0
    wait_for(report.exists, timeout=60, what="the error of a send to nobody")
    found = reported(report)
    gone, never = found["errors"]
    assert gone == "channel 'talk': no replica 'holder-1' receives on it, or will again; there are: holder-0"
    assert never == "channel 'talk': no replica 'holder-7' receives on it, or will again; there are: holder-0"
    wait_for(
        lambda: letters.exists() and sorted(json.loads(letters.read_text())) == list(range(found["sent"])),
        timeout=30,
        what="all dead letters",
    )
    wait_for(lambda: user.status("Channel", "talk").get("inFlight") == 0, what="an account at rest")
    status = user.status("Channel", "talk")
    assert status["deadLettered"] == status["accepted"] == found["sent"]
    assert "its receiver 'holder-1' is gone for good" in user.output()
    process.send_signal(signal.SIGINT)
    assert process.wait(40) == 130, user.output()
    user.assert_nothing_left(run)


@pytest.mark.parametrize("plane", ["InProcess", "Sidecar"])
def test_a_conversation_that_goes_on_ends_with_its_domain(user: Desk, tmp_path: Path, plane: str) -> None:
    folder, _, report = conversation(tmp_path, plane=plane, asks="Router")
    process = user.up(folder)
    wait_for(lambda: int(user.status("Channel", "talk").get("delivered", 0)) > 100, timeout=60, what="a conversation")
    run = user.run
    process.send_signal(signal.SIGINT)
    assert process.wait(40) == 130, user.output()
    assert not report.exists()
    assert "killed" not in user.output()
    user.assert_nothing_left(run)
