"""From a codec's name to the codec."""

from __future__ import annotations

from ganglion.codecs.base import Codec
from ganglion.codecs.errors import CodecForbidden, UnknownCodec
from ganglion.codecs.raw import RAW
from ganglion.codecs.structured import JSON, MSGPACK

_PLAIN = {codec.name: codec for codec in (MSGPACK, JSON, RAW)}
_CODE = ("Pickle", "Dill")
_BLOSC = "MsgPackBlosc"
CODECS = (*_PLAIN, _BLOSC, *_CODE)
"""All names, as in `Channel.spec.codec`, of codecs that a name says all about: Protobuf has a message type, see `messages`."""


def get_codec(name: str, *, allow_code: bool = False) -> Codec:
    """The codec with this name.

    Args:
        name: one of `CODECS`.
        allow_code: whether codecs that can run code while decoding may be used (`NameServer.spec.remoteCode: Trusted`).
    Raises:
        UnknownCodec: no such name, or what it needs (dill, blosc) is not installed.
        CodecForbidden: Pickle or Dill without `allow_code`.
    """
    codec = _PLAIN.get(name)
    if codec is not None:
        return codec
    if name == _BLOSC:
        from ganglion.codecs import compressed

        return compressed.blosc_codec()
    if name not in _CODE:
        raise UnknownCodec(name, f"no such codec; must be one of {', '.join(CODECS)}")
    if not allow_code:
        raise CodecForbidden(
            name, "can run code while decoding and is forbidden here; set NameServer.spec.remoteCode to Trusted or use MsgPack"
        )
    # Imported here: a process that must not load code does not even hold the module that would.
    from ganglion.codecs import objects

    return objects.pickle_codec() if name == "Pickle" else objects.dill_codec()
