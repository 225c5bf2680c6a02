"""`remoteCode: Signed`: calls that carry code are signed by who makes them, and verified before anything of them is loaded.

Keys are Ed25519, in PEM: `GANGLION_SIGNING_KEY_FILE` is the private key of who sends code, `GANGLION_TRUSTED_KEYS_FILE` the public keys
whose code an agent runs, one or more. Plain data needs no signature.
"""

from __future__ import annotations

import functools
import hashlib
import hmac
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ganglion.codecs.errors import EncodeError
from ganglion.imperative import values
from ganglion.imperative.envelope import CONTEXT, MAGIC, Envelope, EnvelopeError, open_envelope, seal
from ganglion.imperative.errors import (
    MalformedSignature,
    SignatureExpired,
    SignatureInvalid,
    SignatureReplayed,
    SignedForAnother,
    SignedOtherCode,
    SignerUnknown,
    TooManySigned,
)
from ganglion.imperative.frames import NO_LIFE

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

SIGNING_KEY = "GANGLION_SIGNING_KEY_FILE"
TRUSTED_KEYS = "GANGLION_TRUSTED_KEYS_FILE"
MAX_SECONDS = 300.0
"""Longest validity that is accepted: so long is a nonce remembered, too. Clocks of the two hosts may differ by what is left of it."""
MAX_NONCES = 65536
"""Remembered at once; when there are more, signed calls are refused until some have expired."""
MAX_KEYS_BYTES = 1 << 20
_END = b"-----END PUBLIC KEY-----"


# ---------------------------------------------------------------- keys


def _read(variable: str) -> tuple[Path, bytes]:
    name = os.environ.get(variable, "")
    if not name:
        raise ValueError(f"{variable}: not set; with remoteCode: Signed it names a PEM file with Ed25519 keys")
    path = Path(name)
    if path.stat().st_size > MAX_KEYS_BYTES:
        raise ValueError(f"{variable}: {path} has more than {MAX_KEYS_BYTES} bytes; it must be a PEM file with Ed25519 keys")
    return path, path.read_bytes()


@functools.cache
def signing_key() -> Ed25519PrivateKey:
    """The private key of this process.

    Raises:
        ValueError: the variable is not set, or the file is no Ed25519 private key without a password.
        PermissionError: everybody may read the file.
        OSError: it cannot be read.
    """
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    path, text = _read(SIGNING_KEY)
    if path.stat().st_mode & 0o007:
        raise PermissionError(
            f"{SIGNING_KEY}: {path} has mode {path.stat().st_mode & 0o777:o}, so everybody may use the key; set it to 600"
        )
    try:
        key = load_pem_private_key(text, None)
    except Exception as error:  # the library's errors differ by what is wrong
        raise ValueError(f"{SIGNING_KEY}: {path}: no private key in PEM without a password: {error}") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise ValueError(f"{SIGNING_KEY}: {path}: found a {type(key).__name__}; must be Ed25519")  # noqa: TRY004 - the file is wrong
    return key


def trusted_keys() -> dict[bytes, Ed25519PublicKey]:
    """Public key as 32 bytes → key.

    Raises:
        ValueError: the variable is not set, or the file holds something else than Ed25519 public keys.
        OSError: it cannot be read.
    """
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    path, text = _read(TRUSTED_KEYS)
    found: dict[bytes, Ed25519PublicKey] = {}
    blocks = text.split(_END)
    for number, block in enumerate(blocks[:-1], 1):
        try:
            key = load_pem_public_key(block + _END + b"\n")
        except Exception as error:  # the library's errors differ by what is wrong
            raise ValueError(f"{TRUSTED_KEYS}: {path}: key {number}: {error}") from error
        if not isinstance(key, Ed25519PublicKey):
            raise ValueError(f"{TRUSTED_KEYS}: {path}: key {number}: found a {type(key).__name__}; must be Ed25519")  # noqa: TRY004 - as above
        found[key.public_bytes_raw()] = key
    if not found or blocks[-1].strip():
        raise ValueError(
            f"{TRUSTED_KEYS}: {path}: found {len(found)} public keys and {len(blocks[-1].strip())} other bytes; must be keys in PEM"
        )
    return found


# ---------------------------------------------------------------- the calling side


def sign(method: str, arguments: tuple[Any, ...], named: dict[str, Any], *, life: bytes, seconds: float) -> bytes:
    """The body of a call with code.

    Args:
        life: the agent that it is for.
        seconds: of validity, as long as the call is waited for.
    Raises:
        EncodeError: an argument cannot travel, or the callee is not an agent.
        ValueError, PermissionError, OSError: see `signing_key`.
    """
    if life == NO_LIFE:
        raise EncodeError("cloudpickle", f"{method}(): code is signed for one agent; a name server takes plain data alone")
    key = signing_key()
    payload = values.dumps((arguments, named))
    expires = int((time.time() + min(max(seconds, 1.0), MAX_SECONDS / 2)) * 1000)
    digest = hashlib.sha256(payload).digest()
    envelope = Envelope(life, os.urandom(16), expires, digest, key.public_key().public_bytes_raw(), method)
    head = envelope.head()
    return seal(head, key.sign(CONTEXT + head), payload)


# ---------------------------------------------------------------- the called side


class Verifier:
    """Checks envelopes, and remembers those that it has accepted. Any thread.

    Args:
        keys: whose code is run, by their 32 bytes.
        now: seconds since 1970.
    """

    def __init__(self, keys: dict[bytes, Ed25519PublicKey], now: Callable[[], float] = time.time) -> None:
        from cryptography.exceptions import InvalidSignature

        self._keys = keys
        self._now = now
        self._invalid = InvalidSignature
        self._lock = threading.Lock()
        self._nonces: dict[bytes, int] = {}
        """Until when each is remembered (milliseconds)."""

    def check(self, body: bytes, life: bytes) -> tuple[str, memoryview]:
        """(method, payload) of a body that may be loaded. Only what passes everything else uses up its nonce.

        Args:
            life: of the agent that is called.
        Raises:
            SignatureError: one of its kinds; nothing was loaded.
        """
        try:
            envelope, head, signature, payload = open_envelope(body)
        except EnvelopeError as error:
            raise MalformedSignature(str(error)) from error
        key = self._keys.get(envelope.signer)
        if key is None:
            raise SignerUnknown(f"{envelope.method}(): signed by {envelope.signer.hex()}, whose key is not in {TRUSTED_KEYS}")
        try:
            key.verify(signature, CONTEXT + head)
        except self._invalid:
            raise SignatureInvalid(f"{envelope.method}(): the signature is not by the key that it names") from None
        if not hmac.compare_digest(envelope.life, life):
            raise SignedForAnother(f"{envelope.method}(): signed for another agent, or for this one before it was restarted")
        if not hmac.compare_digest(hashlib.sha256(payload).digest(), envelope.digest):
            raise SignedOtherCode(f"{envelope.method}(): other code was signed than has come")
        now = int(self._now() * 1000)
        if not now < envelope.expires <= now + MAX_SECONDS * 1000:
            off = (envelope.expires - now) / 1000
            raise SignatureExpired(
                f"{envelope.method}(): valid for {off:.0f} s more; must be 0 to {MAX_SECONDS:.0f}: was the agent busy for longer than the call"
                " was waited for, or do the clocks differ?"
            )
        self._use(envelope, now)
        return envelope.method, payload

    def _use(self, envelope: Envelope, now: int) -> None:
        nonce = envelope.signer + envelope.nonce
        with self._lock:
            if nonce in self._nonces:
                raise SignatureReplayed(f"{envelope.method}(): this very call was made before")
            if len(self._nonces) >= MAX_NONCES:
                self._nonces = {known: until for known, until in self._nonces.items() if until > now}
                if len(self._nonces) >= MAX_NONCES:
                    raise TooManySigned(f"{envelope.method}(): {MAX_NONCES} signed calls within their validity; wait, or make them shorter")
            self._nonces[nonce] = envelope.expires

    def load(self, body: bytes, life: bytes) -> tuple[str, Any, Any]:
        """(method, args, kwargs) of a call; raises as `check`, and DecodeError."""
        method, payload = self.check(body, life)
        arguments, named = values.loads(payload)
        return method, arguments, named


@functools.cache
def verifier() -> Verifier:
    """That of this process: agents in its threads share what they remember.

    Raises:
        ValueError, OSError: see `trusted_keys`.
    """
    return Verifier(trusted_keys())


def is_signed(body: bytes) -> bool:
    """Whether a call's body says that it is an envelope."""
    return body[: len(MAGIC)] == MAGIC
