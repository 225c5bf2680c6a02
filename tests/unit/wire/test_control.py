"""Control messages of authenticated peers that are hostile or broken."""

from __future__ import annotations

import msgspec
import pytest

from ganglion.wire.control import decode


def test_a_message_of_bottomless_nesting_is_refused_like_any_other() -> None:
    deep = b"\x91" * 60_000 + b"\xc0"
    frame = b"\x82" + b"".join(map(msgspec.msgpack.encode, ("t", "Beat", "unknown"))) + deep
    with pytest.raises(msgspec.DecodeError):
        decode(frame)
