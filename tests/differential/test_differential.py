"""The same programs on osBrain and on Ganglion give equal transcripts, except where docs/osbrain.md says how they differ."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec

import pytest

from tests.differential.accepted import ACCEPTED
from tests.differential.catalogue import catalogue
from tests.differential.runner import Run
from tests.differential.verdicts import compare, documented, pending

pytestmark = pytest.mark.skipif(find_spec("osbrain") is None, reason="osbrain is not installed")

OURS = ("ganglion", "ganglion+thread")


@pytest.fixture(scope="session")
def run(request: pytest.FixtureRequest) -> Iterator[Run]:
    """All selected scenarios, played in the background in the order of the tests."""
    names = [
        str(item.callspec.params["scenario"])
        for item in request.session.items
        if isinstance(item, pytest.Function) and item.originalname == "test_scenario"
    ]
    run = Run([(player, name) for name in dict.fromkeys(names) for player in ("osbrain", *OURS)], workers=8)
    try:
        yield run
    finally:
        run.close()


@pytest.mark.parametrize("player", OURS)
@pytest.mark.parametrize("scenario", list(catalogue()))
def test_scenario(run: Run, player: str, scenario: str) -> None:
    theirs, ours = run.result("osbrain", scenario), run.result(player, scenario)
    found = compare(scenario, theirs, ours)
    # osBrain has races of its own; ours must do, each time, what osBrain does in one of three plays.
    for _ in range(2):
        if theirs.failure is None and (not found or ours.failure is not None):
            break
        theirs = run.again("osbrain", scenario)
        found = compare(scenario, theirs, ours)
    assert theirs.failure is None, f"on osBrain:\n{theirs.failure}\n{theirs.output}"
    assert theirs.transcript, "a scenario without a transcript shows nothing"
    if reason := pending().get(scenario):
        assert found, "it passes: take it off pending.txt"
        pytest.xfail(reason)
    assert not found, "\n".join(found) + f"\n{ours.failure or ''}\n{ours.output}"


def test_nothing_is_left_behind(run: Run) -> None:
    assert not [run.leftovers(player) for player in OURS if run.leftovers(player)]


def test_there_are_enough() -> None:
    assert len(catalogue()) >= 150


def test_lists_name_scenarios_that_exist() -> None:
    assert set(pending()) <= set(catalogue())
    assert set(ACCEPTED) <= set(catalogue())


def test_accepted_differences_are_documented() -> None:
    assert {difference.line for difference in ACCEPTED.values()} <= documented()
