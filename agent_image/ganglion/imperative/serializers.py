"""Codecs by the names that programs give. A name is checked when it is given; there is no fall-back."""

from __future__ import annotations

import dataclasses
import functools
import pickle
from collections.abc import Callable
from typing import Any

from ganglion.codecs import CODECS, Body, Codec, get_codec

NAMES = {"pickle": "Pickle", "json": "Json", "raw": "Raw", "dill": "Dill", "msgpack": "MsgPack"}
"""Names in addresses, and those of `ganglion.codecs`."""


def serializer_name(value: str) -> str:
    """The name as addresses hold it; case does not matter.

    Raises:
        ValueError: no such codec.
    """
    name = str(value).lower()
    if name not in NAMES and name != "cloudpickle":
        raise ValueError(f"Invalid serializer type {value}; must be one of {', '.join((*NAMES, 'cloudpickle'))}")
    return name


def separates(name: str) -> bool:
    """Whether a topic is kept apart from the body that a handler gets; with raw it gets both, joined."""
    return name != "raw"


@functools.cache
def codec_of(name: str) -> Codec:
    """The codec with this name. Agents that a program makes trust each other's code: see the decision on imperative agents.

    Raises:
        ValueError: no such codec, or what it needs is not installed.
    """
    name = serializer_name(name)
    if name == "cloudpickle":
        from ganglion.imperative.values import CLOUDPICKLE

        return CLOUDPICKLE
    codec = get_codec(NAMES[name], allow_code=True)
    # A read-only view is for declared channels; programs expect bytes.
    return dataclasses.replace(codec, decode=bytes) if name == "raw" else codec


def fast(codec: Codec) -> tuple[Callable[[Any], Body], Callable[[Body], Any]]:
    """(encode, decode) for the hot path: as the codec's, but errors are the library's own. Who gets one asks the codec again, which
    raises the right one: the frame of a wrapper is a tenth of what a small message costs."""
    if codec.name == "Pickle":
        return functools.partial(pickle.dumps, protocol=5), pickle.loads
    return codec.encode, codec.decode


assert set(NAMES.values()) == set(CODECS)
