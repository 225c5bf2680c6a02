"""Protobuf: messages of one type."""

from __future__ import annotations

from typing import Any

from ganglion.codecs.base import Body, Codec, excerpt, kind
from ganglion.codecs.errors import DecodeError, EncodeError, UnknownCodec

NAME = "Protobuf"


def protobuf_codec(message_type: Any, name: str = NAME) -> Codec:
    """The codec of one message type.

    Args:
        message_type: a class that protoc generated; what is received is an instance of it.
        name: for error messages.
    Raises:
        UnknownCodec: protobuf is not installed, or it is no such class.
    """
    try:
        from google.protobuf.message import Message
    except ImportError as error:
        raise UnknownCodec(name, "protobuf is not installed; install ganglion[protobuf]") from error
    if not (isinstance(message_type, type) and issubclass(message_type, Message)):
        raise UnknownCodec(name, f"found {message_type!r}; needs a message class that protoc has generated")

    cls: Any = message_type

    def encode(value: Any) -> bytes:
        if value.__class__ is not cls:
            raise EncodeError(name, f"found a {kind(value)}; send a {cls.__name__}, or choose another codec")
        try:
            body: bytes = value.SerializeToString()
        except Exception as error:  # a required field is missing, a text is no UTF-8
            raise EncodeError(name, f"found a {kind(value)}: {error}") from error
        return body

    def decode(body: Body) -> Any:
        made = cls()
        try:
            # It takes no view.
            made.ParseFromString(bytes(body))
        except Exception as error:  # the library's own errors, which are not the same in each of its versions
            raise DecodeError(name, f"found {excerpt(body)}: {error}; does the sender use the same message type?") from error
        return made

    return Codec(name, encode, decode)
