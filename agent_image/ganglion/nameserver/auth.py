"""Who may join: projected service-account tokens checked offline, or a join secret on a laptop.

The reason of a refusal is for the server's own log; the peer learns only that it is not authenticated.
"""

from __future__ import annotations

import hmac
from pathlib import Path
from typing import Protocol

from ganglion.wire.join import Join


class AuthError(Exception):
    """The join is not authenticated; the text says why, without the token."""


class Authenticator(Protocol):
    """Judges a join frame."""

    def verify(self, join: Join) -> int:
        """When the token was issued (Unix seconds); 0 when it does not say.

        Raises:
            AuthError: refused.
        """
        ...

    def admit(self, join: Join) -> None:
        """Judges a program outside of the cluster that wants to make ad-hoc agents.

        Raises:
            AuthError: refused.
        """
        ...


class SecretAuthenticator:
    """A random secret that the supervisor of a laptop gives to its children.

    Args:
        path: file with the secret; at least 16 bytes.
    Raises:
        ValueError: the file is missing or the secret is too short.
    """

    def __init__(self, path: Path) -> None:
        try:
            self._secret = path.read_bytes().strip()
        except OSError as error:
            raise ValueError(f"GANGLION_JOIN_SECRET_FILE: {path}: {error.strerror}") from error
        if len(self._secret) < 16:
            raise ValueError(f"GANGLION_JOIN_SECRET_FILE: {path}: found {len(self._secret)} bytes, must be at least 16")

    def verify(self, join: Join) -> int:
        """See `Authenticator`."""
        if not hmac.compare_digest(join.token, self._secret):
            raise AuthError("the join secret is wrong")
        return 0

    def admit(self, join: Join) -> None:
        """See `Authenticator`."""
        self.verify(join)
