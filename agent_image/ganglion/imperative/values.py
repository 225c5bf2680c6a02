"""Arguments, results, classes and functions by value. Only ever loaded from a peer that has proved to hold the join secret."""

from __future__ import annotations

import pickle
from typing import Any

import cloudpickle

from ganglion.codecs.base import Body, Codec, excerpt, kind
from ganglion.codecs.errors import DecodeError, EncodeError

_PROTOCOL = 5
PLAIN = frozenset({int, float, str, bytes, bool, type(None)})
"""Types whose values say all by themselves."""


def is_plain(value: Any, depth: int = 3) -> bool:
    """Built-in data alone, a few levels deep: plain pickle says the same, ten times as fast."""
    cls = type(value)
    if cls in PLAIN:
        return True
    if depth == 0:
        return False
    if cls is tuple or cls is list:
        return len(value) < 32 and all(is_plain(item, depth - 1) for item in value)
    return cls is dict and len(value) < 32 and all(is_plain(item, depth - 1) for pair in value.items() for item in pair)


def dumps(value: Any) -> bytes:
    """A value as bytes; functions and classes that the receiver cannot import go with it.

    Raises:
        EncodeError: it holds something that has no meaning elsewhere (a socket, a lock).
    """
    if is_plain(value):
        return pickle.dumps(value, _PROTOCOL)
    try:
        body: bytes = cloudpickle.dumps(value, _PROTOCOL)
    except Exception as error:  # __reduce__ of the value may raise anything
        raise EncodeError("cloudpickle", f"found a {kind(value)}: {type(error).__name__}: {error}; pass something picklable") from error
    return body


def loads(body: Body) -> Any:
    """The value.

    Raises:
        DecodeError: garbage, or a module that cannot be imported here.
    """
    try:
        return pickle.loads(body)  # noqa: S301 - the peer is authenticated; see the module
    except Exception as error:  # loading runs constructors of the sender's choice
        raise DecodeError("cloudpickle", f"found {excerpt(body)}: {type(error).__name__}: {error}") from error


CLOUDPICKLE = Codec("cloudpickle", dumps, loads)
