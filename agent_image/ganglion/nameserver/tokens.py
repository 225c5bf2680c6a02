"""Projected service-account tokens, checked offline. Apart from `auth`: a laptop's name server need not load what judges signatures."""

from __future__ import annotations

import json
import logging
import time
from pathlib import Path
from typing import Any

import jwt

from ganglion.api.names import nameserver_account, token_audience
from ganglion.nameserver.auth import AuthError
from ganglion.wire.join import Join

log = logging.getLogger(__name__)

ALGORITHMS = ("RS256", "RS384", "RS512", "ES256", "ES384", "ES512")
"""Asymmetric only: a key set of public keys must never serve as an HMAC secret."""
LEEWAY_SECONDS = 10.0
"""Clock difference that is tolerated between the signer and this node."""
_LOOK_SECONDS = 1.0


class TokenAuthenticator:
    """Tokens that the API server signed for one pod of one agent of one NameServer.

    Args:
        jwks: file with the signer's key set; read again when it changes.
        issuer: expected `iss`.
        namespace, uid: of the NameServer; with the agent's name they make the audience.
        name: of the NameServer.
    """

    def __init__(self, jwks: Path, *, issuer: str, namespace: str, uid: str, name: str = "") -> None:
        self._path = jwks
        self._issuer = issuer
        self._namespace = namespace
        self._uid = uid
        self._account = nameserver_account(name)
        self._keys: dict[str, jwt.PyJWK] = {}
        self._stamp: tuple[int, int, int] | None = None
        self._looked = -_LOOK_SECONDS
        self._refresh()

    def verify(self, join: Join) -> int:
        """See `Authenticator`."""
        self._refresh()
        claims = self._claims(join)
        bound = claims.get("kubernetes.io")
        pod = bound.get("pod") if isinstance(bound, dict) else None
        if not isinstance(bound, dict) or not isinstance(pod, dict):
            raise AuthError("the token is not bound to a pod")
        if bound.get("namespace") != self._namespace:
            raise AuthError(f"the token is of namespace {bound.get('namespace')!r}")
        if pod.get("name") != join.replica:
            raise AuthError(f"the token is of pod {pod.get('name')!r}")
        if pod.get("uid") != join.uid:
            raise AuthError(f"the token is of pod UID {pod.get('uid')!r}, the replica says {join.uid!r}")
        return int(claims["iat"])

    def admit(self, join: Join) -> None:
        """See `Authenticator`: a token of the name server's own service account, requested for this purpose."""
        self._refresh()
        bound = self._claims(join).get("kubernetes.io")
        if not isinstance(bound, dict) or bound.get("namespace") != self._namespace:
            raise AuthError(f"the token is not of namespace {self._namespace!r}")
        account = bound.get("serviceaccount")
        if not isinstance(account, dict) or account.get("name") != self._account:
            raise AuthError(f"the token is not of service account {self._account!r}")

    def _claims(self, join: Join) -> dict[str, Any]:
        try:
            header = jwt.get_unverified_header(join.token)
            key = self._keys.get(str(header.get("kid", "")))
            if key is None:
                raise AuthError(f"no key {header.get('kid')!r} in the key set")
            return jwt.decode(
                join.token,
                key,
                algorithms=list(ALGORITHMS),
                audience=token_audience(self._namespace, self._uid, join.agent),
                issuer=self._issuer,
                leeway=LEEWAY_SECONDS,
                options={"require": ["exp", "iat", "aud", "iss"]},
            )
        except jwt.PyJWTError as error:
            raise AuthError(f"{type(error).__name__}: {error}") from error
        except (ValueError, TypeError, RecursionError) as error:
            # Hostile tokens reach corners of the parsers that raise plain errors.
            raise AuthError(f"malformed token ({type(error).__name__})") from error

    def _refresh(self) -> None:
        now = time.monotonic()
        if now - self._looked < _LOOK_SECONDS:
            return
        self._looked = now
        try:
            stat = self._path.stat()
            stamp = (stat.st_mtime_ns, stat.st_ino, stat.st_size)
            if stamp == self._stamp:
                return
            keys = self._read()
        except (OSError, ValueError, jwt.PyJWTError) as error:
            # A half-made mount or a bad edit must not lock everybody out: the last good set stays.
            log.warning("GANGLION_JWKS_FILE %s: %s; %d keys stay in use", self._path, error, len(self._keys))
            return
        self._keys, self._stamp = keys, stamp
        log.info("key set read: %d keys", len(keys))

    def _read(self) -> dict[str, jwt.PyJWK]:
        entries = json.loads(self._path.read_text()).get("keys", [])
        return {str(entry.get("kid", "")): jwt.PyJWK.from_dict(entry) for entry in entries}
