"""Requests for copies of templates in the directory: whose agents are there, and which agent is the one that was asked for."""

from __future__ import annotations

import json
import threading
from typing import Any

import pytest

from ganglion.imperative.copies import MAX_REQUESTS, CopyRequests, life_of
from ganglion.imperative.errors import AgentNameTaken
from ganglion.imperative.frames import Record
from ganglion.imperative.templates import _registered
from ganglion.wiring.copies import copy_name

ALICE, BOB = copy_name("worker", "Alice"), copy_name("worker", "Bob")


class Desk:
    """Answers as a name server that wants everything."""

    def __init__(self) -> None:
        self.here: list[list[str]] = []
        self.copies: dict[str, str] = {}
        self.requests = CopyRequests(self.say)

    def say(self, line: str) -> None:
        said = json.loads(line)
        if "here" in said:
            self.here.append(said["here"])
        elif "ask" in said:
            self.copies[copy_name(said["template"], said["agent"])] = said["template"]
            # From another thread, as the pipe's reader does.
            threading.Thread(target=self._answer, args=(said["ask"],)).start()

    def _answer(self, number: int) -> None:
        self.requests.hear(json.dumps({"copies": self.copies}))
        self.requests.hear(json.dumps({"answer": number, "state": "Waiting", "text": ""}))


def test_a_look_that_began_before_an_agent_was_there_is_not_said_after_it() -> None:
    desk = Desk()
    for agent in ("Alice", "Bob"):
        assert desk.requests.ask(agent, "worker", agent.encode(), b"")[0] == "Waiting"
    living = ["Alice"]
    began, go_on = threading.Event(), threading.Event()

    def names() -> list[str]:
        found = list(living)
        began.set()
        assert go_on.wait(10)
        return found

    looking = threading.Thread(target=desk.requests.look, args=(names,))
    looking.start()
    assert began.wait(10)
    living.append("Bob")
    done = threading.Thread(target=desk.requests.done, args=("Bob", "worker", b"Bob"))
    done.start()
    go_on.set()
    for thread in (looking, done):
        thread.join(10)
    desk.requests.look(lambda: living)
    assert desk.here == [[ALICE], sorted([ALICE, BOB])]


def test_a_pod_learns_the_life_of_its_agent_but_not_the_key() -> None:
    desk = Desk()
    desk.requests.ask("Alice", "worker", b"key", b"body")
    assert desk.requests.fetch(ALICE) == ("Alice", b"body", life_of(b"key"))
    assert len(life_of(b"key")) == 16
    assert life_of(b"key") != life_of(b"other")


def test_what_waits_is_bounded() -> None:
    desk = Desk()
    for number in range(MAX_REQUESTS):
        assert desk.requests.ask(f"agent-{number}", "worker", b"key", b"")[0] == "Waiting"
    assert desk.requests.ask("one-more", "worker", b"key", b"") == ("Ending", f"{MAX_REQUESTS} agents wait for their pods already")
    assert desk.requests.ask("agent-0", "worker", b"key", b"")[0] == "Waiting"


def test_half_a_line_of_a_name_server_that_was_killed_is_left_out() -> None:
    Desk().requests.hear('{"copies": {"wor')


def test_another_agent_of_the_name_is_not_taken_for_the_copy() -> None:
    class Directory:
        life = b"somebody else's "

        def lookup(self, name: str) -> Any:
            return Record(name=name, life=self.life, control="tcp://10.0.0.1:1", safe="tcp://10.0.0.1:2", running=True)

    directory = Directory()
    with pytest.raises(AgentNameTaken, match="another agent 'Alice' has come"):
        _registered("Alice", "worker", directory, b"key", b"")
    directory.life = life_of(b"key")
    assert _registered("Alice", "worker", directory, b"key", b"").life == directory.life
