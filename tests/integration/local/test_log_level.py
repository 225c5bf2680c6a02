"""`ganglion log-level` for agents of manifests: it reaches processes that run, also one whose main thread never turns, and replaces none."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from tests.integration.local.domain import Desk, agent, desk, server, write
from tests.support.wait import wait_for

CODE = """
import logging
import threading

from ganglion import Agent


def tell(agent, told):
    level = logging.getLogger().level
    if level != told:
        print("LEVEL", level, flush=True)
        agent.log_debug("heard at %d", level)
    return level


class Teller(Agent):
    def on_init(self):
        self.log_debug("made")
        self.told = 0
        self.each(0.02, self.look)

    def look(self):
        self.told = tell(self, self.told)


def block(agent):
    told, never = 0, threading.Event()
    while told != logging.DEBUG:
        told = tell(agent, told)
        never.wait(0.02)
"""

TELLERS = {"behind": "Sidecar", "inside": "InProcess"}


@pytest.fixture
def user(tmp_path: Path) -> object:
    with desk(tmp_path / "home") as found:
        yield found


def said(user: Desk, replica: str) -> str:
    snapshot = user.snapshot()
    assert snapshot is not None
    path = Path(snapshot["logs"]) / f"{replica}.log"
    return path.read_text() if path.exists() else ""


def last(user: Desk, replica: str) -> str:
    """Level that it told last."""
    return ([line for line in said(user, replica).splitlines() if line.startswith("LEVEL")] or ["LEVEL ?"])[-1].split()[1]


def follows(user: Desk, replica: str, level: int) -> None:
    wait_for(lambda: last(user, replica) == str(level), what=f"{replica} at {logging.getLevelName(level)}")


def test_levels_reach_running_agents(user: Desk, tmp_path: Path) -> None:
    objects = [server(), *(agent(name, "agents:Teller", [], dataPlane=plane) for name, plane in TELLERS.items())]
    objects.append(agent("blocked", "agents:block", [], run="Once"))
    plain = agent("plain", "", [], suspend=True, container={"image": "none", "command": ["true"]})
    del plain["spec"]["class"], plain["spec"]["code"]
    folder = write(tmp_path / "domain", [*objects, plain], CODE)
    assert user.command("up", "-f", str(folder), "--detach").returncode == 0
    replicas = {name: f"{name}-0" for name in (*TELLERS, "blocked")}
    for replica in replicas.values():
        follows(user, replica, logging.INFO)
    before = user.replicas()

    for name, asked in zip(replicas, ("debug", "DEBUG", "Debug"), strict=True):
        done = user.command("log-level", f"agent/{name}", asked)
        assert (done.returncode, done.stdout) == (0, f"{name} logs DEBUG and above\n"), done.stderr
    for replica in replicas.values():
        # Also while the main thread is in a function that never comes back to the loop.
        follows(user, replica, logging.DEBUG)
        wait_for(lambda replica=replica: f"DEBUG   {replica} heard at 10" in said(user, replica), what="a debug line")  # type: ignore[misc]
    assert "DEBUG   behind-0 made" not in said(user, "behind-0")

    # A later replica begins so; a manifest that is applied again says what holds.
    assert user.command("scale", "behind", "--replicas", "2").returncode == 0
    wait_for(lambda: "DEBUG   behind-1 made" in said(user, "behind-1"), what="the level at its start")
    assert user.command("log-level", "behind", "default").stdout == "behind logs what it did at its start\n"
    # Without waiting until nobody has work left: the agent that ran once has ended.
    applied = user.command("up", "-f", str(folder), "--detach")
    assert "agent/inside configured" in applied.stdout.lower(), applied.stdout + applied.stderr
    follows(user, "behind-0", logging.INFO)
    follows(user, "inside-0", logging.INFO)
    now = user.replicas()
    for replica in ("behind-0", "inside-0"):
        for field in ("pid", "sidecarPid", "uid", "restarts"):
            assert now[replica][field] == before[replica][field], replica

    for arguments, code, text in (
        (("nobody", "DEBUG"), 1, "Agent/nobody does not exist; there are: behind, blocked, inside, plain"),
        (("behind", "loud"), 64, "'loud' is not one of 'debug'"),
        (("plain", "DEBUG"), 1, "Agent/plain has no `class`"),
        (("behind", "DEBUG", "--domain", "zoo"), 69, "domain 'zoo' is not running; running: shop"),
        (("behind", "DEBUG", "--domain", "shop", "--namespace", "team"), 64, "give one of them"),
    ):
        refused = user.command("log-level", *arguments)
        assert (refused.returncode, text in refused.stderr) == (code, True), refused
    assert user.command("down").returncode == 0
