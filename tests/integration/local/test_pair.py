"""Channels of pattern Pair: the example, kills, plain programs and the end of the domain."""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.local.domain import Desk, agent, channel, desk, reported, server, write
from tests.integration.local.test_domain import kill_and_await
from tests.support.wait import wait_for

pytestmark = pytest.mark.timeout(180)

EXAMPLE = Path(__file__).parents[3] / "examples" / "guess"

CODE = '''
import json
import os
from pathlib import Path

from ganglion import Agent


class Echo(Agent):
    def heard(self, number):
        self.send("talk", number)


class Asker(Agent):
    """Has twenty numbers under way until a file exists; then waits for the last echo."""

    def on_init(self):
        self.next = 0
        self.owed = set()
        self.handle("talk", self.heard)
        self.each(0.01, self.tick)

    def tick(self):
        if os.path.exists(self.get_attr("until")):
            if not self.owed:
                part = Path(self.get_attr("report") + ".part")
                part.write_text(json.dumps({"asked": self.next, "channels": self.channels}))
                part.rename(self.get_attr("report"))
                self.shutdown()
            return
        while len(self.owed) < 20:
            self.owed.add(self.next)
            self.send("talk", self.next)
            self.next += 1

    def heard(self, number):
        self.owed.discard(number)
'''


@pytest.fixture
def user(tmp_path: Path) -> Iterator[Desk]:
    with desk(tmp_path / "home") as found:
        yield found


def conversation(
    tmp_path: Path, *, plane: str = "Sidecar", echo: dict[str, Any] | None = None, role: str = "Connector"
) -> tuple[Path, Path, Path]:
    """Folder of manifests, the file that ends the asking, and the asker's report."""
    stop, report = tmp_path / "stop", tmp_path / "report.json"
    attributes = {"until": str(stop), "report": str(report)}
    objects = [
        # A program that speaks plain ZeroMQ hears of the end when the flow's half of this is over.
        server(shutdown={"timeoutSeconds": 10 if echo else 20}),
        channel("talk", pattern="Pair", codec="Json"),
        echo or agent("echo", "agents:Echo", [("talk", "Binder", "heard")], dataPlane=plane),
        agent("asker", "agents:Asker", [("talk", role, None)], run="Once", attributes=attributes, dataPlane=plane),
    ]
    return write(tmp_path / "app", objects, CODE), stop, report


@pytest.mark.parametrize("plane", ["InProcess", "Sidecar"])
def test_the_example(user: Desk, tmp_path: Path, plane: str) -> None:
    folder = tmp_path / "guess"
    folder.mkdir()
    for path in EXAMPLE.iterdir():
        if path.is_file():
            text = path.read_text().replace("  run: Once\n", f"  run: Once\n  dataPlane: {plane}\n")
            (folder / path.name).write_text(text)
    user.domain = "guess"
    process = user.up(folder)
    assert process.wait(60) == 0, user.output()
    assert "guesser-0 | it is 6174, found with 13 guesses" in user.output()
    assert "channel 'talk': the stream has ended" in user.output(), "the keeper's only input has ended with the guesser's function"


@pytest.mark.parametrize("plane", ["InProcess", "Sidecar"])
def test_a_binder_that_is_killed_owes_no_answer(user: Desk, tmp_path: Path, plane: str) -> None:
    folder, stop, report = conversation(tmp_path, plane=plane)
    process = user.up(folder)
    wait_for(lambda: int(user.status("Channel", "talk").get("delivered", 0)) > 0, timeout=60, what="the first numbers")
    run = user.run
    victims = ["echo-0", "nameserver"] + (["echo-0/sidecar", "asker-0/sidecar"] if plane == "Sidecar" else [])
    for victim in victims:
        kill_and_await(user, process, victim, "talk")
    status = user.status("Channel", "talk")
    assert (status["senders"], status["receivers"], status["bind"], status["delivery"]) == (2, 2, "Binder", "AtLeastOnce")
    stop.touch()
    wait_for(report.exists, timeout=60, what="the last echo")
    found = reported(report)
    assert found["asked"] > 0
    assert found["channels"] == ["talk"], "the code knows one alias"
    assert process.wait(60) == 0, user.output()
    user.assert_nothing_left(run)


PLAIN = """
import os, zmq
context = zmq.Context()
legs = "ipc://" + os.environ["GANGLION_RUN_DIR"] + "/talk"
into, out = context.socket(zmq.REP), context.socket(zmq.PUSH)
into.connect(legs + ".in.sock")
out.connect(legs + ".sock")
while True:
    body = into.recv()
    out.send(body)
    into.send(b"")
"""


@pytest.mark.parametrize("side", ["Binder", "Connector"])
def test_a_plain_program_takes_part(user: Desk, tmp_path: Path, side: str) -> None:
    echo = agent("echo", "", [("talk", side, None)])
    del echo["spec"]["class"], echo["spec"]["code"]
    echo["spec"]["container"] = {"image": "none", "command": [sys.executable, "-c", PLAIN]}
    folder, stop, report = conversation(tmp_path, echo=echo, role="Connector" if side == "Binder" else "Binder")
    process = user.up(folder)
    wait_for(lambda: int(user.status("Channel", "talk").get("delivered", 0)) > 200, timeout=60, what="numbers there and back")
    stop.touch()
    assert process.wait(60) == 0, user.output()
    assert reported(report)["asked"] > 100


@pytest.mark.parametrize("plane", ["InProcess", "Sidecar"])
def test_a_conversation_that_goes_on_ends_with_its_domain(user: Desk, tmp_path: Path, plane: str) -> None:
    folder, _, report = conversation(tmp_path, plane=plane)
    process = user.up(folder)
    wait_for(lambda: int(user.status("Channel", "talk").get("delivered", 0)) > 100, timeout=60, what="a conversation")
    run = user.run
    process.send_signal(signal.SIGINT)
    assert process.wait(40) == 130, user.output()
    assert not report.exists()
    assert "killed" not in user.output()
    user.assert_nothing_left(run)


def test_a_third_is_refused_before_anything_starts(user: Desk, tmp_path: Path) -> None:
    folder, _, _ = conversation(tmp_path)
    manifest = folder / "all.yaml"
    manifest.write_text(f"{manifest.read_text()}---\n{json.dumps(agent('third', 'agents:Echo', [('talk', 'Binder', 'heard')]))}\n")
    process = user.up(folder)
    assert process.wait(30) != 0
    assert "Channel/talk: spec.pattern: a Pair has one replica in each role, found 2 that take the role Binder" in user.output()
