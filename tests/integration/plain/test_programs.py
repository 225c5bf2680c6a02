"""Plain programs take both roles of every pattern with SDK agents of either plane, through real sidecars and a real name server."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from ganglion.wiring import ChannelWiring
from tests.support.agents import AgentProcess, World, world
from tests.support.programs import Language, Programs
from tests.support.wait import wait_for
from tests.support.wirings import channel

CODE = """
    from ganglion import Agent

    class Source(Agent):
        def before_loop(self):
            for number in range(self.get_attr("count")):
                self.send("out", b"m%d" % number)

    class Sink(Agent):
        def take(self, value):
            print("got", bytes(value).decode(), flush=True)

        def publication(self, value, topic):
            print("got", bytes(value).decode(), flush=True)

    class Publisher(Agent):
        def before_loop(self):
            self.number = 0
            self.each(0.005, self.publish)

        def publish(self):
            self.send("out", b"p%d" % self.number, topic=b"t.")
            self.number += 1

    class Replier(Agent):
        def answer(self, value):
            if bytes(value).endswith(b"2"):
                raise ValueError("no twos")
            return b"sdk:" + bytes(value)

    class Requester(Agent):
        async def before_loop(self):
            for number in range(self.get_attr("count")):
                try:
                    reply = await self.request("out", b"r%d" % number, timeout=20)
                    print("got", bytes(reply).decode(), flush=True)
                except Exception as error:
                    print("got", type(error).__name__, flush=True)
"""

LANGUAGES: list[Language] = ["c", "python"]
PLANES = ["Sidecar", "InProcess"]


class Stage:
    """A world with plain programs in it."""

    def __init__(self, here: World) -> None:
        self.world = here
        self.programs = Programs(here.directory)

    def sidecar(self, name: str, wired: ChannelWiring) -> Path:
        """The sidecar of a container agent; returns the path of its leg."""
        document = self.world.declare(name, wired, target="", data_plane="Sidecar")
        document = msgspec.structs.replace(document, agent=msgspec.structs.replace(document.agent, target=None))
        self.world.start_sidecar(document)
        return self.world.directory / f"{name}-0" / f"{wired.alias}.sock"

    def agent(self, name: str, target: str, plane: str, wired: ChannelWiring, **attributes: object) -> AgentProcess:
        """An SDK agent."""
        document = self.world.declare(name, wired, target=f"agents:{target}", data_plane=plane, attributes=attributes)
        return self.world.start(document)


@pytest.fixture
def stage() -> Iterator[Stage]:
    with world(CODE) as here:
        stage = Stage(here)
        try:
            yield stage
        finally:
            stage.programs.close()


def leg(alias: str, role: str, *, binder: str, plain: bool, **other: object) -> ChannelWiring:
    frames = {"frames": "Bare"} if other.get("delivery") == "BestEffort" or role in ("Pub", "Sub") else {}
    return channel(alias, "c", role, bind=binder == role, codec="Raw", speaks="Plain" if plain else "Sdk", **frames, **other)


def got(agent: AgentProcess) -> list[str]:
    return [line.removeprefix("got ") for line in agent.output.splitlines() if line.startswith("got ")]


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize(
    ("plane", "delivery", "binder"),
    [
        ("Sidecar", "AtLeastOnce", "Push"),
        ("InProcess", "AtLeastOnce", "Pull"),
        ("Sidecar", "BestEffort", "Pull"),
        ("InProcess", "BestEffort", "Push"),
    ],
)
def test_a_program_pushes_to_an_agent(stage: Stage, language: Language, plane: str, delivery: str, binder: str) -> None:
    path = stage.sidecar("prog", leg("out", "Push", binder=binder, plain=True, delivery=delivery))
    sink = stage.agent("sink", "Sink", plane, leg("in", "Pull", binder=binder, plain=False, delivery=delivery, handler="take"))
    # At least once, also what a program leaves behind when it ends; best effort, what fits into the queues.
    count = 3000 if delivery == "AtLeastOnce" else 1000
    program = stage.programs.start(language, "push", path, count, "x")
    program.ends()
    sink.says("got ", times=count)
    assert sorted(got(sink)) == sorted(f"x{number}" for number in range(count))


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize(
    ("plane", "delivery", "binder"),
    [
        ("Sidecar", "AtLeastOnce", "Pull"),
        ("InProcess", "AtLeastOnce", "Push"),
        ("Sidecar", "BestEffort", "Push"),
        ("InProcess", "BestEffort", "Pull"),
    ],
)
def test_a_program_pulls_from_an_agent(stage: Stage, language: Language, plane: str, delivery: str, binder: str) -> None:
    """At least once, the program's socket is a REP and its reply the acknowledgement."""
    path = stage.sidecar("prog", leg("in", "Pull", binder=binder, plain=True, delivery=delivery))
    kind = "rep" if delivery == "AtLeastOnce" else "pull"
    program = stage.programs.start(language, kind, path, 1000)
    stage.agent("source", "Source", plane, leg("out", "Push", binder=binder, plain=False, delivery=delivery), count=1000)
    assert sorted(program.ends()) == sorted(f"m{number}" for number in range(1000))


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("plane", PLANES)
def test_a_program_publishes_to_an_agent(stage: Stage, language: Language, plane: str) -> None:
    path = stage.sidecar("prog", leg("out", "Pub", binder="Pub", plain=True))
    sink = stage.agent("sink", "Sink", plane, leg("in", "Sub", binder="Pub", plain=False, handler="publication", topics=("t.",)))
    stage.programs.start(language, "pub", path, 0, "x")
    sink.says("got ", times=20)
    numbers = [int(text.removeprefix("x")) for text in got(sink)[:20]]
    assert numbers == list(range(numbers[0], numbers[0] + 20))


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("plane", PLANES)
def test_a_program_subscribes_to_an_agent(stage: Stage, language: Language, plane: str) -> None:
    path = stage.sidecar("prog", leg("in", "Sub", binder="Pub", plain=True))
    stage.agent("source", "Publisher", plane, leg("out", "Pub", binder="Pub", plain=False))
    lines = stage.programs.start(language, "sub", path, 20, "t").ends()
    first = int(lines[0].removeprefix("p"))
    assert lines == [f"p{number}" for number in range(first, first + 20)]


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize(("plane", "binder"), [("Sidecar", "Rep"), ("InProcess", "Req")])
def test_a_program_asks_an_agent(stage: Stage, language: Language, plane: str, binder: str) -> None:
    path = stage.sidecar("prog", leg("out", "Req", binder=binder, plain=True))
    program = stage.programs.start(language, "req", path, 5, "x")
    stage.agent("replier", "Replier", plane, leg("in", "Rep", binder=binder, plain=False, handler="answer"))
    lines = program.ends()
    # An error is an answer, too: an empty frame and what happened. The program goes on.
    assert lines[2].startswith("|{")
    assert '"RemoteError"' in lines[2]
    assert "no twos" in lines[2]
    assert [lines[i] for i in (0, 1, 3, 4)] == ["sdk:x0", "sdk:x1", "sdk:x3", "sdk:x4"]


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize(("plane", "binder"), [("Sidecar", "Req"), ("InProcess", "Rep")])
def test_a_program_answers_an_agent(stage: Stage, language: Language, plane: str, binder: str) -> None:
    path = stage.sidecar("prog", leg("in", "Rep", binder=binder, plain=True))
    stage.programs.start(language, "rep", path, 0)
    requester = stage.agent("requester", "Requester", plane, leg("out", "Req", binder=binder, plain=False), count=5)
    requester.says("got ", times=5)
    assert got(requester) == [f"ok:r{number}" for number in range(5)]


@pytest.mark.parametrize("language", LANGUAGES)
def test_what_a_killed_program_held_goes_to_another(stage: Stage, language: Language) -> None:
    """Two replicas of a program with a REP; one is killed again and again while messages flow."""
    wired = leg("in", "Pull", binder="Pull", plain=True)
    first = stage.sidecar("prog", wired)
    second = stage.sidecar("other", wired)
    steady = stage.programs.start("c", "rep", second, 0)
    victims = [stage.programs.start(language, "rep", first, 0)]
    source = stage.agent("source", "Source", "Sidecar", leg("out", "Push", binder="Pull", plain=False), count=3000)
    for round_ in range(1, 4):
        victims[-1].prints(20 * round_)
        victims[-1].kill()
        victims.append(stage.programs.start(language, "rep", first, 0))

    def handled() -> list[str]:
        return [line for program in (steady, *victims) for line in program.lines]

    everything = {f"m{number}" for number in range(3000)}
    wait_for(lambda: set(handled()) == everything, timeout=60, what="every message at some program")
    # A kill may repeat what its program held: it handles one at a time.
    assert len(handled()) <= 3000 + 3
    assert source.process.poll() is None


@pytest.mark.parametrize("plane", PLANES)
def test_a_requester_hears_at_once_that_its_program_was_killed(stage: Stage, plane: str) -> None:
    path = stage.sidecar("prog", leg("in", "Rep", binder="Rep", plain=True))
    # Answers twice, then sits on the third request.
    program = stage.programs.start("python", "stuck", path, 2)
    requester = stage.agent("requester", "Requester", plane, leg("out", "Req", binder="Rep", plain=False), count=4)
    program.prints(3)
    program.kill()
    requester.says("got ", times=3)
    assert got(requester)[:3] == ["ok:r0", "ok:r1", "ReplierLost"]
    stage.programs.start("python", "rep", path, 0)
    requester.says("got ", times=4)
    assert got(requester)[3] == "ok:r3"


def test_a_program_is_held_back_while_nobody_receives(stage: Stage) -> None:
    path = stage.sidecar("prog", leg("out", "Push", binder="Push", plain=True, high_water_mark=100))
    program = stage.programs.start("c", "push", path, 0, "x" * 4000)
    sidecar = stage.world.sidecars["prog-0"]

    def resident() -> int:
        return int(Path(f"/proc/{sidecar.process.pid}/statm").read_text().split()[1]) * 4096

    def cpu() -> int:
        fields = Path(f"/proc/{program.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return int(fields[11]) + int(fields[12])

    seen = [-1, -2]

    def still() -> bool:
        seen.append(cpu())
        return path.exists() and len(set(seen[-5:])) == 1

    wait_for(still, timeout=30, interval=0.3, what="the program to be blocked")
    assert resident() < 150 * 1024 * 1024
    sink = stage.agent("sink", "Sink", "Sidecar", leg("in", "Pull", binder="Push", plain=False, handler="take", high_water_mark=100))
    sink.says("got ", times=5000)
