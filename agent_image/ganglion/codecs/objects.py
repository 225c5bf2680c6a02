"""Pickle and Dill: any object, and for that reason any code. Made only where that was allowed; see `registry.get_codec`."""

from __future__ import annotations

import pickle
from typing import Any

from ganglion.codecs.base import Body, Codec, excerpt, kind
from ganglion.codecs.errors import DecodeError, EncodeError, UnknownCodec

_PROTOCOL = 5
"""Highest protocol that every supported Python reads (PEP 574)."""


def _codec(name: str, module: Any) -> Codec:
    dumps, loads = module.dumps, module.loads

    def encode(value: Any) -> bytes:
        try:
            body: bytes = dumps(value, protocol=_PROTOCOL)
        except Exception as error:  # __reduce__ and __getstate__ of the value may raise anything
            raise EncodeError(name, f"found a {kind(value)}: {type(error).__name__}: {error}; send something picklable") from error
        return body

    def decode(body: Body) -> Any:
        try:
            return loads(body)
        except Exception as error:  # loading runs constructors of the sender's choice
            raise DecodeError(
                name, f"found {excerpt(body)}: {type(error).__name__}: {error}; are sender and receiver the same code?"
            ) from error

    return Codec(name, encode, decode)


def pickle_codec() -> Codec:
    """The standard library's pickle."""
    return _codec("Pickle", pickle)


def dill_codec() -> Codec:
    """dill: also lambdas and local functions.

    Raises:
        UnknownCodec: dill is not installed.
    """
    try:
        import dill
    except ImportError as error:
        raise UnknownCodec("Dill", "dill is not installed; install ganglion[dill]") from error
    return _codec("Dill", dill)
