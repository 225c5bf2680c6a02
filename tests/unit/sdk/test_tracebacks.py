"""What the author of an agent sees of his exceptions."""

from __future__ import annotations

import traceback
from pathlib import Path

import pytest

from ganglion.codecs import DecodeError
from ganglion.codecs.structured import MSGPACK
from ganglion.sdk.target import where
from ganglion.sdk.tracebacks import LINES, WINDOW_SECONDS, Repeats, place, trim

KIND = ("ValueError", "a.py", 3)
HERE = Path(__file__).name


def _encode() -> None:
    MSGPACK.encode(object())


def test_the_place_is_the_users_line() -> None:
    with pytest.raises(Exception, match="object") as caught:
        _encode()
    file, line = place(caught.value)
    assert Path(file).name == HERE
    assert line == _encode.__code__.co_firstlineno + 1
    assert where(caught.value).endswith(f"({HERE}, line {line})")


def test_causes_inside_ganglion_are_not_shown() -> None:
    with pytest.raises(Exception, match="object") as caught:
        _encode()
    assert "direct cause" in "".join(traceback.format_exception(caught.value))
    assert trim(caught.value)
    text = "".join(traceback.format_exception(caught.value))
    assert "direct cause" not in text
    assert text.count(f'{HERE}"') == 2
    assert "structured.py" not in text


def test_causes_in_user_code_stay() -> None:
    error: BaseException | None = None
    try:
        try:
            int("seven")
        except ValueError as inner:
            raise KeyError("outer") from inner
    except KeyError as outer:
        error = outer
    assert error is not None
    assert trim(error)
    assert "seven" in "".join(traceback.format_exception(error))


def test_an_exception_before_user_code_has_no_traceback() -> None:
    with pytest.raises(DecodeError) as caught:
        MSGPACK.decode(b"\xc1")
    # A port calls the decoder itself: no frame of a user is on the way.
    assert caught.value.__traceback__ is not None
    caught.value.__traceback__ = caught.value.__traceback__.tb_next
    assert not trim(caught.value)


def test_the_first_of_a_kind_is_shown_whole_and_the_rest_is_counted() -> None:
    repeats = Repeats()
    shown = [repeats.look(KIND, 0.0) for _ in range(100)]
    assert shown[0] == (True, True, 0)
    assert shown[1:LINES] == [(False, True, 0)] * (LINES - 1)
    assert not any(line for _, line, _ in shown[LINES:])
    assert repeats.look(("KeyError", "a.py", 3), 0.0) == (True, True, 0)
    assert repeats.look(KIND, WINDOW_SECONDS) == (False, True, 100 - LINES)
    assert repeats.look(KIND, WINDOW_SECONDS) == (False, True, 0)


def test_kinds_are_bounded() -> None:
    repeats = Repeats()
    for number in range(10_000):
        repeats.look(("E", "generated", number), 0.0)
    assert len(repeats._kinds) <= 256
