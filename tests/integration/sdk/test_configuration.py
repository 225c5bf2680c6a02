"""What cannot work ends with exit code 78 and one clear line, on stderr and in the termination log."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.agents import World, world
from tests.support.wait import wait_for
from tests.support.wirings import channel

CODE = """
    import sys
    from ganglion import Agent

    class RaisesInInit(Agent):
        def __init__(self):
            raise ValueError("no way\\nreally")

    class RaisesInOnInit(Agent):
        def on_init(self):
            {}["missing"]

    class RaisesLate(Agent):
        async def before_loop(self):
            raise RuntimeError("not yet")

    class Fine(Agent):
        def take(self, message): ...

        def wrong(self, a, b, c): ...

        def yields(self, message):
            yield message

        async def yields_later(self, message):
            yield message

    class NotAnAgent: ...

    number = 3
"""
PULL = channel("in", "work", "Pull", bind=False, handler="take")


@pytest.fixture(scope="module")
def here() -> Iterator[World]:
    with world(CODE) as made:
        (made.code / "broken.py").write_text("import missing_library\n")
        (made.code / "wrong.py").write_text("def f(:\n")
        (made.code / "leaves.py").write_text("raise SystemExit('bye')\n")
        yield made


@pytest.mark.parametrize(
    ("target", "channels", "agent", "text"),
    [
        ("agents:Missing", (), {}, "class: 'agents:Missing': module 'agents' has no 'Missing'"),
        ("nowhere:X", (), {}, "class: 'nowhere:X': no module 'nowhere' in "),
        ("broken:X", (), {}, "class: 'broken:X': cannot be imported: ModuleNotFoundError: No module named 'missing_library' (broken.py, line 1)"),
        ("wrong:X", (), {}, "class: 'wrong:X': cannot be imported: SyntaxError: "),
        ("leaves:X", (), {}, "class: 'leaves:X': cannot be imported: SystemExit: bye (leaves.py, line 1)"),
        ("agents:number", (), {}, "class: 'agents:number': found a int; must be a class"),
        ("agents:NotAnAgent", (), {}, "class: 'agents:NotAnAgent': class NotAnAgent must derive from ganglion.Agent"),
        ("agents", (), {}, "class: 'agents': must be `module:Class`"),
        ("agents:RaisesInInit", (), {}, "class: 'agents:RaisesInInit': __init__ raised ValueError: no way really (agents.py, line 7)"),
        ("agents:RaisesInOnInit", (), {}, "on_init raised KeyError: 'missing' (agents.py, line 11)"),
        ("agents:RaisesLate", (), {}, "before_loop raised RuntimeError: not yet"),
        ("agents:Fine", (), {"attributes": {"send": 1}}, "attributes: attribute 'send': Fine has a member of this name; choose another"),
        ("agents:Fine", (channel("in", "work", "Pull", bind=False, handler="gone"),), {}, "channels[in].handler: Fine has no method 'gone'"),
        ("agents:Fine", (channel("in", "work", "Pull", bind=False, handler="wrong"),), {}, "channels[in].handler: handler 'wrong' requires 3"),
        ("agents:Fine", (channel("in", "work", "Pull", bind=False, handler="take", codec="Dill"),), {}, "channels[in]: codec Dill: can run code"),
        ("agents:Fine", (channel("in", "work", "Pull", bind=False, handler="take", codec="Protobuf", message_type="shop.Order"),), {},
         "channels[in]: codec Protobuf: no imported module has a message 'shop.Order'; import the module that protoc has generated for it"),
        ("agents:Fine", (channel("in", "work", "Pull", bind=False, handler="yields"),), {}, "channels[in].handler: handler 'yields' yields, which"),
        ("agents:Fine", (channel("in", "ask", "Rep", bind=True, handler="yields_later"),), {}, "channels[in].handler: handler 'yields_later' is an `async def`"),
    ],
)  # fmt: skip
def test_one_line_says_why(here: World, target: str, channels: tuple[Any, ...], agent: dict[str, Any], text: str) -> None:
    document = here.declare("lonely", *channels, target=target, **agent)
    process = here.start(document)
    process.ends(78)
    line = process.termination.read_text()
    assert text in line
    assert "\n" not in line
    assert line in process.output
    assert "Traceback" not in process.output
    process.termination.unlink()


def test_a_missing_variable_is_named(here: World) -> None:
    document = here.declare("lonely", PULL, target="agents:Fine")
    process = here.start(document, GANGLION_REPLICA_UID="")
    process.ends(78)
    assert process.output.startswith("GANGLION_REPLICA_UID: not set")


def test_a_wiring_that_cannot_be_read_is_named(here: World) -> None:
    document = here.declare("lonely", PULL, target="agents:Fine")
    process = here.start(document, GANGLION_WIRING="/nowhere/wiring.json")
    process.ends(78)
    assert process.output.strip() == "wiring document /nowhere/wiring.json: No such file or directory"


@pytest.mark.parametrize("plane", ["Sidecar", "InProcess"])
def test_a_run_directory_whose_path_is_too_long_is_named(here: World, plane: str) -> None:
    document = here.declare("far", PULL, target="agents:Fine", data_plane=plane)
    folder = here.directory / ("r" * 100)
    folder.mkdir(exist_ok=True)
    here.sidecars.pop("far-0", None)
    agent = here.start(document, pod=True, GANGLION_RUN_DIR=str(folder))
    for process in (agent, here.sidecars["far-0"]):
        process.ends(78)
        assert f"GANGLION_RUN_DIR: ipc path '{folder}/control.sock': found " in process.output
        assert "Traceback" not in process.output


def test_an_agent_that_is_not_declared_yet_waits_and_heals(here: World) -> None:
    document = here.declare("other", PULL, target="agents:Fine")
    declared = here.agents.pop("other")
    here.declare("lonely", PULL, target="agents:Fine")
    process = here.start(document, GANGLION_LOG_LEVEL="DEBUG")
    wait_for(lambda: "NotDeclared" in here.server.log.read_text(), what="the refusal")
    assert process.process.poll() is None
    here.agents["other"] = declared
    here.declare("lonely", PULL, target="agents:Fine")
    wait_for(lambda: any(member.phase == "Ready" for member in here.server.admin.status().members), what="the agent to be Ready")
    process.signal()
    process.ends(0)
