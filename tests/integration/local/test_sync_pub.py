"""Channels of pattern SyncPub in a domain: the example, kills, and the end."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.local.domain import Desk, agent, channel, desk, server, write
from tests.integration.local.test_domain import kill_and_await
from tests.support.wait import wait_for

pytestmark = pytest.mark.timeout(180)

EXAMPLE = Path(__file__).parents[3] / "examples" / "scores"

CODE = '''
from ganglion import Agent


class Feed(Agent):
    def on_init(self):
        self.count = 0
        self.each(0.01, self.tick)

    def tick(self):
        self.count += 1
        self.send("feed", self.count)

    def answer(self, question):
        return [question, self.count]


class Asker(Agent):
    """Asks again and again."""

    def on_init(self):
        self.asked = 0
        self.each(0.05, self.ask)

    def ask(self):
        self.asked += 1
        self.send("feed", self.asked, handler=self.replied, wait=2, on_error=self.lost)

    def heard(self, count):
        pass

    def replied(self, reply):
        with open(self.get_attr("report"), "a") as log:
            log.write(f"{reply}\\n")

    def lost(self):
        pass
'''


@pytest.fixture
def user(tmp_path: Path) -> Iterator[Desk]:
    with desk(tmp_path / "home") as found:
        yield found


def _replies(log: Path) -> int:
    return len(log.read_text().splitlines()) if log.exists() else 0


@pytest.mark.parametrize("plane", ["InProcess", "Sidecar"])
def test_the_example(user: Desk, tmp_path: Path, plane: str) -> None:
    folder = tmp_path / "scores"
    folder.mkdir()
    for path in EXAMPLE.iterdir():
        if path.is_file():
            (folder / path.name).write_text(path.read_text().replace("  run: Once\n", f"  run: Once\n  dataPlane: {plane}\n"))
    user.domain = "scores"
    process = user.up(folder)
    assert process.wait(90) == 0, user.output()
    for index in range(2):
        [line] = [line for line in user.output().splitlines() if line.startswith(f"viewer-{index} | the snapshot and ")]
        assert line.endswith(": right"), line


@pytest.mark.parametrize("plane", ["InProcess", "Sidecar"])
def test_replies_come_again_after_a_kill_until_the_domain_ends(user: Desk, tmp_path: Path, plane: str) -> None:
    log = tmp_path / "replies"
    objects = [
        server(),
        channel("feed", pattern="SyncPub"),
        agent("feed", "agents:Feed", [("feed", "SyncPub", "answer")], dataPlane=plane),
        agent("asker", "agents:Asker", [("feed", "SyncSub", "heard")], attributes={"report": str(log)}, dataPlane=plane),
    ]
    process = user.up(write(tmp_path / "app", objects, CODE))
    wait_for(lambda: _replies(log) > 5, timeout=60, what="the first replies")
    status = user.status("Channel", "feed")
    assert (status["senders"], status["receivers"], status["bind"], status["delivery"]) == (2, 2, "SyncPub", "BestEffort")
    run = user.run
    for victim in ["feed-0", "nameserver"] + (["feed-0/sidecar", "asker-0/sidecar"] if plane == "Sidecar" else []):
        kill_and_await(user, process, victim, "feed")
        before = _replies(log)
        wait_for(lambda: _replies(log) > before + 5, timeout=60, what=f"replies after {victim} was killed")  # noqa: B023 - this round's
    process.send_signal(signal.SIGINT)
    assert process.wait(40) == 130, user.output()
    assert "killed" not in user.output().partition("shutting down")[2], user.output()
    user.assert_nothing_left(run)
