"""A sidecar, most of them beside a plain program: probes, metrics, the preStop hook's order, SIGTERM at any time."""

from __future__ import annotations

import os
import signal
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from tests.support.agents import AgentProcess, World, world
from tests.support.ports import free_port
from tests.support.programs import Programs
from tests.support.wait import wait_for
from tests.support.wirings import channel

CODE = """
    import os
    from pathlib import Path

    from ganglion import Agent

    class Slow(Agent):
        def on_init(self):
            Path(os.environ["BEGUN"]).touch()
            Path(os.environ["GO"]).read_text()  # a pipe: until the test opens it

        def take(self, value):
            pass

    class Sink(Agent):
        def take(self, value):
            pass
"""


@pytest.fixture
def here() -> Iterator[World]:
    with world(CODE) as made:
        yield made


@pytest.fixture
def programs(here: World) -> Iterator[Programs]:
    made = Programs(here.directory)
    yield made
    made.close()


def fetch(port: int, path: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()
    except OSError:
        return 0, ""


def program_sidecar(here: World, port: int = 0) -> tuple[AgentProcess, Path]:
    """The sidecar of a program that pushes on an acknowledged channel and publishes on another."""
    channels = (
        channel("out", "jobs", "Push", bind=True, codec="Raw", speaks="Plain"),
        channel("news", "news", "Pub", bind=True, codec="Raw", speaks="Plain", frames="Bare"),
    )
    document = here.declare("prog", *channels, target="", data_plane="Sidecar")
    document = msgspec.structs.replace(document, agent=msgspec.structs.replace(document.agent, target=None))
    return here.start_sidecar(document, GANGLION_HEALTH_PORT=str(port)), here.directory / "prog-0" / "out.sock"


def test_probes_latch_and_metrics_balance(here: World, programs: Programs) -> None:
    port = free_port()
    _, leg = program_sidecar(here, port)
    wait_for(lambda: fetch(port, "/readyz")[0] == 200, what="readiness")
    assert fetch(port, "/startupz")[0] == 200
    assert fetch(port, "/livez")[0] == 200
    here.server.kill()
    assert fetch(port, "/readyz")[0] == 200
    here.server.start()
    sink = here.declare("sink", channel("in", "jobs", "Pull", bind=False, codec="Raw", handler="take"), target="agents:Sink")
    here.start(sink)
    programs.start("python", "push", leg, 500, "x").ends()

    def metric(outcome: str) -> float:
        text = fetch(port, "/metrics")[1]
        name = f'ganglion_channel_messages_total{{alias="out",channel="jobs",outcome="{outcome}",role="Push"}} '
        return next((float(line.removeprefix(name)) for line in text.splitlines() if line.startswith(name)), -1.0)

    wait_for(lambda: metric("acked") == 500, what="500 acknowledged messages in the metrics")
    assert metric("accepted") == 500
    assert metric("dropped") == metric("dead_lettered") == 0
    text = fetch(port, "/metrics")[1]
    assert "ganglion_ready 1.0" in text
    assert 'ganglion_channel_peers{alias="out",channel="jobs",role="Push"} 1.0' in text
    assert 'ganglion_proxy_rewirings_total{alias="news"' in text


@pytest.mark.parametrize("plane", ["Sidecar", "InProcess"])
def test_an_agent_is_ready_when_its_start_is_behind_it_and_latches_then(here: World, plane: str) -> None:
    port = free_port()
    document = here.declare("slow", channel("in", "jobs", "Pull", bind=True, handler="take"), target="agents:Slow", data_plane=plane)
    here.start_sidecar(document, GANGLION_HEALTH_PORT=str(port))
    wait_for(lambda: fetch(port, "/startupz")[0] == 200, what="a sidecar whose agent may start")
    wait_for(lambda: "the agent has not started yet" in fetch(port, "/readyz")[1], what="a sidecar that has joined")
    begun, go = here.directory / "begun", here.directory / "go"
    os.mkfifo(go)
    agent = here.start(document, pod=True, BEGUN=str(begun), GO=str(go))
    wait_for(begun.exists, what="on_init")
    wait_for(lambda: fetch(port, "/readyz") == (503, "the agent is in on_init or before_loop\n"), what="the reason")
    go.write_text("")
    wait_for(lambda: fetch(port, "/readyz")[0] == 200, what="readiness")
    agent.kill()
    begun.unlink()
    here.start(document, pod=True, BEGUN=str(begun), GO=str(go))
    wait_for(begun.exists, what="on_init of its next process")
    assert fetch(port, "/readyz")[0] == 200
    go.write_text("")


@pytest.mark.parametrize("moment", ["at once", "ready", "loaded", "loaded without receivers"])
def test_sigterm_ends_it_within_its_grace(here: World, programs: Programs, moment: str) -> None:
    sidecar, leg = program_sidecar(here)
    if moment != "at once":
        wait_for(leg.exists, what="the leg")
    if moment == "loaded":
        here.start(here.declare("sink", channel("in", "jobs", "Pull", bind=False, codec="Raw", handler="take"), target="agents:Sink"))
    if moment.startswith("loaded"):
        programs.start("python", "push", leg, 0, "x")
        wait_for(lambda: sidecar.process.poll() is None and _cpu(sidecar) > 0, what="work")
    began = time.monotonic()
    sidecar.signal(signal.SIGTERM)
    # Before Python could ask for the signal it is the system's own end.
    sidecar.ends(None if moment == "at once" else 0, timeout=40)
    # Its own bound is 20 s (drainTimeoutSeconds of the wiring) and some seconds for the goodbye.
    assert time.monotonic() - began < 35


def _cpu(process: AgentProcess) -> int:
    fields = Path(f"/proc/{process.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
    return int(fields[11]) + int(fields[12])
