"""Codecs by the names that programs give. A name is checked when it is given; there is no fall-back."""

from __future__ import annotations

import dataclasses
import functools
import importlib
import pickle
from collections.abc import Callable
from typing import Any

from ganglion.codecs import CODECS, Body, Codec, UnknownCodec, get_codec

NAMES = {
    "pickle": "Pickle",
    "json": "Json",
    "raw": "Raw",
    "buffer": "Raw",
    "dill": "Dill",
    "msgpack": "MsgPack",
    "msgpack+blosc": "MsgPackBlosc",
}
"""Names in addresses, and those of `ganglion.codecs`. What arrives is bytes with `raw`, and with `buffer` a view that was never copied."""
PROTOBUF = "protobuf:"
"""Before `module:Class`: messages of one type."""


def serializer_name(value: Any) -> str:
    """The name as addresses hold it; case does not matter.

    Args:
        value: a name; or a class that protoc has generated, which stands for `protobuf:module:Class`.
    Raises:
        UnknownCodec (a ValueError): no such codec.
    """
    if isinstance(value, type) and hasattr(value, "DESCRIPTOR"):
        return f"{PROTOBUF}{value.__module__}:{value.__qualname__}"
    name = str(value)
    if name.startswith(PROTOBUF):
        return name
    name = name.lower()
    if name not in NAMES and name != "cloudpickle":
        known = ", ".join((*NAMES, "cloudpickle", f"{PROTOBUF}module:Class"))
        raise UnknownCodec(str(value), f"Invalid serializer type {value}; must be one of {known}")
    return name


def separates(name: str) -> bool:
    """Whether a topic is kept apart from the body that a handler gets; with raw it gets both, joined."""
    return name != "raw"


@functools.cache
def codec_of(name: str) -> Codec:
    """The codec with this name, whether code may come with it or not: `trust.permitted_codec` asks.

    Raises:
        UnknownCodec (a ValueError): no such codec, or what it needs is not installed.
    """
    name = serializer_name(name)
    if name.startswith(PROTOBUF):
        return _protobuf(name)
    if name == "cloudpickle":
        from ganglion.imperative.values import CLOUDPICKLE

        return CLOUDPICKLE
    codec = get_codec(NAMES[name], allow_code=True)
    # A read-only view is for declared channels; programs expect bytes.
    return dataclasses.replace(codec, decode=bytes) if name == "raw" else codec


def _protobuf(name: str) -> Codec:
    from ganglion.codecs.messages import protobuf_codec

    module, _, path = name.removeprefix(PROTOBUF).partition(":")
    try:
        found: Any = importlib.import_module(module)
        for part in path.split("."):
            found = getattr(found, part)
            if not isinstance(found, type):
                # Its type and no more: a peer may have named it.
                found = type(found)
                break
    except (ImportError, AttributeError, ValueError) as error:
        raise UnknownCodec(
            name, f"cannot be imported here: {error}; must be {PROTOBUF}module:Class, of a module that agents can import"
        ) from error
    return protobuf_codec(found, name)


def fast(codec: Codec) -> tuple[Callable[[Any], Body], Callable[[Body], Any]]:
    """(encode, decode) for the hot path: as the codec's, but errors are the library's own. Who gets one asks the codec again, which
    raises the right one: the frame of a wrapper is a tenth of what a small message costs."""
    if codec.name == "Pickle":
        return _pickled, pickle.loads
    return codec.encode, codec.decode


def _pickled(value: Any) -> bytes:
    # By position: a keyword, or a partial with one, costs half as much as pickling something small.
    return pickle.dumps(value, 5)


assert set(NAMES.values()) == set(CODECS)
