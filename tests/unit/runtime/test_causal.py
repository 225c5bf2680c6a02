"""Causal acknowledgement: no input is acknowledged before what was sent for it is settled."""

from __future__ import annotations

from collections.abc import Hashable

from hypothesis import given
from hypothesis import strategies as st

from ganglion.runtime.causal import Runs, Token
from ganglion.wire.frames import DONE, HANDLED

Finished = list[tuple[Hashable, int, int, int, int]]


def _token(log: Finished, first: int = 0) -> Token:
    return Token(lambda *entry: log.append(entry), "link", 1, first)


def test_without_sends_the_run_is_finished_when_its_handlers_returned() -> None:
    log: Finished = []
    _token(log, 5).close(3)
    assert log == [("link", 1, 5, 3, DONE)]


def test_an_empty_run_finishes_nothing() -> None:
    log: Finished = []
    token = _token(log)
    token.open += 1
    token.close(0)
    token.settled(1)
    assert log == []


def test_sends_hold_it_back_and_handled_is_told_on_request() -> None:
    log: Finished = []
    token, runs = _token(log), Runs()
    runs.switch(token, 0)
    token.close(1, tell=True)
    assert token.waiting
    assert log == [("link", 1, 0, 1, HANDLED)]
    for held, count in runs.seal(4):
        held.settled(count)
    assert log[1:] == [("link", 1, 0, 1, DONE)]
    assert not token.waiting


def test_a_send_after_the_acknowledgement_acknowledges_nothing_twice() -> None:
    log: Finished = []
    token, runs = _token(log), Runs()
    token.close(2)
    runs.switch(token, 0)
    for held, count in runs.seal(1):
        held.settled(count)
    assert len(log) == 1


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(1, 5), st.booleans()), max_size=30))
def test_each_token_finishes_once_and_only_after_its_sends(plan: list[tuple[int, int, bool]]) -> None:
    """Sends of four inputs in any order, in batches that are sealed anywhere; batches settle in any order."""
    logs: list[Finished] = [[] for _ in range(4)]
    tokens = [_token(log) for log in logs]
    sent = [0] * 4
    runs, size, batches = Runs(), 0, []
    for which, count, seal in plan:
        if tokens[which] is not runs.token:
            runs.switch(tokens[which], size)
        size += count
        sent[which] += count
        if seal:
            batches.append(runs.seal(size))
            size = 0
    batches.append(runs.seal(size))
    for token in tokens:
        token.close(1)
    left = list(sent)
    for batch in reversed(batches):
        for token, count in batch:
            which = tokens.index(token)
            assert logs[which] == []
            token.settled(count)
            left[which] -= count
            assert len(logs[which]) == (left[which] == 0)
    assert [len(log) for log in logs] == [1] * 4
