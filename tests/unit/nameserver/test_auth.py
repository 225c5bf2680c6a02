"""Join tokens with real RSA keys, and the join secret."""

from __future__ import annotations

import base64
import hmac
import json
import time
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from ganglion.nameserver.auth import AuthError, SecretAuthenticator
from ganglion.nameserver.tokens import TokenAuthenticator
from ganglion.wire.join import VISITOR, Join

ISSUER = "https://kubernetes.default.svc"
RSA_KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
OTHER_KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)


def join(token: bytes, **changes: Any) -> Join:
    fields: dict[str, Any] = {
        "agent": "worker",
        "replica": "worker-0",
        "uid": "pod-uid",
        "start": 1,
        "issued": 1,
        "key": "",
        "host": "10.0.0.1",
        "software": "",
        "token": token,
    }
    return Join(**{**fields, **changes})


def claims(**changes: Any) -> dict[str, Any]:
    now = int(time.time())
    base: dict[str, Any] = {
        "iss": ISSUER,
        "aud": ["ganglion:demo/ns-uid/worker"],
        "iat": now,
        "nbf": now,
        "exp": now + 600,
        "sub": "system:serviceaccount:demo:default",
        "kubernetes.io": {"namespace": "demo", "pod": {"name": "worker-0", "uid": "pod-uid"}},
    }
    return {key: value for key, value in {**base, **changes}.items() if value is not None}


def sign(payload: dict[str, Any], key: Any = RSA_KEY, kid: str | None = "one", algorithm: str = "RS256") -> bytes:
    return jwt.encode(payload, key, algorithm=algorithm, headers={"kid": kid} if kid is not None else None).encode()


def jwks(*keys: tuple[str, rsa.RSAPrivateKey]) -> str:
    entries = []
    for kid, key in keys:
        entry = jwt.algorithms.RSAAlgorithm.to_jwk(key.public_key(), as_dict=True)
        entries.append({**entry, "kid": kid, "alg": "RS256", "use": "sig"})
    return json.dumps({"keys": entries})


@pytest.fixture
def path(tmp_path: Path) -> Path:
    file = tmp_path / "jwks.json"
    file.write_text(jwks(("one", RSA_KEY)))
    return file


@pytest.fixture
def tokens(path: Path) -> TokenAuthenticator:
    return TokenAuthenticator(path, issuer=ISSUER, namespace="demo", uid="ns-uid", name="zoo")


def test_good_token(tokens: TokenAuthenticator) -> None:
    payload = claims()
    assert tokens.verify(join(sign(payload))) == payload["iat"]


def _bound(**changes: Any) -> dict[str, Any]:
    return {"kubernetes.io": {"namespace": "demo", "pod": {"name": "worker-0", "uid": "pod-uid"}, **changes}}


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (claims(exp=int(time.time()) - 60), "ExpiredSignature"),
        (claims(exp=None), "MissingRequiredClaim"),
        (claims(iat=None), "MissingRequiredClaim"),
        (claims(aud=["ganglion:demo/other-uid/worker"]), "InvalidAudience"),
        (claims(aud=["ganglion:demo/ns-uid/source"]), "InvalidAudience"),
        (claims(aud=["https://kubernetes.default.svc"]), "InvalidAudience"),
        (claims(aud=None), "MissingRequiredClaim"),
        (claims(iss="https://elsewhere"), "InvalidIssuer"),
        (claims(nbf=int(time.time()) + 600), "ImmatureSignature"),
        (claims(**{"kubernetes.io": None}), "not bound to a pod"),
        (claims(**{"kubernetes.io": "pod"}), "not bound to a pod"),
        (claims(**_bound(namespace="other")), "of namespace 'other'"),
        (claims(**_bound(pod={"name": "worker-1", "uid": "pod-uid"})), "of pod 'worker-1'"),
        (claims(**_bound(pod={"name": "worker-0", "uid": "older"})), "of pod UID 'older'"),
        (claims(**_bound(pod=None)), "not bound to a pod"),
    ],
)
def test_bad_claims(tokens: TokenAuthenticator, payload: dict[str, Any], reason: str) -> None:
    with pytest.raises(AuthError, match=reason):
        tokens.verify(join(sign(payload)))


def _visitor(**changes: Any) -> dict[str, Any]:
    """Claims of a token as `ganglion connect` requests it."""
    bound = {"namespace": "demo", "serviceaccount": {"name": "zoo-nameserver", "uid": "sa-uid"}}
    return claims(**{"aud": ["ganglion:demo/ns-uid/ad-hoc.visitor"], "kubernetes.io": bound, **changes})


def _bound_to(**changes: Any) -> dict[str, Any]:
    return {"kubernetes.io": {"namespace": "demo", "serviceaccount": {"name": "zoo-nameserver"}, **changes}}


def test_a_visitor_with_a_token_of_the_name_servers_account_is_admitted(tokens: TokenAuthenticator) -> None:
    tokens.admit(join(sign(_visitor()), agent=VISITOR))


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (claims(), "InvalidAudience"),
        (_visitor(aud=["ganglion:demo/other-uid/ad-hoc.visitor"]), "InvalidAudience"),
        (_visitor(exp=int(time.time()) - 60), "ExpiredSignature"),
        (_visitor(**_bound_to(namespace="other")), "not of namespace 'demo'"),
        (_visitor(**_bound_to(serviceaccount={"name": "default"})), "not of service account 'zoo-nameserver'"),
        (_visitor(**_bound_to(serviceaccount=None)), "not of service account 'zoo-nameserver'"),
        (_visitor(**{"kubernetes.io": "x"}), "not of namespace 'demo'"),
    ],
)
def test_other_tokens_admit_no_visitor(tokens: TokenAuthenticator, payload: dict[str, Any], reason: str) -> None:
    with pytest.raises(AuthError, match=reason):
        tokens.admit(join(sign(payload), agent=VISITOR))


def test_a_visitors_token_makes_no_member(tokens: TokenAuthenticator) -> None:
    with pytest.raises(AuthError, match="InvalidAudience"):
        tokens.verify(join(sign(_visitor())))


def _with_public_key_as_secret(public: bytes) -> bytes:
    def part(value: bytes) -> bytes:
        return base64.urlsafe_b64encode(value).rstrip(b"=")

    signed = b".".join((part(b'{"alg":"HS256","kid":"one"}'), part(json.dumps(claims()).encode())))
    return b".".join((signed, part(hmac.digest(public, signed, "sha256"))))


def test_signatures_of_others(tokens: TokenAuthenticator, path: Path) -> None:
    good = sign(claims())
    head, body, signature = good.split(b".")
    forged = [
        sign(claims(), OTHER_KEY),
        sign(claims(), kid="two"),
        sign(claims(), kid=None),
        b".".join((head, body, signature[:-8] + b"AAAAAAAA")),
        jwt.encode(claims(), "", algorithm="none", headers={"kid": "one"}).encode(),
        _with_public_key_as_secret(path.read_bytes()),
        sign(claims(), ec.generate_private_key(ec.SECP256R1()), algorithm="ES256"),
        b"",
        b"\xff\xfe",
        b"..",
        b"a.b.c",
        b"." * 5000,
    ]
    for token in forged:
        with pytest.raises(AuthError) as caught:
            tokens.verify(join(token))
        assert not token or len(token) < 4 or token.decode("latin-1") not in str(caught.value)


def test_renewed_key_set_is_read(tokens: TokenAuthenticator, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    token = sign(claims(), OTHER_KEY, kid="two")
    with pytest.raises(AuthError, match="no key 'two'"):
        tokens.verify(join(token))
    renewed = path.with_suffix(".new")
    renewed.write_text(jwks(("one", RSA_KEY), ("two", OTHER_KEY)))
    renewed.replace(path)
    later = time.monotonic() + 5
    monkeypatch.setattr("ganglion.nameserver.tokens.time.monotonic", lambda: later)
    assert tokens.verify(join(token))


def test_broken_key_set_keeps_the_last(tokens: TokenAuthenticator, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path.write_text("{")
    later = time.monotonic() + 5
    monkeypatch.setattr("ganglion.nameserver.tokens.time.monotonic", lambda: later)
    assert tokens.verify(join(sign(claims())))


def test_join_secret(tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_text("0123456789abcdef\n")
    judge = SecretAuthenticator(file)
    assert judge.verify(join(b"0123456789abcdef")) == 0
    for wrong in (b"", b"0123456789abcdeF", b"0123456789abcdef0"):
        with pytest.raises(AuthError):
            judge.verify(join(wrong))
    file.write_text("short")
    with pytest.raises(ValueError, match="at least 16"):
        SecretAuthenticator(file)
    with pytest.raises(ValueError, match="No such file"):
        SecretAuthenticator(tmp_path / "none")
