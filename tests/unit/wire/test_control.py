"""Control messages of authenticated peers that are hostile or broken."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ganglion.wire import admin, control
from ganglion.wire.admin import ChannelCount, MemberState, PostedNotice, Status
from ganglion.wire.control import (
    Beat,
    ChannelReport,
    ChannelState,
    Directory,
    Incarnation,
    Ledger,
    Part,
    Peer,
    PeerChannel,
    Report,
    Welcome,
)

Decode = Callable[[bytes], Any]
DECODERS: tuple[Decode, ...] = (control.decode, admin.decode)

_REPORT = Report(phase="Ready", channels={"in": ChannelReport(port=7600, wired=2, sent=Ledger(9, 8, 1), delivered=5)}, message="x")
_PEER = Peer(
    agent="a",
    replica="a-0",
    incarnation=Incarnation("u", 1, 2),
    host="127.0.0.1",
    key="k",
    channels={"c": PeerChannel(role="Push", port=1)},
)
WHOLE = (
    control.encode(Beat(epoch="e", seq=3, report=_REPORT, parts={"in": Part("lines", "Pull")}, key="k")),
    control.encode(Directory(epoch="e", seq=1, full=True, peers=[_PEER], gone=["b-0"], channels={"c": ChannelState(ended=True)})),
    control.encode(Welcome(version=1, epoch="e", lease_seconds=10.0, beat_seconds=1.0)),
    admin.encode(
        Status(
            request=1,
            epoch="e",
            endpoint="tcp://127.0.0.1:1",
            members=[MemberState(replica="a-0", agent="a", phase="Ready", message="", start=1, ports={"in": 1})],
            channels=[ChannelCount(name="c")],
            notices=[PostedNotice(number=1, replica="a-0", reason="r", channel="c", message="m", count=1)],
        )
    ),
)
_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.text(max_size=5) | st.binary(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
_TAGS = ("Welcome", "Refuse", "Beat", "Directory", "Command", "Notice", "Bye", "AppHello", "AppReport", "Drain", "SetDomain", "Status")
_FIELDS = (
    "epoch",
    "seq",
    "report",
    "parts",
    "key",
    "peers",
    "gone",
    "channels",
    "kind",
    "deadline_seconds",
    "version",
    "pid",
    "domain",
    "count",
)


def _survives(frame: bytes) -> None:
    for decode in DECODERS:
        with contextlib.suppress(msgspec.MsgspecError):
            decode(frame)


@pytest.mark.parametrize("decode", DECODERS)
@pytest.mark.parametrize("tag", ["Beat", "Status"])
def test_a_message_of_bottomless_nesting_is_refused_like_any_other(decode: Decode, tag: str) -> None:
    deep = b"\x91" * 60_000 + b"\xc0"
    frame = b"\x82" + b"".join(map(msgspec.msgpack.encode, ("t", tag, "unknown"))) + deep
    with pytest.raises(msgspec.DecodeError):
        decode(frame)


@given(st.binary(max_size=300))
def test_garbage_raises_msgspec_errors_only(raw: bytes) -> None:
    _survives(raw)


@given(st.sampled_from(_TAGS), st.dictionaries(st.sampled_from(_FIELDS), _values, max_size=6))
def test_wrong_fields_raise_msgspec_errors_only(tag: str, fields: dict[str, Any]) -> None:
    _survives(msgspec.msgpack.encode({"t": tag, **fields}))


@given(st.sampled_from(WHOLE), st.data())
def test_damaged_messages_raise_msgspec_errors_only(whole: bytes, data: st.DataObject) -> None:
    position = data.draw(st.integers(0, len(whole) - 1))
    _survives(whole[:position])
    _survives(whole[:position] + data.draw(st.binary(min_size=1, max_size=3)) + whole[position + 1 :])
