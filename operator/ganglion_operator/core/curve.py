"""CURVE key pairs without libzmq: X25519 and Z85, so that the operator does not load the messaging stack."""

from __future__ import annotations

import hashlib
from typing import NamedTuple

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

# https://rfc.zeromq.org/spec/32/
_Z85 = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.-:+=^!/*?&<>()[]{}@%$#"


class KeyPair(NamedTuple):
    """Both halves as 40 Z85 characters."""

    public: str
    secret: str


def z85(data: bytes) -> str:
    """Z85 text of `data`.

    Raises:
        ValueError: the length is not a multiple of four.
    """
    if len(data) % 4:
        raise ValueError(f"data: found {len(data)} bytes; must be a multiple of 4")
    out = []
    for offset in range(0, len(data), 4):
        word = int.from_bytes(data[offset : offset + 4], "big")
        out += [_Z85[word // 85**power % 85] for power in (4, 3, 2, 1, 0)]
    return "".join(out)


def key_pair(seed: bytes) -> KeyPair:
    """The CURVE key pair of 32 random bytes.

    Raises:
        ValueError: `seed` has another length.
    """
    public = X25519PrivateKey.from_private_bytes(seed).public_key().public_bytes_raw()
    return KeyPair(z85(public), z85(seed))


def fingerprint(public: str) -> str:
    """Short name of a public key, usable in object names."""
    return hashlib.sha256(public.encode()).hexdigest()[:10]
