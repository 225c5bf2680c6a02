"""The receiver's half: its window follows what handlers take."""

from __future__ import annotations

import pytest

from ganglion.runtime.receiver import FIRST_WINDOW, HELD_SECONDS, LEAST_WINDOW, OVERLAPPING_WINDOW, Receiver
from ganglion.wire import frames
from ganglion.wire.frames import DONE


def test_quick_handlers_are_granted_everything_after_one_batch() -> None:
    receiver = Receiver(1024)
    assert receiver.grant_fields()["messages"] == FIRST_WINDOW
    assert receiver.took(16, 16 * 2e-6)
    assert receiver.grant_fields()["messages"] == 1024
    assert not receiver.took(16, 16 * 2e-6)


@pytest.mark.parametrize("seconds", [0.001, 0.01, 1.0])
def test_slow_handlers_hold_little(seconds: float) -> None:
    receiver = Receiver(1024)
    for _ in range(20):
        receiver.took(4, 4 * seconds)
    assert receiver.window <= max(LEAST_WINDOW, 2 * HELD_SECONDS / seconds)
    assert receiver.window >= LEAST_WINDOW


def test_a_few_slow_messages_change_the_window_a_few_times() -> None:
    receiver = Receiver(1024)
    changes = sum(receiver.took(64, 64 * (1e-6 if number % 50 else 1e-3)) for number in range(5000))
    assert changes <= 4 * 5000 // 50


def test_handlers_that_go_on_are_not_judged_by_the_time_until_they_wait() -> None:
    receiver = Receiver(1024)
    assert receiver.overlaps()
    assert receiver.grant_fields()["messages"] == OVERLAPPING_WINDOW
    assert not receiver.overlaps()


def test_a_small_window_is_never_exceeded() -> None:
    receiver = Receiver(3)
    assert receiver.window == 3
    assert not receiver.took(1, 9.0)
    assert receiver.window == 3


def test_adjacent_ranges_are_coalesced_until_they_are_taken() -> None:
    receiver = Receiver(16)
    receiver.add_link("a")
    assert receiver.received("a", 5)
    receiver.finished("a", 7, 0, 3, DONE)
    receiver.finished("a", 7, 3, 2, DONE)
    assert (receiver.held, receiver.waiting) == (0, 5)
    [(key, frame)] = receiver.take()
    assert (key, frames.decode_ack(frame)) == ("a", [(7, 0, 5, DONE)])
    assert not receiver.received("b", 1)
