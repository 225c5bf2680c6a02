"""The envelope of a call that carries code: who signed it, for whom, and until when. Pure; integers little endian.

```
magic 4 "GSC\\x01" | life 16 | nonce 16 | expires u64 | digest 32 | signer 32 | n u16 | method n | signature 64 | payload
```
The signature (Ed25519) covers `CONTEXT` and everything before itself. `life` is that of the agent that is called, `expires` milliseconds
since 1970, `digest` SHA-256 of the payload, `signer` the public key. The payload is pickled (args, kwargs); nobody looks at it here.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final

MAGIC: Final = b"GSC\x01"
"""No pickle begins so."""
CONTEXT: Final = b"ganglion remote code 1\0"
"""Before what is signed: a signature for anything else is none for a call."""
MAX_METHOD_BYTES: Final = 256
SIGNATURE_BYTES: Final = 64
_HEAD: Final = struct.Struct("<4s16s16sQ32s32sH")


class EnvelopeError(ValueError):
    """Not an envelope of this version."""


@dataclass(frozen=True, slots=True)
class Envelope:
    """What is signed; see the module for the fields."""

    life: bytes
    nonce: bytes
    expires: int
    digest: bytes
    signer: bytes
    method: str

    def head(self) -> bytes:
        """As it travels.

        Raises:
            EnvelopeError: the method's name is empty or too long.
        """
        method = self.method.encode()
        if not 0 < len(method) <= MAX_METHOD_BYTES:
            raise EnvelopeError(f"envelope: found a method's name of {len(method)} bytes; must have 1 to {MAX_METHOD_BYTES}")
        return _HEAD.pack(MAGIC, self.life, self.nonce, self.expires, self.digest, self.signer, len(method)) + method


def seal(head: bytes, signature: bytes, payload: bytes) -> bytes:
    """The whole body of a call."""
    return b"".join((head, signature, payload))


def open_envelope(body: bytes) -> tuple[Envelope, bytes, bytes, memoryview]:
    """(envelope, its head, signature, payload) of a body. Nothing of it is verified.

    Raises:
        EnvelopeError: it is none.
    """
    if len(body) < _HEAD.size or body[:4] != MAGIC:
        raise EnvelopeError(f"envelope: found {len(body)} bytes that begin with {bytes(body[:4])!r}; not an envelope of this version")
    _, life, nonce, expires, digest, signer, length = _HEAD.unpack_from(body)
    end = _HEAD.size + length
    if not 0 < length <= MAX_METHOD_BYTES or len(body) < end + SIGNATURE_BYTES:
        raise EnvelopeError(f"envelope: found {len(body)} bytes, and a method's name of {length}; it is cut off or damaged")
    try:
        method = body[_HEAD.size : end].decode()
    except UnicodeDecodeError as error:
        raise EnvelopeError(f"envelope: the method's name is no UTF-8: {error}") from None
    start = end + SIGNATURE_BYTES
    return Envelope(life, nonce, expires, digest, signer, method), body[:end], body[end:start], memoryview(body)[start:]
