"""Routine writes of many objects are spread; those of a few are not."""

from __future__ import annotations

from ganglion_operator.core.kinds import Key
from ganglion_operator.engine.pace import Pace


def key(number: int) -> Key:
    return Key("Agent", "default", f"agent-{number}")


def test_one_key_waits_for_nobody() -> None:
    pace = Pace(rate=10.0)
    assert pace.due(key(0), 101.0, 100.0) == 101.0
    pace.forget(key(0))
    assert pace.due(key(0), 100.0, 100.5) == 100.5


def test_many_keys_take_turns_and_keep_them() -> None:
    pace = Pace(rate=10.0)
    turns = [pace.due(key(number), 0.0, 100.0) for number in range(50)]
    assert turns == [100.0 + number / 10 for number in range(50)]
    assert pace.due(key(49), 0.0, 103.0) == turns[49]


def test_who_has_nothing_to_say_any_more_makes_room() -> None:
    pace = Pace(rate=10.0)
    for number in range(50):
        pace.due(key(number), 0.0, 100.0)
    for number in range(50):
        pace.forget(key(number))
    assert pace.due(key(50), 0.0, 101.0) == 101.0
