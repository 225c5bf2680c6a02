"""Which copies of templates are wanted, and until when: virtual time."""

from __future__ import annotations

from typing import Any

import pytest

from ganglion.nameserver.copies import ASKED_SECONDS, RESTART_SECONDS, Copies
from ganglion.nameserver.desk import CopyDesk
from ganglion.wire.admin import Copy, DeclaredAgent, DeclaredTemplate, Domain
from ganglion.wiring.copies import copy_name

ALICE, BOB, CAROL = (copy_name("worker", name) for name in ("Alice", "Bob", "Carol"))


def domain(*agents: DeclaredAgent, listed: tuple[str, ...] = (), most: int = 2, **more: Any) -> Domain:
    return Domain(
        agents={agent.name: agent for agent in agents},
        templates={"worker": DeclaredTemplate(max_copies=most), "broken": DeclaredTemplate(max_copies=1, problem="template 'broken': no class")},
        copies=[Copy(name=name, template="worker") for name in listed],
        **more,
    )  # fmt: skip


def copied(name: str, **more: Any) -> DeclaredAgent:
    return DeclaredAgent(name=name, replicas=1, run="Once", template="worker", **more)


def names(copies: Copies) -> list[str]:
    return [copy.name for copy in copies.listed()]


@pytest.fixture
def copies() -> Copies:
    found = Copies("team/lab")
    found.declare(domain(), 0.0)
    return found


def tick(copies: Copies, start: float, end: float) -> None:
    for tenth in range(int(start * 10), int(end * 10) + 1):
        copies.tick(tenth / 10)


def test_asking_twice_is_one_copy_and_more_than_allowed_is_refused(copies: Copies) -> None:
    assert copies.ask("Alice", "worker", 0.0).state == "Waiting"
    assert copies.ask("Alice", "worker", 1.0).state == "Waiting"
    assert copies.ask("Bob", "worker", 1.0).state == "Waiting"
    assert names(copies) == [ALICE, BOB]
    for name, template, says in (
        ("Carol", "worker", "NameServer team/lab: spec.templates allows 2 copies of 'worker'"),
        ("Carol", "sink", "spec.templates does not list 'sink'; add `{name: sink, maxCopies: ...}`"),
        ("Carol", "broken", "template 'broken': no class"),
    ):
        answer = copies.ask(name, template, 1.0)
        assert answer.state == "Refused"
        assert says in answer.text
    assert copies.refused == 3
    assert names(copies) == [ALICE, BOB]


def test_nobody_asks_before_the_domain_is_known() -> None:
    copies = Copies("team/lab")
    assert copies.ask("Alice", "worker", 0.0).state == "Waiting"
    assert names(copies) == []


def test_it_is_forgotten_when_nobody_asks_again_and_it_never_came(copies: Copies) -> None:
    copies.ask("Alice", "worker", 0.0)
    tick(copies, 0, 10)
    copies.ask("Alice", "worker", 10.0)
    tick(copies, 10, 10 + ASKED_SECONDS - 0.1)
    assert names(copies) == [ALICE]
    tick(copies, 10 + ASKED_SECONDS, 10 + ASKED_SECONDS)
    assert names(copies) == []


def test_it_stays_while_its_agent_is_there_and_no_longer(copies: Copies) -> None:
    copies.ask("Alice", "worker", 0.0)
    copies.heard([])
    copies.heard([ALICE, "somebody-else"])
    tick(copies, 0, 1000)
    assert names(copies) == [ALICE]
    copies.heard([])
    assert names(copies) == []


def test_who_gives_up_takes_back_only_what_never_came(copies: Copies) -> None:
    copies.ask("Alice", "worker", 0.0)
    copies.ask("Bob", "worker", 0.0)
    copies.heard([BOB])
    copies.forget("Alice", "worker")
    copies.forget("Bob", "worker")
    copies.forget("Carol", "worker")
    assert names(copies) == [BOB]


def test_a_name_is_free_when_the_former_copy_is_gone(copies: Copies) -> None:
    copies.declare(domain(copied(ALICE)), 0.0)
    assert copies.ask("Alice", "worker", 0.0).state == "Ending"
    assert names(copies) == []
    copies.declare(domain(), 1.0)
    assert copies.ask("Alice", "worker", 1.0).state == "Waiting"
    assert names(copies) == [ALICE]
    # An Agent of somebody else that has the name never ends for us.
    copies.declare(domain(DeclaredAgent(name=BOB, replicas=1)), 2.0)
    assert copies.ask("Bob", "worker", 2.0).state == "Refused"


def test_the_end_of_a_copy_that_never_came_is_told_with_its_reason(copies: Copies) -> None:
    copies.ask("Alice", "worker", 0.0)
    copies.declare(domain(copied(ALICE, problem="ImagePullBackOff: no such image")), 1.0)
    assert copies.ask("Alice", "worker", 1.0) == ("Waiting", f"Agent {ALICE!r}: ImagePullBackOff: no such image")
    copies.declare(domain(copied(ALICE, problem="Failed: gave up", over=True)), 2.0)
    assert copies.ask("Alice", "worker", 2.0) == ("Failed", f"Agent {ALICE!r}: Failed: gave up")


def test_a_restarted_name_server_keeps_the_list_until_its_agents_are_heard_again() -> None:
    copies = Copies("team/lab")
    copies.declare(domain(copied(ALICE), copied(BOB), listed=(ALICE, BOB)), 100.0)
    # What the source read first is what counts: later it is its own list.
    copies.declare(domain(copied(ALICE), copied(BOB), listed=()), 101.0)
    copies.heard([])
    tick(copies, 100, 105)
    assert names(copies) == [ALICE, BOB]
    copies.heard([ALICE])
    tick(copies, 105, 100 + RESTART_SECONDS + 1)
    assert names(copies) == [ALICE]


def test_a_new_directory_that_knows_nobody_yet_ends_nobody(copies: Copies) -> None:
    copies.ask("Alice", "worker", 0.0)
    copies.heard([ALICE])
    tick(copies, 0, 60)
    copies.silence(60.0)
    copies.heard([])
    tick(copies, 60, 60 + RESTART_SECONDS - 1)
    assert names(copies) == [ALICE]
    copies.heard([ALICE])
    tick(copies, 60, 200)
    assert names(copies) == [ALICE]


def test_a_name_server_that_stood_still_forgets_nobody(copies: Copies) -> None:
    copies.ask("Alice", "worker", 0.0)
    tick(copies, 0, 1)
    copies.tick(500.0)
    assert names(copies) == [ALICE]
    tick(copies, 500, 500 + ASKED_SECONDS)
    assert names(copies) == []


def test_what_the_spec_no_longer_allows_is_taken_off_but_not_at_the_domains_end(copies: Copies) -> None:
    for name in ("Alice", "Bob"):
        copies.ask(name, "worker", 0.0)
    copies.declare(domain(most=1, deleting=True), 1.0)
    assert names(copies) == [ALICE, BOB]
    assert copies.ask("Carol", "worker", 1.0).state == "Refused"
    copies.declare(domain(most=1), 1.0)
    assert names(copies) == [ALICE]
    # A template that is gone or changed concerns new copies alone.
    gone = domain()
    assert gone.templates is not None
    gone.templates["worker"] = DeclaredTemplate(max_copies=1, problem="template 'worker': none")
    copies.declare(gone, 2.0)
    assert names(copies) == [ALICE]
    copies.declare(Domain(), 3.0)
    assert names(copies) == []


def test_the_desk_survives_whatever_a_directory_says() -> None:
    told: list[dict[str, Any]] = []
    refused: list[str] = []
    desk = CopyDesk("team/lab", refused.append)

    def tell(message: dict[str, Any]) -> bool:
        told.append(message)
        return True

    desk.tell = tell
    desk.declare(domain())
    said: list[Any] = [None, 7, "ask", [], {}, {"ask": "1"}, {"here": "all"}, {"here": [1, None, {}]}, {"forget": None, "template": 1}]
    said += [{"ask": 1, "agent": agent, "template": "worker"} for agent in (2, "x" * 1000)]
    for garbage in said:
        desk.hear(garbage)
    assert desk.copies.listed() == []
    desk.tick()
    assert told == [{"copies": {}}]
    desk.hear({"ask": 1, "agent": "Alice", "template": "worker"})
    assert told[1:] == [{"copies": {ALICE: "worker"}}, {"answer": 1, "state": "Waiting", "text": f"Agent {ALICE!r}: not made yet"}]
    desk.hear({"ask": 2, "agent": "Alice", "template": "nobody"})
    assert len(refused) == 1
    assert told[3]["state"] == "Refused"
    # The next directory is told the whole list.
    desk.begin()
    desk.tick()
    assert told[4] == {"copies": {ALICE: "worker"}}


def test_templates_that_are_not_understood_end_nobody(copies: Copies) -> None:
    copies.ask("Alice", "worker", 0.0)
    copies.declare(Domain(templates=None), 1.0)
    assert names(copies) == [ALICE]
    answer = copies.ask("Bob", "worker", 1.0)
    assert answer.state == "Refused"
    assert "does not know" in answer.text


def test_who_waits_has_time_to_ask_a_new_directory(copies: Copies) -> None:
    copies.ask("Alice", "worker", 0.0)
    tick(copies, 0, 14)
    copies.silence(14.0)
    tick(copies, 14, 14 + RESTART_SECONDS - 1)
    assert names(copies) == [ALICE]
    tick(copies, 14 + RESTART_SECONDS - 1, 14 + RESTART_SECONDS)
    assert names(copies) == []
