"""Garbage for every decoder: it is refused with the decoder's own error, and no code is loaded. `make fuzz` searches longer."""

from __future__ import annotations

import pickle

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ganglion.imperative import frames as calls
from ganglion.imperative.envelope import Envelope, seal
from ganglion.imperative.frames import Record
from tests.fuzz.targets import SIGNER, TARGETS, LoadedCode, only

BOMB = b"cos\nsystem\n(S'true'\ntR."
"""A pickle that runs a program when it is loaded."""
ENVELOPE = seal(Envelope(b"\1" * 16, bytes(16), 1, bytes(32), SIGNER.public_bytes_raw(), "run").head(), bytes(64), BOMB)
RECORD = calls.encode_record(Record("a", bytes(16), "tcp://127.0.0.1:1", "tcp://127.0.0.1:2", 1, True))


@pytest.mark.parametrize("name", TARGETS)
@given(data=st.binary(max_size=300))
@example(data=b"")
@example(data=BOMB)
@example(data=bytes((6, len(BOMB))) + BOMB)
@example(data=bytes((4, len(RECORD))) + RECORD)
@example(data=ENVELOPE)
@example(data=ENVELOPE[4:] + BOMB)
@example(data=b"\x93" * 300)
@example(data=b"[" * 300)
@example(data=b"\xc7\x10N\x04<f8\x02" + b"\xff" * 16)
def test_garbage(name: str, data: bytes) -> None:
    TARGETS[name](data)


def test_a_target_tells_when_code_is_loaded() -> None:
    with pytest.raises(LoadedCode, match="pickle"):
        only((Exception,), pickle.loads)(BOMB)
