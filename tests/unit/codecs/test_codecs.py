"""Codecs: what goes in comes out; what cannot, is a typed error; garbage never is anything else."""

from __future__ import annotations

import array
import contextlib
import datetime as dt
import pickle
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ganglion.codecs import CODECS, Codec, CodecForbidden, DecodeError, EncodeError, UnknownCodec, get_codec
from ganglion.errors import GanglionError

_TEXT = st.text(st.characters(codec="utf-8"))
_LEAVES = st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False) | _TEXT
_JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False) | _TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_TEXT, inner, max_size=4),
    max_leaves=20,
)
_MSGPACK = st.recursive(
    _LEAVES | st.binary(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_TEXT | st.integers(-100, 100), inner, max_size=4),
    max_leaves=20,
)


@given(_MSGPACK)
def test_msgpack_round_trip(value: Any) -> None:
    codec = get_codec("MsgPack")
    body = codec.encode(value)
    assert codec.decode(body) == value
    assert codec.decode(memoryview(b"x" + bytes(body))[1:]) == value


@given(_JSON)
def test_json_round_trip(value: Any) -> None:
    codec = get_codec("Json")
    assert codec.decode(codec.encode(value)) == value


@given(st.binary())
def test_raw_is_the_value(value: bytes) -> None:
    codec = get_codec("Raw")
    assert codec.encode(value) is value
    view = codec.decode(value)
    assert isinstance(view, memoryview)
    assert view.readonly
    assert view == value


@given(st.binary(max_size=300), st.sampled_from(["MsgPack", "Json", "Raw"]))
def test_garbage_is_a_value_or_a_decode_error(body: bytes, name: str) -> None:
    with contextlib.suppress(DecodeError):
        get_codec(name).decode(body)


@pytest.mark.parametrize(
    ("name", "body"),
    [
        ("MsgPack", b"\x91" * 200_000),
        ("Json", b"[" * 200_000),
        ("Json", b'{"a":' * 200_000),
        ("MsgPack", b"\xdd\xff\xff\xff\xff"),
        ("MsgPack", b"\xdb\xff\xff\xff\xffabc"),
        ("MsgPack", b""),
        ("Json", b'"\xff"'),
        ("Json", b"1" * 100_000),
        ("MsgPack", b"\xc1"),
        ("MsgPack", b"\x01\x02"),
        ("Pickle", b"garbage"),
        ("Pickle", b""),
    ],
)
def test_hostile_bodies_are_refused(name: str, body: bytes) -> None:
    with pytest.raises(DecodeError, match=f"codec {name}: found b"):
        get_codec(name, allow_code=True).decode(body)


class _Hostile:
    def __iter__(self) -> Iterator[int]:
        raise RuntimeError("no")

    def __reduce__(self) -> str:
        raise RuntimeError("no")


def _nested(depth: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(depth):
        value = [value]
    return value


def _cycle() -> list[Any]:
    value: list[Any] = []
    value.append(value)
    return value


@pytest.mark.parametrize("value", [object(), _Hostile(), 1 << 70, _nested(100_000), _cycle(), "\ud800", lambda: None])
@pytest.mark.parametrize("name", ["MsgPack", "Raw"])
def test_what_cannot_be_encoded_is_named(name: str, value: Any) -> None:
    with pytest.raises(EncodeError, match=f"codec {name}: found a "):
        get_codec(name).encode(value)


@pytest.mark.parametrize("name", ["Pickle", "Dill"])
def test_objects_whose_pickling_raises_are_named(name: str) -> None:
    with pytest.raises(EncodeError, match=f"codec {name}: found a .*_Hostile: RuntimeError: no"):
        get_codec(name, allow_code=True).encode(_Hostile())


def test_raw_copies_only_what_can_still_change() -> None:
    codec = get_codec("Raw")
    buffer = bytearray(b"abc")
    body = codec.encode(buffer)
    buffer[0] = 0
    assert bytes(body) == b"abc"
    promised = codec.encode(memoryview(buffer).toreadonly())
    assert isinstance(promised, memoryview)
    assert promised.obj is buffer
    numbers = array.array("d", [1.0, 2.0])
    assert memoryview(codec.encode(memoryview(numbers).toreadonly())).nbytes == 16
    assert bytes(codec.encode(memoryview(b"abcdef")[::2])) == b"ace"
    assert codec.encode(memoryview(array.array("d")).toreadonly()) == b""


def test_msgpack_keeps_times() -> None:
    codec = get_codec("MsgPack")
    now = dt.datetime(2024, 5, 6, 7, 8, 9, tzinfo=dt.UTC)
    assert codec.decode(codec.encode(now)) == now


@pytest.mark.parametrize("name", ["Pickle", "Dill"])
def test_code_needs_permission(name: str) -> None:
    with pytest.raises(CodecForbidden, match="remoteCode to Trusted"):
        get_codec(name)
    codec = get_codec(name, allow_code=True)
    assert codec.decode(codec.encode({1, 2})) == {1, 2}


def test_dill_takes_lambdas_and_pickle_says_that_it_does_not() -> None:
    codec = get_codec("Dill", allow_code=True)
    assert codec.decode(codec.encode(lambda x: x + 1))(1) == 2
    with pytest.raises(EncodeError, match="codec Pickle: found a function"):
        get_codec("Pickle", allow_code=True).encode(lambda x: x + 1)


def test_what_unpickling_raises_is_a_decode_error() -> None:
    class Bomb:
        def __reduce__(self) -> Any:
            return int, ("not a number",)

    with pytest.raises(DecodeError, match="ValueError"):
        get_codec("Pickle", allow_code=True).decode(pickle.dumps(Bomb()))


@pytest.mark.parametrize("name", ["msgpack", "", "Yaml", "\x00"])
def test_an_unknown_codec_is_refused(name: str) -> None:
    with pytest.raises(UnknownCodec, match="must be one of MsgPack, Json, Raw, MsgPackBlosc, Pickle, Dill"):
        get_codec(name, allow_code=True)


def test_every_name_has_a_codec_and_errors_share_a_root() -> None:
    for name in CODECS:
        codec = get_codec(name, allow_code=True)
        assert isinstance(codec, Codec)
        assert codec.name == name
    assert issubclass(CodecForbidden, GanglionError)


def test_forbidden_codecs_are_not_even_imported() -> None:
    program = "import sys; from ganglion.codecs import get_codec; get_codec('MsgPack'); print([m for m in ('dill', 'pickle') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert "dill" not in done.stdout
