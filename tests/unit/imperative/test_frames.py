"""Headers and records: whatever arrives, it is one or it is refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ganglion.imperative import frames
from ganglion.imperative.frames import FrameError, Record


def test_a_header_survives() -> None:
    assert frames.read_header(frames.header(frames.CALL, 2**63, b"x" * 16, 1)) == (frames.CALL, 1, 2**63, b"x" * 16)


@given(st.binary(max_size=64))
def test_garbage_is_no_header(body: bytes) -> None:
    try:
        kind, flags, number, life = frames.read_header(body)
    except FrameError:
        return
    assert frames.header(kind, number, life, flags) == body


@given(st.binary(max_size=64))
def test_garbage_is_no_record(body: bytes) -> None:
    try:
        record = frames.decode_record(body)
    except FrameError:
        return
    assert isinstance(record, Record)


def test_another_version_is_refused() -> None:
    body = bytearray(frames.header(frames.CALL))
    body[1] = 2
    with pytest.raises(FrameError, match="version 2"):
        frames.read_header(bytes(body))
