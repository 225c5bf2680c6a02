"""Programs that make agents in a domain that `ganglion up` runs: they find each other as in a cluster."""

from __future__ import annotations

from pathlib import Path

import pytest

from ganglion.wiring.copies import copy_name
from tests.integration.local.domain import agent, desk, server, write
from tests.support.wait import wait_for

CODE = """
import os
from ganglion import CommunicationError, NamingError, Proxy, run_agent


def pair(agent):
    mine = os.environ["GANGLION_REPLICA"]
    theirs = "pair-1" if mine == "pair-0" else "pair-0"
    me = run_agent(f"of-{mine}", attributes={"heard": False})
    other = Proxy(f"of-{theirs}", timeout=30)
    print("HEARS", other.ping(), "in", os.environ["GANGLION_DOMAIN"], flush=True)
    me.set_attr(heard=True)
    try:
        # What this one has made ends with it, so the other must have heard it before. It may be gone then.
        while not other.get_attr("heard"):
            pass
    except (CommunicationError, NamingError):
        pass
"""


@pytest.mark.parametrize("plane", ["Sidecar", "InProcess"])
def test_replicas_make_agents_that_hear_each_other(tmp_path: Path, plane: str) -> None:
    objects = [server(adHoc="Allowed"), agent("pair", "agents:pair", [], run="Once", replicas=2, dataPlane=plane)]
    with desk(tmp_path) as here:
        process = here.up(write(tmp_path / "domain", objects, CODE))
        assert process.wait(60) == 0, here.output()
        assert here.output().count("HEARS pong in default/shop") == 2, here.output()
        here.assert_nothing_left(None)


COPIES = """
import os
import select
import time
import ganglion
from ganglion import Agent, NSProxy, Proxy, run_agent


def until(what, name):
    deadline = time.monotonic() + 30
    while not what():
        if time.monotonic() > deadline:
            raise TimeoutError(name)
        select.select([], [], [], 0.02)


def tried(call):
    try:
        return call()
    except ganglion.GanglionError as error:
        return f"{type(error).__name__}: {error}"


class Worker(Agent):
    def on_init(self):
        if self.get_attr("wanted") == "trouble":
            raise ValueError("made to fail")

    def who(self):
        return [self.name, os.environ["GANGLION_REPLICA"], self.get_attr("kept"), self.get_attr("wanted"), os.getpid()]

    def on_exit(self):
        print("EXIT", self.name, flush=True)


def program(agent):
    alice = run_agent("Alice", template="worker", attributes={"wanted": [1, "two"]})
    name, replica, kept, wanted, pid = alice.who()
    print("ALICE", name, replica, kept, wanted, pid != os.getpid(), NSProxy().agents(), flush=True)
    for what, call in {
        "AGAIN": lambda: run_agent("Alice", template="worker"),
        "OTHER": lambda: run_agent("Otto", template="program"),
        "COPY": lambda: run_agent("Otto", template=replica.rpartition("-")[0]),
        "FAILS": lambda: run_agent("Fred", template="worker", attributes={"wanted": "trouble"}),
        "LAMBDA": lambda: run_agent("Leo", template="worker", attributes={"wanted": lambda: 1}),
        "LARGE": lambda: run_agent("Leo", template="worker", attributes={"wanted": "x" * 70000}),
        "BOB": lambda: run_agent("Bob", template="worker", attributes={"wanted": 2}).who()[:1],
        "MANY": lambda: run_agent("Carol", template="worker", attributes={"wanted": 3}),
        "BROKEN": lambda: run_agent("Otto", template="plain"),
    }.items():
        print(what, tried(call), flush=True)
    alice.shutdown()
    until(lambda: NSProxy().agents() == ["Bob"], "alice gone")
    # Her place is free when her copy is gone; asking again makes another.
    alice = run_agent("Alice", template="worker", attributes={"wanted": 4}, backend="pod")
    print("ANEW", alice.who()[4] != pid, alice.get_attr("wanted"), flush=True)
    signal = agent.get_attr("signal")
    open(signal, "w").close()
    until(lambda: not os.path.exists(signal), "the test has looked")
"""


def test_copies_of_templates(tmp_path: Path) -> None:
    signal = tmp_path / "signal"
    objects = [
        server(adHoc="Allowed", templates=[{"name": "worker", "maxCopies": 2}, {"name": "plain"}]),
        agent("program", "agents:program", [], run="Once", attributes={"signal": str(signal)}),
        agent("worker", "agents:Worker", [], replicas=0, attributes={"kept": "template", "wanted": 0}),
    ]
    with desk(tmp_path) as here:
        process = here.up(write(tmp_path / "domain", objects, COPIES))
        wait_for(signal.exists, timeout=60, what="the program has two copies")
        copies = {row["agent"]: row for row in here.replicas().values() if row["agent"].startswith("worker-")}
        assert set(copies) == {copy_name("worker", "Alice"), copy_name("worker", "Bob")}
        status = here.status("NameServer", "shop")
        assert sorted(copy["name"] for copy in status["copies"]) == sorted(copies)
        signal.unlink()
        assert process.wait(60) == 0, here.output()
        said = here.output()
        for line in (
            f"ALICE Alice {copy_name('worker', 'Alice')}-0 template [1, 'two'] True ['Alice']",
            "AGAIN AgentNameTaken: name already registered: an agent 'Alice' lives",
            "OTHER TemplateRefused: NameServer default/shop: spec.templates does not list 'program'; add `{name: program, maxCopies: ...}`",
            f"COPY TemplateRefused: NameServer default/shop: spec.templates does not list '{copy_name('worker', 'Alice')}'",
            "FAILS AgentStartError: template 'worker': agent 'Fred': An error occurred while creating the daemon!",
            "ValueError: made to fail",
            "LAMBDA EncodeError",
            "LARGE EncodeError: codec cloudpickle: attributes: found",
            "BOB ['Bob']",
            "MANY TemplateRefused: NameServer default/shop: spec.templates allows 2 copies of 'worker', and as many exist",
            "BROKEN TemplateRefused: NameServer default/shop: template 'plain': NameServer 'shop' has no Agent of this name",
            "ANEW True 4",
            "TemplateRefused: NameServer default/shop: spec.templates does not list 'program'",
        ):
            assert line in said, f"{line}\n{said}"
        # Each of them ended in order: one by itself, two with the domain.
        assert sorted(line.split()[-1] for line in said.splitlines() if "EXIT" in line) == ["Alice", "Alice", "Bob"], said
        here.assert_nothing_left(None)
