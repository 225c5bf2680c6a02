"""Restarts: at once, then ever later up to a bound, and anew after a good run."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ganglion.local.backoff import FIRST_SECONDS, LONGEST_SECONDS, RESET_SECONDS, Backoff


def test_the_first_restart_is_at_once_and_the_others_double() -> None:
    backoff = Backoff()
    delays = [backoff.ended(100.0, 100.0) for _ in range(5)]
    assert delays == [0.0, FIRST_SECONDS, 2 * FIRST_SECONDS, 4 * FIRST_SECONDS, 8 * FIRST_SECONDS]


def test_a_good_run_begins_anew() -> None:
    backoff = Backoff()
    for _ in range(6):
        backoff.ended(0.0, 1.0)
    assert backoff.ended(0.0, RESET_SECONDS) == 0.0
    assert backoff.ended(0.0, 1.0) == FIRST_SECONDS


@given(st.lists(st.floats(0, RESET_SECONDS - 0.01), min_size=1, max_size=2000))
def test_delays_grow_and_stay_bounded(runs: list[float]) -> None:
    backoff = Backoff()
    delays = [backoff.ended(0.0, run) for run in runs]
    assert delays == sorted(delays)
    assert max(delays) <= LONGEST_SECONDS
