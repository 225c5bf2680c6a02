"""Exceptions on the wire: type, message and traceback arrive."""

from __future__ import annotations

import traceback
from typing import Any

import pytest

from ganglion import AttributeTaken, EncodeError, Forwarder, NotSupported, RemoteError
from ganglion.imperative.failures import decode_error, encode_error


class Odd(Exception):
    def __init__(self, code: int, *, why: str) -> None:
        super().__init__(f"odd {code}: {why}")
        self.code = code


def caught(error: Exception) -> Exception:
    with pytest.raises(type(error)) as raised:
        raise error
    return raised.value


@pytest.mark.parametrize("error", [ValueError("v"), KeyError("k"), Odd(3, why="because"), EncodeError("Json", "x"), AttributeTaken("a")])
def test_the_same_type_and_text(error: Exception) -> None:
    found = decode_error(encode_error(caught(error)))
    assert type(found) is type(error)
    assert str(error) in (str(found), *found.args)
    assert isinstance(found.__cause__, RemoteError)
    assert "caught" in found.__cause__.traceback


def shown(error: BaseException) -> str:
    return "".join(traceback.format_exception(error))


def test_the_remote_traceback_is_shown_once() -> None:
    calls: list[tuple[str, tuple[Any, ...], dict[str, Any]] | None] = [None, ("work", (1,), {})]
    for call in calls:
        text = shown(decode_error(encode_error(caught(ValueError("bad")), call)))
        assert text.count("in caught") == 1, text


def test_a_traceback_without_the_users_code_is_not_shown() -> None:
    with pytest.raises(NotSupported) as raised:
        Forwarder().unsubscribe("subscribers", "topic")
    found = decode_error(encode_error(raised.value.with_traceback(raised.tb.tb_next)))
    assert isinstance(found, NotSupported)
    assert "  File " not in shown(found)


def test_plain_attributes_travel() -> None:
    found = decode_error(encode_error(Odd(3, why="because")))
    assert isinstance(found, Odd)
    assert found.code == 3


def test_a_safe_call_tells_what_was_called() -> None:
    found = decode_error(encode_error(caught(ValueError("bad")), ("work", (1,), {"x": 2})))
    assert isinstance(found, ValueError)
    assert "Error executing `work`! (bad)" in str(found)
    assert "> args: (1,)" in str(found)


def test_what_cannot_be_rebuilt_is_a_remote_error() -> None:
    found = decode_error(encode_error(UnicodeDecodeError("utf-8", b"x", 0, 1, "no")))
    assert isinstance(found, RemoteError)
    assert found.type.endswith("UnicodeDecodeError")
