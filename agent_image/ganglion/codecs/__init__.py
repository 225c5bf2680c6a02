"""Message bodies: how a value becomes bytes and back.

| name    | values                                    | notes |
|---------|-------------------------------------------|-------|
| MsgPack | None, bool, int (64 bit), float, str, bytes, list, dict, datetime, numpy arrays; tuples, sets, dataclasses go out as lists and maps | default; an array arrives as a read-only view of the body |
| MsgPackBlosc | as MsgPack                           | compressed where that makes it shorter; needs `ganglion[blosc]` |
| Json    | as MsgPack, without arrays; bytes travel as base64 text and come back as text | |
| Raw     | anything with the buffer protocol         | the handler gets a read-only memoryview |
| Protobuf | messages of one type, whose full name the channel has | made by `messages.named_codec`; needs `ganglion[protobuf]` |
| Pickle, Dill | any object                           | can run code while decoding: only where `remoteCode: Trusted` |

`messages.protobuf_codec` makes the codec of one Protobuf message type that a program gives.

A codec is chosen once per channel. There is no fall-back from one codec to another: what a codec cannot do is an error.
"""

from __future__ import annotations

from ganglion.codecs.base import Body, Codec
from ganglion.codecs.errors import CodecError, CodecForbidden, DecodeError, EncodeError, UnknownCodec
from ganglion.codecs.registry import CODECS, get_codec

__all__ = [
    "CODECS",
    "Body",
    "Codec",
    "CodecError",
    "CodecForbidden",
    "DecodeError",
    "EncodeError",
    "UnknownCodec",
    "get_codec",
]
