"""numpy arrays in MsgPack: what goes in comes out as a view of the body; garbage is a typed error."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ganglion.codecs import DecodeError, EncodeError, get_codec
from ganglion.codecs.arrays import ARRAY

CODEC = get_codec("MsgPack")


@pytest.mark.parametrize(
    "array",
    [
        np.arange(12, dtype=np.float64).reshape(3, 4),
        np.arange(12, dtype=np.int16).reshape(3, 4).T,
        np.arange(20)[::3],
        np.array(7, dtype=">u4"),
        np.zeros((0, 3), np.float32),
        np.array([True, False]),
        np.array([1 + 2j], np.complex64),
        np.array(["a", "öö"]),
        np.array([b"x", b"yz"]),
        np.array(["2024-05-06T07:08", "NaT"], "datetime64[ns]"),
        np.array([1.5], np.float16),
    ],
)
def test_arrays_keep_type_shape_and_values(array: Any) -> None:
    found = CODEC.decode(CODEC.encode({"a": [array], "n": 1}))["a"][0]
    assert found.dtype == array.dtype
    assert found.shape == array.shape
    np.testing.assert_array_equal(found, array)


def test_the_receivers_array_is_a_read_only_view_of_the_body() -> None:
    array = np.arange(1 << 16, dtype=np.uint8)
    body = bytes(CODEC.encode(array))
    found = CODEC.decode(memoryview(body))
    assert np.shares_memory(found, np.frombuffer(body, np.uint8))
    assert not found.flags.writeable
    sent = CODEC.encode(array)
    array[0] = 255
    assert CODEC.decode(sent)[0] == 0


def test_numbers_of_numpy_are_numbers() -> None:
    assert CODEC.decode(CODEC.encode([np.float32(1.5), np.int64(7), np.bool_(True), np.str_("s")])) == [1.5, 7, True, "s"]


@pytest.mark.parametrize(
    "value",
    [np.array([object()]), np.zeros(2, [("a", "i4")]), np.ma.masked_array([1], [True]), np.zeros(1, "V4"), np.zeros(1, "V4")[0]],
)
def test_what_is_no_plain_array_is_named(value: Any) -> None:
    with pytest.raises(EncodeError, match="codec MsgPack: found a "):
        CODEC.encode(value)


def _extension(data: bytes) -> bytes:
    return msgspec.msgpack.encode(msgspec.msgpack.Ext(ARRAY, data))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x03",
        b"\x03<f8",
        b"\x03<f8\x01",
        b"\x03<f8\x01" + (2**63).to_bytes(8, "little"),
        b"\x03<f8\x02" + (2**63).to_bytes(8, "little") * 2,
        b"\x02|O\x00" + bytes(8),
        b"\x03|O8\x00" + bytes(8),
        b"\x03|V8\x00" + bytes(8),
        b"\x05i4,i4\x00" + bytes(8),
        b"\x04<U99\x00",
        b"\x03<f9\x00" + bytes(9),
        b"\x06<M8[q]\x00" + bytes(8),
        b"\x03<f8\xff" + bytes(8 * 255),
        b"\xff" * 300,
        b"\x03|S0\x01" + (1 << 45).to_bytes(8, "little"),
        b"\x03<U0\x01" + (1 << 40).to_bytes(8, "little"),
    ],
)
def test_hostile_arrays_are_refused(data: bytes) -> None:
    with pytest.raises(DecodeError, match="codec MsgPack: found b"):
        CODEC.decode(_extension(data))


@given(st.binary(max_size=64), st.sampled_from([b"", b"\x03<f8\x01", b"\x03|S1\x02", b"\x07<M8[ns]\x01"]))
def test_garbage_is_an_array_or_a_decode_error(data: bytes, head: bytes) -> None:
    with contextlib.suppress(DecodeError):
        assert isinstance(CODEC.decode(_extension(head + data)), np.ndarray)


def test_other_extensions_stay_what_they_are() -> None:
    assert CODEC.decode(msgspec.msgpack.encode(msgspec.msgpack.Ext(5, b"x"))) == msgspec.msgpack.Ext(5, b"x")


def test_without_arrays_numpy_is_not_imported_and_without_numpy_the_error_says_what_to_do() -> None:
    program = f"""
import sys
from ganglion.codecs import get_codec
codec = get_codec("MsgPack")
codec.decode(codec.encode([1, "a", b"b"]))
try:
    codec.encode(object())
except ValueError:
    pass
assert "numpy" not in sys.modules
sys.modules["numpy"] = None
codec.decode({bytes(CODEC.encode(np.arange(3)))!r})
"""
    done = subprocess.run([sys.executable, "-c", program], check=False, capture_output=True, text=True)
    assert "install ganglion[numpy]" in done.stderr
    assert "DecodeError" in done.stderr
