"""Data frames: what is encoded is decoded again, and garbage raises FrameError and nothing else."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ganglion.wire import frames

u64 = st.integers(0, 2**64 - 1)
maps = st.dictionaries(st.text(max_size=8), st.one_of(st.integers(-5, 2**40), st.text(max_size=8), st.binary(max_size=8)), max_size=4)


@given(
    stream=u64,
    first=st.integers(0, 2**63),
    bodies=st.lists(st.binary(max_size=40), min_size=1, max_size=frames.MAX_BATCH),
    skip=st.integers(0, 2**frames.MAX_BATCH - 1),
    flags=st.sampled_from((0, 2, 4, 6)),
    ext=st.none() | maps,
)
def test_batches_round_trip(stream: int, first: int, bodies: list[bytes], skip: int, flags: int, ext: dict[str, object] | None) -> None:
    skip &= (1 << len(bodies)) - 1
    frame = frames.encode_data(stream, first, bodies, flags=flags, skip=skip, ext=ext)
    data = frames.decode_data(frame)
    assert data.head == (flags | (ext is not None) | (frames.FLAG_SKIP if skip else 0), len(bodies), stream, first, skip)
    assert [data.body(i) for i in range(len(bodies))] == bodies
    assert data.ext == (ext or {})
    view = frames.decode_data(memoryview(frame))
    assert [bytes(view.body(i)) for i in range(len(bodies))] == bodies


@given(
    bodies=st.lists(st.binary(max_size=9), min_size=1, max_size=frames.MAX_BATCH),
    skip=st.integers(0, 2**frames.MAX_BATCH - 1),
    before=st.booleans(),
)
def test_a_redelivery_keeps_ids_and_bodies(bodies: list[bytes], skip: int, before: bool) -> None:
    skip &= (1 << len(bodies)) - 1
    data = frames.decode_data(frames.redelivered(frames.encode_data(7, 9, bodies, skip=skip & before, ext={"deadline": 5}), skip))
    flags = frames.FLAG_EXT | frames.FLAG_REDELIVERY | (frames.FLAG_SKIP if skip else 0)
    assert data.head == (flags, len(bodies), 7, 9, skip)
    assert [data.body(i) for i in range(len(bodies))] == bodies
    assert data.ext == {"deadline": 5}


@given(st.lists(st.tuples(u64, u64, st.integers(0, 2**32 - 1), st.integers(0, 9)), max_size=20))
def test_acknowledgements_round_trip(ranges: list[tuple[int, int, int, int]]) -> None:
    assert frames.decode_ack(frames.encode_ack(ranges)) == ranges


@given(stream=u64, seq=u64, body=st.binary(max_size=99), code=st.integers(0, 2**32 - 1))
def test_replies_round_trip(stream: int, seq: int, body: bytes, code: int) -> None:
    assert frames.decode_reply(frames.encode_reply(stream, seq, body, code=code)) == (code, stream, seq, body)


def test_an_error_reply_keeps_type_message_and_the_end_of_the_traceback() -> None:
    reply = frames.decode_reply(frames.encode_error(1, 2, type_name="ValueError", message="é" * 9999, traceback="x" * 20000 + "last line"))
    kind, message, traceback = frames.error_fields(reply.body)
    assert reply.code == 1
    assert kind == "ValueError"
    assert message == "é" * 3000
    assert traceback.endswith("last line")


@given(st.sampled_from(sorted(frames.CONTROL_KINDS)), maps)
def test_control_frames_round_trip(kind: int, fields: dict[str, object]) -> None:
    assert frames.decode_control(frames.encode_control(kind, fields)) == (kind, fields)


DECODERS = (frames.decode_data, frames.decode_ack, frames.decode_reply, frames.decode_control, frames.data_head, frames.kind)


def _survives(raw: bytes) -> None:
    for decode in DECODERS:
        for frame in (raw, memoryview(raw)):
            with contextlib.suppress(frames.FrameError):
                decode(frame)
    frames.error_fields(raw)


@given(st.binary(max_size=200))
def test_garbage_raises_frame_errors_only(raw: bytes) -> None:
    _survives(raw)


@given(st.sampled_from(b"DARHWXQGPON"), st.binary(max_size=200))
def test_garbage_behind_a_plausible_head_raises_frame_errors_only(kind: int, tail: bytes) -> None:
    _survives(bytes((kind, frames.VERSION)) + tail)


@given(st.data())
def test_damaged_frames_raise_frame_errors_only(data: st.DataObject) -> None:
    whole = frames.encode_data(1, 2, [b"abc", b"", b"d" * 50], skip=data.draw(st.integers(0, 7)), ext={"deadline": 1, "trace": "x"})
    position = data.draw(st.integers(0, len(whole) - 1))
    _survives(whole[:position])
    _survives(whole[:position] + bytes((data.draw(st.integers(0, 255)),)) + whole[position + 1 :])


def test_a_deeply_nested_map_is_refused() -> None:
    with pytest.raises(frames.FrameError):
        frames.decode_control(bytes((frames.HELLO, frames.VERSION, 0, 0)) + b"\x81\xa1a" * 4000 + b"\xc0")


def test_another_version_is_named() -> None:
    frame = bytearray(frames.encode_data(1, 2, [b"x"]))
    frame[1] = 9
    with pytest.raises(frames.UnknownVersion, match="version 9, this runtime speaks 1"):
        frames.decode_data(bytes(frame))


@pytest.mark.parametrize("value", [-1, True, "9", None, 1.5])
def test_counts_of_control_fields_are_checked(value: object) -> None:
    with pytest.raises(frames.FrameError, match="messages"):
        frames.count_field({"messages": value}, "messages", 0)
