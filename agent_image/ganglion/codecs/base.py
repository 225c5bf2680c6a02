"""What a codec is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

Body = bytes | memoryview
"""An encoded message body."""


@dataclass(frozen=True, slots=True)
class Codec:
    """Two functions and their name. Both may be called from any thread.

    Attributes:
        name: as in `Channel.spec.codec`.
        encode: value → body; raises EncodeError.
        decode: body → value; raises DecodeError, and nothing else, whatever the body holds.
    """

    name: str
    encode: Callable[[Any], Body]
    decode: Callable[[Body], Any]


def kind(value: object) -> str:
    """Name of a value's type for error messages, with its module unless it is built in."""
    cls = type(value)
    return cls.__qualname__ if cls.__module__ == "builtins" else f"{cls.__module__}.{cls.__qualname__}"


def excerpt(body: Body, length: int = 16) -> str:
    """The first bytes of a body, for error messages."""
    view = memoryview(body)
    text = repr(bytes(view[:length]))
    return f"{text}… ({view.nbytes} bytes)" if view.nbytes > length else text
