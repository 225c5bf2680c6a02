"""Protobuf: messages of one type, or of one type out and another in.

A type is named by its class, or by its full name (`shop.Order`): then the module that protoc has generated must have been imported, because
nothing is imported for a name that came from outside.
"""

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


def message_class(full_name: str) -> Any:
    """The class of a message that an imported module has generated.

    Raises:
        UnknownCodec: protobuf is not installed, or no imported module has a message of this name.
    """
    try:
        from google.protobuf import descriptor_pool, message_factory
    except ImportError as error:
        raise UnknownCodec(NAME, "protobuf is not installed; install ganglion[protobuf]") from error
    try:
        found = descriptor_pool.Default().FindMessageTypeByName(full_name)  # type: ignore[no-untyped-call, unused-ignore]
    except KeyError:
        raise UnknownCodec(
            NAME,
            f"no imported module has a message {full_name!r}; import the module that protoc has generated for it where the agent's class is"
            " defined, and give its package too",
        ) from None
    return message_factory.GetMessageClass(found)


def named_codec(sent: str, received: str) -> Codec:
    """The codec that encodes messages of one type and decodes those of another, or of the same.

    Args:
        sent, received: full names.
    Raises:
        UnknownCodec: see `message_class`.
    """
    encode = protobuf_codec(message_class(sent)).encode
    return Codec(NAME, encode, protobuf_codec(message_class(received)).decode)
