"""Raw: the body is the value.

Zero copy where that is safe: an unacknowledged message is kept for redelivery, so a buffer that the sender can still write to
(bytearray, writable array) is copied. `memoryview(x).toreadonly()` promises that it will not change, and saves the copy.
"""

from __future__ import annotations

from typing import Any

from ganglion.codecs.base import Body, Codec, kind
from ganglion.codecs.errors import EncodeError


def encode(value: Any) -> Body:
    """Body of a bytes-like value."""
    if type(value) is bytes:
        return value
    try:
        view = memoryview(value)
    except TypeError:
        raise EncodeError(
            "Raw", f"found a {kind(value)}; send bytes or another buffer, or choose another codec in Channel.spec.codec"
        ) from None
    if not view.readonly or not view.c_contiguous:
        return view.tobytes()
    # A zero in the shape cannot be cast.
    return view.cast("B") if view.nbytes else b""


def decode(body: Body) -> memoryview:
    """Read-only view of the body; `bytes(view)` copies it."""
    return memoryview(body).toreadonly()


RAW = Codec("Raw", encode, decode)
