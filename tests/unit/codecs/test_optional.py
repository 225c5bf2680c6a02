"""Codecs that need a library more: compression and Protobuf."""

from __future__ import annotations

import contextlib
import struct
import sys
from typing import Any

import numpy as np
import pytest
from google.protobuf.struct_pb2 import Struct, Value
from hypothesis import given
from hypothesis import strategies as st

from ganglion.codecs import DecodeError, EncodeError, UnknownCodec, get_codec
from ganglion.codecs.messages import message_class, named_codec, protobuf_codec
from ganglion.imperative.serializers import codec_of, serializer_name

BLOSC = get_codec("MsgPackBlosc")
LONG = {"text": "again and again " * 1000, "array": np.zeros(1000)}


def test_what_is_long_is_compressed_and_comes_back() -> None:
    body = BLOSC.encode(LONG)
    assert len(body) < 2000
    found = BLOSC.decode(memoryview(body))
    assert found["text"] == LONG["text"]
    np.testing.assert_array_equal(found["array"], np.zeros(1000))


@pytest.mark.parametrize("value", [1, "short", b"", bytes(np.random.default_rng(1).bytes(5000))])
def test_what_does_not_shrink_costs_one_byte(value: Any) -> None:
    body = BLOSC.encode(value)
    assert len(body) == len(get_codec("MsgPack").encode(value)) + 1
    assert BLOSC.decode(body) == value


def test_a_short_body_cannot_fill_the_memory() -> None:
    chunk = bytearray(BLOSC.encode(LONG))
    chunk[5:9] = struct.pack("<I", 0x7FFFFFFF)
    with pytest.raises(DecodeError, match="2147483647 inside; at most"):
        BLOSC.decode(bytes(chunk))


@pytest.mark.parametrize("body", [b"", b"\x02", b"\x01", b"\x01" + bytes(16), b"\x00\xc1", b"\x01" + b"\xff" * 64])
def test_hostile_bodies_are_refused(body: bytes) -> None:
    with pytest.raises(DecodeError):
        BLOSC.decode(body)


@given(st.integers(1, 400), st.integers(0, 255), st.integers(16, 500))
def test_damaged_chunks_are_a_value_or_a_decode_error(place: int, byte: int, length: int) -> None:
    chunk = bytearray(BLOSC.encode(LONG)[: length + 1])
    chunk[place % len(chunk)] = byte
    if len(chunk) >= 17:
        # Not stopped by the length alone.
        chunk[13:17] = struct.pack("<I", len(chunk) - 1)
    with contextlib.suppress(DecodeError):
        BLOSC.decode(bytes(chunk))


def test_a_protobuf_codec_takes_messages_of_its_type() -> None:
    codec = protobuf_codec(Struct)
    message = Struct()
    message.update({"a": 1, "b": ["x"]})
    assert codec.decode(memoryview(codec.encode(message))) == message
    with pytest.raises(EncodeError, match="found a dict; send a Struct"):
        codec.encode({"a": 1})
    with pytest.raises(EncodeError, match="send a Struct"):
        codec.encode(Value())
    with pytest.raises(DecodeError, match="same message type"):
        codec.decode(b"\xff\xff\xff")
    with pytest.raises(UnknownCodec, match="protoc"):
        protobuf_codec(dict)


def test_a_message_type_is_found_by_its_full_name() -> None:
    assert message_class("google.protobuf.Struct") is Struct
    codec = named_codec("google.protobuf.Struct", "google.protobuf.Value")
    sent = Struct()
    sent.update({"a": 1})
    assert protobuf_codec(Struct).decode(codec.encode(sent)) == sent
    assert codec.decode(Value(number_value=2).SerializeToString()) == Value(number_value=2)
    with pytest.raises(EncodeError, match=r"codec Protobuf: found a google\.protobuf\.struct_pb2\.Value; send a Struct"):
        codec.encode(Value())
    # An enum, a file, and what no module has.
    for name in ("google.protobuf.NullValue", "google.protobuf", "Struct", "shop.Order", "", "google/protobuf/struct.proto"):
        with pytest.raises(UnknownCodec, match=f"no imported module has a message '{name}'"):
            message_class(name)


@given(st.binary(max_size=100))
def test_garbage_is_a_message_or_a_decode_error(body: bytes) -> None:
    with contextlib.suppress(DecodeError):
        assert isinstance(protobuf_codec(Struct).decode(body), Struct)


def test_programs_name_a_message_type_by_its_class_or_by_text() -> None:
    name = serializer_name(Struct)
    assert name == "protobuf:google.protobuf.struct_pb2:Struct"
    assert serializer_name(name) == name
    message = Struct()
    message.update({"a": None})
    assert codec_of(name).decode(codec_of(name).encode(message)) == message


@pytest.mark.parametrize(
    "name", ["protobuf:", "protobuf:json", "protobuf:no.such.module:X", "protobuf:json:JSONDecoder", "protobuf:json:nothing"]
)
def test_what_is_no_message_type_is_a_typed_error(name: str) -> None:
    with pytest.raises(UnknownCodec, match="protobuf:"):
        codec_of(name)


@pytest.mark.parametrize("name", ["", "yaml", "MsgPackBlosc", "pickle "])
def test_an_unknown_serializer_is_a_typed_error(name: str) -> None:
    with pytest.raises(UnknownCodec, match=r"must be one of pickle, .*msgpack\+blosc.*protobuf:module:Class"):
        serializer_name(name)


@pytest.mark.parametrize(
    ("library", "make"),
    [
        ("blosc", lambda: get_codec("MsgPackBlosc")),
        ("google.protobuf.message", lambda: protobuf_codec(Struct)),
        ("google.protobuf", lambda: message_class("a.B")),
    ],
)
def test_a_missing_library_is_named(library: str, make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(UnknownCodec, match=r"is not installed; install ganglion\[(blosc|protobuf)\]"):
        make()
