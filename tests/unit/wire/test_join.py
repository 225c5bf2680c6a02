"""The join frame: what a stranger may send."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ganglion.wire.join import MAX_JOIN_BYTES, Join, JoinError, decode_join, encode_join

JOIN = Join(
    agent="worker",
    replica="worker-0",
    uid="6f1e0c1e-1111-2222-3333-444455556666",
    start=3,
    issued=1700000000,
    key="k" * 40,
    host="10.0.0.7",
    software="0.1.0",
    token=b"secret-token",
)
_names = st.from_regex(r"[a-z0-9]([-a-z0-9]{0,50}[a-z0-9])?", fullmatch=True)


@given(
    st.builds(
        Join,
        agent=_names,
        replica=_names,
        uid=st.from_regex(r"[-A-Za-z0-9]{1,64}", fullmatch=True),
        start=st.integers(0, 2**64 - 1),
        issued=st.integers(0, 2**64 - 1),
        key=st.sampled_from(["", "k" * 40]),
        host=st.ip_addresses().map(str),
        software=st.just("1.0"),
        token=st.binary(max_size=4096),
        rejoin=st.booleans(),
    )
)
def test_round_trip(join: Join) -> None:
    assert decode_join(encode_join(join)) == join


@given(st.binary(max_size=9000))
def test_garbage_is_refused(data: bytes) -> None:
    with pytest.raises(JoinError):
        decode_join(data)


@given(st.data())
def test_one_changed_byte_is_read_or_refused(data: st.DataObject) -> None:
    frame = bytearray(encode_join(JOIN))
    frame[data.draw(st.integers(0, len(frame) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(JoinError):
        changed = decode_join(bytes(frame))
        # What is read in spite of the change can be written again: no field took a value that it must not have.
        assert decode_join(encode_join(changed)) == changed


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"host": "evil.example.com"}, "Malformed"),
        ({"host": ""}, "Malformed"),
        ({"key": "short"}, "Malformed"),
        ({"key": "#" * 40}, "Malformed"),
        ({"key": "~" * 40}, "Malformed"),
        ({"replica": "a b"}, "Malformed"),
        ({"replica": "wörker-0"}, "Malformed"),
        ({"uid": ""}, "Malformed"),
        ({"start": -1}, "Malformed"),
        ({"token": b"x" * MAX_JOIN_BYTES}, "TooLarge"),
    ],
)
def test_bad_field_is_refused_before_it_is_sent(changes: dict[str, object], reason: str) -> None:
    from dataclasses import replace

    with pytest.raises(JoinError) as caught:
        encode_join(replace(JOIN, **changes))  # type: ignore[arg-type]
    assert caught.value.reason == reason


def test_other_version_is_named() -> None:
    frame = bytearray(encode_join(JOIN))
    frame[2] = 9
    with pytest.raises(JoinError, match="found version 9") as caught:
        decode_join(bytes(frame))
    assert caught.value.reason == "UnknownVersion"


def test_token_shows_nowhere() -> None:
    assert "secret-token" not in repr(JOIN)
    frame = bytearray(encode_join(JOIN))
    frame[-1:] = b"xx"
    with pytest.raises(JoinError) as caught:
        decode_join(bytes(frame))
    assert "secret" not in str(caught.value)
