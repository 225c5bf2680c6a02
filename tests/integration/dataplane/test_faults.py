"""Kills and freezes, with real processes: nothing is lost, and what is handled twice fits into the windows."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.wait import wait_for
from tests.support.world import World, alias, world

WINDOW = 1024
COUNT = 4000
PLANES = pytest.mark.parametrize("sidecars", [False, True], ids=["in-process", "sidecars"])
BINDERS = pytest.mark.parametrize("push_binds", [False, True], ids=["pull-binds", "push-binds"])


def _check(w: World, sources: int, *, lives: int, count: int = COUNT) -> None:
    """Each message was handled; duplicates fit into the windows of the links that were lost."""
    handled = w.handled()
    expected = {f"src-{i}:{number}" for i in range(sources) for number in range(count)}
    assert set(handled) == expected
    duplicates = sum(handled.values()) - len(handled)
    assert duplicates <= WINDOW * sources * lives
    for i in range(sources):
        ledger, ended, _ = w.state(f"src-{i}")
        assert ended
        assert (ledger.accepted, ledger.acked) == (count, count)


@PLANES
@BINDERS
def test_receivers_are_killed_and_come_back(tmp_path: Path, sidecars: bool, push_binds: bool) -> None:
    with world(tmp_path, sidecars=sidecars) as w:
        for i in range(2):
            w.replica(f"dst-{i}", "sink", alias("in", "work", "Pull", bind=not push_binds), pause=0.0003)
        for i in range(2):
            w.replica(f"src-{i}", "source", alias("out", "work", "Push", bind=push_binds), count=COUNT)
        for kill in range(4):
            w.await_progress(10_000)
            w.kill(f"dst-{kill % 2}")
            w.start(f"dst-{kill % 2}")
        w.await_end("src-0", "src-1")
        _check(w, 2, lives=4)


@BINDERS
def test_sidecars_are_killed_and_come_back(tmp_path: Path, push_binds: bool) -> None:
    with world(tmp_path, sidecars=True) as w:
        for i in range(2):
            w.replica(f"dst-{i}", "sink", alias("in", "work", "Pull", bind=not push_binds), pause=0.0003)
        w.replica("src-0", "source", alias("out", "work", "Push", bind=push_binds), count=COUNT)
        for victim in ("dst-0", "src-0", "dst-1", "src-0"):
            w.await_progress(8_000)
            w.kill(f"{victim}/sidecar")
            w.start(f"{victim}/sidecar")
        w.await_end("src-0")
        handled = w.handled()
        assert set(handled) == {f"src-0:{number}" for number in range(COUNT)}
        # A sender's sidecar may have had acknowledgements of every receiver on their way.
        assert sum(handled.values()) - COUNT <= 1024 * 4


@PLANES
@BINDERS
def test_a_frozen_receiver_is_given_up_and_its_messages_go_elsewhere(tmp_path: Path, sidecars: bool, push_binds: bool) -> None:
    with world(tmp_path, sidecars=sidecars) as w:
        for i in range(2):
            w.replica(f"dst-{i}", "sink", alias("in", "work", "Pull", bind=not push_binds), pause=0.0003)
        w.replica("src-0", "source", alias("out", "work", "Push", bind=push_binds), count=COUNT)
        w.await_progress(8_000)
        w.freeze("dst-0")
        # Ends only if the frozen one's messages are given to the other.
        w.await_end("src-0", timeout=60)
        w.thaw("dst-0")
        _check(w, 1, lives=2)


def test_a_frozen_sidecar_is_given_up(tmp_path: Path) -> None:
    with world(tmp_path, sidecars=True) as w:
        for i in range(2):
            w.replica(f"dst-{i}", "sink", alias("in", "work", "Pull", bind=False), pause=0.0003)
        w.replica("src-0", "source", alias("out", "work", "Push", bind=True), count=COUNT)
        w.await_progress(8_000)
        w.freeze("dst-0/sidecar")
        w.await_end("src-0", timeout=60)
        _check(w, 1, lives=2)


@PLANES
def test_a_pipeline_loses_nothing_when_its_middle_is_killed(tmp_path: Path, sidecars: bool) -> None:
    with world(tmp_path, sidecars=sidecars) as w:
        w.replica("dst-0", "sink", alias("in", "results", "Pull", bind=True))
        for i in range(2):
            w.replica(
                f"mid-{i}", "stage", alias("in", "work", "Pull", bind=False), alias("out", "results", "Push", bind=False), pause=0.0003
            )
        w.replica("src-0", "source", alias("out", "work", "Push", bind=True), count=COUNT)
        for kill in range(3):
            w.await_progress(8_000)
            w.kill(f"mid-{kill % 2}")
            w.start(f"mid-{kill % 2}")
        w.await_end("src-0")
        _check(w, 1, lives=6)


@PLANES
@pytest.mark.timeout(300)
def test_a_message_that_kills_its_handler_is_given_up_and_nothing_else_is(tmp_path: Path, sidecars: bool) -> None:
    with world(tmp_path, sidecars=sidecars) as w:
        w.replica("dst-0", "poison", alias("in", "work", "Pull", bind=True), victim="src-0:700")
        w.replica("src-0", "source", alias("out", "work", "Push", bind=False), count=1500)

        def over() -> bool:
            if w.processes["dst-0"].poll() is not None:
                w.kill("dst-0")
                w.start("dst-0")
            return w.state("src-0")[1]

        # Every life is a new interpreter: seconds each beside a busy machine's other work.
        wait_for(over, timeout=240, what="the source ended", interval=0.05)
        assert set(w.handled()) == {f"src-0:{number}" for number in range(1500)} - {"src-0:700"}
        ledger = w.state("src-0")[0]
        assert (ledger.accepted, ledger.acked, ledger.dead_lettered) == (1500, 1499, 1)


@PLANES
@pytest.mark.parametrize("rep_binds", [True, False])
def test_a_request_to_a_killed_replier_fails_at_once(tmp_path: Path, sidecars: bool, rep_binds: bool) -> None:
    with world(tmp_path, sidecars=sidecars) as w:
        w.replica("rep-0", "replier", alias("rep", "ask", "Rep", bind=rep_binds), hang="hang")
        w.replica("req-0", "requester", alias("req", "ask", "Req", bind=not rep_binds))

        def ask(question: str) -> None:
            with (tmp_path / "questions").open("a") as questions:
                questions.write(question + "\n")

        ask("one")
        ask("raise")
        wait_for(lambda: len(_answers(w)) == 2, what="two answers")
        assert _answers(w)["one"][0] == "rep-0 one"
        assert _answers(w)["raise"][0] == "RemoteError: ValueError: cannot answer that"
        ask("hang")
        wait_for(lambda: w.state("req-0")[0].accepted == 3, what="the third question is out")
        ask("two")
        # The answer to a later question shows that the replier has the earlier one.
        wait_for(lambda: "two" in _answers(w), what="an answer to a later question")
        w.kill("rep-0")
        wait_for(lambda: "hang" in _answers(w), timeout=20, what="the failure")
        outcome, seconds = _answers(w)["hang"]
        assert outcome.startswith("ReplierLost")
        assert float(seconds) < 25, "well before its timeout of 30 s"
        w.start("rep-0")
        ask("three")
        wait_for(lambda: "three" in _answers(w), what="the new replier's answer")
        assert _answers(w)["three"][0] == "rep-0 three"
        # The published state may be older than the answer: at rest, but before the last question.
        wait_for(lambda: w.state("req-0")[0].accepted == 5 and w.state("req-0")[0].in_flight == 0, what="a ledger at rest")
        ledger = w.state("req-0")[0]
        assert (ledger.accepted, ledger.acked, ledger.dropped) == (5, 4, 1)


def _answers(w: World) -> dict[str, tuple[str, str]]:
    return {question: (outcome, seconds) for question, outcome, seconds in (line.split("|") for line in w.handled())}
