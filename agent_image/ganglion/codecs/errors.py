"""Errors of the codecs. Each names the codec, what was found and what to do."""

from __future__ import annotations

from ganglion.errors import GanglionError


class CodecError(GanglionError):
    """Base: something about a message body's encoding.

    Attributes:
        codec: name of the codec, as in `Channel.spec.codec`.
    """

    def __init__(self, codec: str, message: str) -> None:
        super().__init__(f"codec {codec}: {message}")
        self.codec = codec


class EncodeError(CodecError, ValueError):
    """A value cannot be encoded by this codec."""


class DecodeError(CodecError, ValueError):
    """A body is not what this codec makes: garbage, or the peer uses another codec."""


class CodecForbidden(CodecError, PermissionError):
    """A codec that can run code while decoding was asked for and is not allowed here."""


class UnknownCodec(CodecError, ValueError):
    """No codec has this name, or what it needs is not installed."""
