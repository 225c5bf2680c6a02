"""`ganglion stack`: where an agent is, also when its handler hangs, and nothing is disturbed by asking."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from ganglion.runtime.stacks import ask
from tests.integration.local.domain import CODE as PIPELINE
from tests.integration.local.domain import Desk, agent, channel, desk, pipeline, reported, server, squares, write
from tests.support.wait import wait_for

CODE = (
    PIPELINE
    + """
import asyncio

def read(path):
    # Opening a named pipe blocks until somebody opens its other end.
    with open(path) as pipe:
        return pipe.read()


class Stuck(Agent):
    def hang(self, number):
        read(self.get_attr("pipe"))
        print("went on", flush=True)


class Patient(Agent):
    async def hang(self, number):
        await self.inner()
        print("went on", flush=True)

    async def inner(self):
        await asyncio.to_thread(read, self.get_attr("pipe"))


class Deaf(Agent):
    def hang(self, number):
        # In C, and without giving the interpreter to anybody else.
        sum(range(10**14))
"""
)


def _release(pipe: Path) -> None:
    with pipe.open("w") as stream:
        stream.write("go on")


def test_where_each_agent_is(tmp_path: Path) -> None:
    pipes = {name: tmp_path / name for name in ("stuck", "patient")}
    for pipe in pipes.values():
        os.mkfifo(pipe)
    objects = [server()]
    for name, cls in (("stuck", "Stuck"), ("patient", "Patient"), ("deaf", "Deaf")):
        objects += [
            channel(name),
            agent(f"{name}-source", "agents:ventilate", [(name, "Push", None)], attributes={"count": 1, "until": "", "sent": ""}),
            agent(name, f"agents:{cls}", [(name, "Pull", "hang")], attributes={"pipe": str(pipes.get(name, ""))}),
        ]
    code = CODE.replace('agent.send("work", number)', 'agent.send(agent.name.rsplit("-source")[0], number)')
    objects.append(
        {
            **agent("plain", "x:y", []),
            "spec": {"nameServerRef": {"name": "shop"}, "container": {"image": "any", "command": ["sleep", "60"]}},
        }
    )
    with desk(tmp_path / "home") as here:
        up = here.up(write(tmp_path / "manifests", objects, code))
        _shown(here, "stuck", "in hang", "in read", "Thread ganglion-control: writes this")
        _shown(here, "patient-0", "Task ", "in hang", "in inner", "in to_thread", "in read")
        text = _shown(here, "deaf", "fault handler", "in hang")
        assert "ganglion-control" not in text
        for name, expected in (("nobody", "there are: "), ("plain", "runs no agent of this SDK")):
            failed = here.command("stack", name)
            assert (failed.returncode, failed.stdout) == (1, "")
            assert expected in failed.stderr
        for pipe in pipes.values():
            _release(pipe)
        wait_for(lambda: here.output().count("went on") == 2, what="both to go on")
        # Nobody waits for the deaf one: twice asked, the domain ends at once.
        for _ in range(2):
            up.send_signal(signal.SIGINT)
            wait_for(lambda: "SIGINT" in here.output(), what="the first to be seen")
        up.wait(20)


def _shown(here: Desk, name: str, *parts: str) -> str:
    """What `ganglion stack` says, as soon as it says all of this."""
    found: list[str] = []

    def shown() -> bool:
        done = here.command("stack", name, "--timeout", "1")
        found[:] = [done.stdout + done.stderr]
        return done.returncode == 0 and all(part in done.stdout for part in parts)

    try:
        wait_for(shown, what=f"the stack of {name}")
    except TimeoutError:
        pytest.fail(f"{parts} not in {found[0]}")
    return found[0]


def test_asking_disturbs_no_message(tmp_path: Path) -> None:
    report = tmp_path / "report"
    stop = tmp_path / "stop"
    with desk(tmp_path / "home") as here:
        up = here.up(write(tmp_path / "manifests", pipeline(report, stop=stop, workers=1), PIPELINE))
        wait_for(lambda: here.ready("ventilator-0", "worker-0", "sink-0"), what="the pipeline")
        pids = [here.replicas()[f"{name}-0"]["pid"] for name in ("ventilator", "worker", "sink")]
        for _ in range(30):
            for pid in pids:
                assert "MainThread" in ask(pid, timeout=10)
        stop.touch()
        assert up.wait(60) == 0
        result = reported(report)
        assert result["squares"] == squares(int(Path(f"{stop}.sent").read_text()))
        assert result["duplicates"] == 0
