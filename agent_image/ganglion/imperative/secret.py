"""The join secret of a user, and the CURVE key pair that is derived from it. Whoever holds it may call every agent, and so run code there."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import secrets
import tempfile
from pathlib import Path

from zmq.utils import z85

from ganglion.imperative.membership import membership
from ganglion.local.state import state_home
from ganglion.runtime.sockets import CurveKeys

MIN_BYTES = 16
ZAP_DOMAIN = "ganglion-imperative"


def _from_file(path: Path) -> bytes:
    status = path.stat()
    if status.st_uid != os.getuid() or status.st_mode & 0o077:
        raise PermissionError(f"{path}: found owner {status.st_uid} and mode {status.st_mode & 0o777:o}; must be this user's, mode 600")
    return path.read_bytes().strip()


def _of_user() -> bytes:
    # With a dot: folders of domains lie beside it, and theirs are names without one.
    path = state_home() / "join.secret"
    with contextlib.suppress(FileNotFoundError):
        return _from_file(path)
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(secrets.token_hex(32).encode())
        # Two processes may make it at once: the first link wins, and both read that one.
        with contextlib.suppress(FileExistsError):
            Path(path).hardlink_to(name)
    finally:
        Path(name).unlink()
    return _from_file(path)


def join_secret() -> bytes:
    """In a domain, what its sidecar says; else `GANGLION_JOIN_SECRET`, or the content of `GANGLION_JOIN_SECRET_FILE`, or this user's own, made when it is first asked for.

    Raises:
        ValueError: shorter than 16 bytes.
        PermissionError: others may read the file.
        OSError: it cannot be read or made.
        AdHocForbidden, CommunicationError: see `membership`.
    """
    mine = membership()
    if mine is not None:
        return mine.secret.encode()
    given = os.environ.get("GANGLION_JOIN_SECRET")
    file = os.environ.get("GANGLION_JOIN_SECRET_FILE")
    found = given.encode() if given else _from_file(Path(file)) if file else _of_user()
    if len(found) < MIN_BYTES:
        source = "GANGLION_JOIN_SECRET" if given else file or "the user's join secret"
        raise ValueError(f"{source}: found {len(found)} bytes, must be at least {MIN_BYTES}")
    return found


@functools.cache
def derive(secret: bytes) -> CurveKeys:
    """The key pair of all who hold this secret."""
    half = hashlib.blake2b(secret, digest_size=32, person=b"ganglion-curve").digest()
    return CurveKeys.from_secret(z85.encode(half).decode())


def domain_keys() -> CurveKeys:
    """The key pair of this process."""
    return derive(join_secret())
