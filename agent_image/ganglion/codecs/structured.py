"""MsgPack and Json, by msgspec. MsgPack also takes numpy arrays: see `arrays`.

Hostile input: msgspec stops at CPython's recursion limit, checks declared lengths against the bytes that are there before it allocates,
and never makes anything but plain values. A body's size is bounded by the channel's `maxMessageBytes` before it gets here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from ganglion.codecs.arrays import decode_extension, encode_other
from ganglion.codecs.base import Body, Codec, excerpt, kind
from ganglion.codecs.errors import DecodeError, EncodeError

_ADVICE = "send plain values (numbers, text, bytes, lists, dicts), or choose another codec in Channel.spec.codec"


def _guard_encode(name: str, encode: Callable[[Any], bytes]) -> Callable[[Any], bytes]:
    def guarded(value: Any) -> bytes:
        try:
            return encode(value)
        except RecursionError:
            raise EncodeError(
                name, f"found a value of type {kind(value)} that is nested too deeply or contains itself; flatten it"
            ) from None
        except Exception as error:  # an iterable's or a mapping's own code may raise anything
            raise EncodeError(name, f"found a value of type {kind(value)}: {error}; {_ADVICE}") from error

    return guarded


def _guard_decode(name: str, decode: Callable[[Body], Any]) -> Callable[[Body], Any]:
    def guarded(body: Body) -> Any:
        try:
            return decode(body)
        except RecursionError:
            raise DecodeError(name, f"found {excerpt(body)}: nested too deeply; refused") from None
        except (msgspec.MsgspecError, UnicodeError, ValueError, TypeError, OverflowError) as error:
            raise DecodeError(name, f"found {excerpt(body)}: {error}; does the sender use the same codec?") from error

    return guarded


MSGPACK = Codec(
    "MsgPack",
    _guard_encode("MsgPack", msgspec.msgpack.Encoder(enc_hook=encode_other).encode),
    _guard_decode("MsgPack", msgspec.msgpack.Decoder(ext_hook=decode_extension).decode),
)
JSON = Codec(
    "Json",
    _guard_encode("Json", msgspec.json.Encoder().encode),
    _guard_decode("Json", msgspec.json.Decoder().decode),
)
