"""MsgPackBlosc: MsgPack bodies, compressed where that makes them shorter.

```
0 | MsgPack                  it is short, or does not shrink
1 | Blosc chunk of MsgPack
```
"""

from __future__ import annotations

import struct
from typing import Any

from ganglion.codecs.base import Body, Codec, excerpt
from ganglion.codecs.errors import DecodeError, UnknownCodec
from ganglion.codecs.structured import MSGPACK

NAME = "MsgPackBlosc"
WORTH_BYTES = 256
"""Shorter bodies are left alone: a chunk's head alone has 16 bytes."""
MAX_BYTES = 256 * 1024 * 1024
"""Largest body after decompression: a short frame must not fill the memory."""
_HEAD = struct.Struct("<4B3I")
"""Of a Blosc chunk: versions, flags, type size; bytes, block size, bytes of the chunk."""


def blosc_codec() -> Codec:
    """The codec.

    Raises:
        UnknownCodec: blosc is not installed.
    """
    try:
        import blosc
    except ImportError as error:
        raise UnknownCodec(NAME, "blosc is not installed; install ganglion[blosc]") from error
    # Its threads would not survive a fork, and handlers have a core of their own at best.
    blosc.set_nthreads(1)

    def encode(value: Any) -> bytes:
        body = bytes(MSGPACK.encode(value))
        if WORTH_BYTES <= len(body) <= MAX_BYTES:
            chunk: bytes = blosc.compress(body, typesize=1, clevel=5, shuffle=blosc.NOSHUFFLE, cname="lz4")
            if len(chunk) < len(body):
                return b"\1" + chunk
        return b"\0" + body

    def decode(body: Body) -> Any:
        view = memoryview(body)
        inner = view[1:]
        if view.nbytes and view[0] == 0:
            return MSGPACK.decode(inner)
        if not view.nbytes or view[0] != 1 or inner.nbytes < _HEAD.size:
            raise DecodeError(NAME, f"found {excerpt(body)}: not a compressed body; does the sender use the same codec?")
        *_, size, _block, whole = _HEAD.unpack_from(inner)
        if size > MAX_BYTES or whole != inner.nbytes:
            raise DecodeError(
                NAME, f"found a chunk of {inner.nbytes} bytes that says it has {whole}, and {size} inside; at most {MAX_BYTES}"
            )
        try:
            plain = blosc.decompress(inner)
        except Exception as error:  # the library's own class of errors
            raise DecodeError(NAME, f"found {excerpt(body)}: {error}") from error
        return MSGPACK.decode(plain)

    return Codec(NAME, encode, decode)
