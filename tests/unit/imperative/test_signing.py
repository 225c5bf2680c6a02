"""Signed code: what is not signed for this agent, now, once, is refused before anything of it is loaded."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import pickle
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from hypothesis import given, settings
from hypothesis import strategies as st

from ganglion.codecs import EncodeError
from ganglion.imperative import signing
from ganglion.imperative.envelope import CONTEXT, Envelope, EnvelopeError, open_envelope, seal
from ganglion.imperative.errors import (
    MalformedSignature,
    SignatureError,
    SignatureExpired,
    SignatureInvalid,
    SignatureReplayed,
    SignedForAnother,
    SignedOtherCode,
    SignerUnknown,
    TooManySigned,
)
from ganglion.imperative.frames import NO_LIFE
from ganglion.imperative.signing import MAX_SECONDS, SIGNING_KEY, TRUSTED_KEYS, Verifier, sign, signing_key, trusted_keys
from tests.support.signing import private_key, public_pem

LIFE, OTHER = b"l" * 16, b"o" * 16


class Bomb:
    """Makes a folder where it is loaded."""

    def __reduce__(self) -> Any:
        return os.mkdir, ("made by a bomb",)


@pytest.fixture(autouse=True)
def _keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    ours = private_key(tmp_path / "ours")
    private_key(tmp_path / "strangers")
    (tmp_path / "trusted").write_bytes(b"# who may send code\n" + public_pem(private_key(tmp_path / "friend")) + public_pem(ours))
    monkeypatch.setenv(SIGNING_KEY, str(tmp_path / "ours"))
    monkeypatch.setenv(TRUSTED_KEYS, str(tmp_path / "trusted"))
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    signing_key.cache_clear()
    yield
    signing_key.cache_clear()
    assert not list((tmp_path / "here").iterdir()), "something was loaded"


def _signed(what: Any = 7, method: str = "run", **other: Any) -> bytes:
    return sign(method, (what,), {"named": 1}, **{"life": LIFE, "seconds": 30.0, **other})


def _again(body: bytes, *, payload: bytes | None = None, **changes: Any) -> bytes:
    """The body with other fields, signed anew by its own signer."""
    envelope, _, _, old = open_envelope(body)
    head = dataclasses.replace(envelope, **changes).head()
    return seal(head, signing_key().sign(CONTEXT + head), bytes(old) if payload is None else payload)


def _refused(error: type[SignatureError], text: str | None, body: bytes, verifier: Verifier | None = None) -> None:
    verifier = verifier or Verifier(trusted_keys())
    with pytest.raises(error, match=text):
        verifier.load(body, LIFE)


def test_a_signed_call_is_loaded_once() -> None:
    verifier = Verifier(trusted_keys())
    body = _signed()
    assert verifier.load(body, LIFE) == ("run", (7,), {"named": 1})
    _refused(SignatureReplayed, r"run\(\): this very call was made before", body, verifier)
    assert verifier.load(_signed(), LIFE)[0] == "run"


def _by(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> bytes:
    monkeypatch.setenv(SIGNING_KEY, str(tmp_path / name))
    signing_key.cache_clear()
    return _signed(Bomb())


def test_others_may_be_trusted_too_and_nobody_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    body = _by("friend", tmp_path, monkeypatch)
    assert Verifier(trusted_keys()).check(body, LIFE)[0] == "run"
    _refused(SignerUnknown, f"signed by [0-9a-f]{{64}}, whose key is not in {TRUSTED_KEYS}", _by("strangers", tmp_path, monkeypatch))


def test_a_stranger_cannot_name_a_trusted_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ours = open_envelope(_signed())[0].signer
    body = _by("strangers", tmp_path, monkeypatch)
    _refused(SignatureInvalid, "not by the key that it names", _again(body, signer=ours))


ATTACKS: dict[str, tuple[type[SignatureError], str, Callable[[bytes], bytes]]] = {
    "for another agent": (SignedForAnother, "before it was restarted", lambda body: _again(body, life=OTHER)),
    "for nobody": (SignedForAnother, "another agent", lambda body: _again(body, life=NO_LIFE)),
    "other code": (SignedOtherCode, "other code was signed", lambda body: _again(body, payload=pickle.dumps(((Bomb(),), {})))),
    "code appended": (SignedOtherCode, "other code was signed", lambda body: body + b"x"),
    "too late": (SignatureExpired, r"valid for -2 s more", lambda body: _again(body, expires=int(time.time() * 1000) - 1500)),
    "for too long": (SignatureExpired, "must be 0 to 300", lambda body: _again(body, expires=int((time.time() + MAX_SECONDS + 5) * 1000))),
    "for ever": (SignatureExpired, "must be 0 to 300", lambda body: _again(body, expires=2**64 - 1)),
    "other method": (SignatureInvalid, r"other\(\)", lambda body: body.replace(b"\3\0run", b"\5\0other")),
    "cut off": (MalformedSignature, "cut off", lambda body: body[:150]),
    "head alone": (MalformedSignature, "not an envelope", lambda body: body[:40]),
    "no method": (MalformedSignature, "method's name of 0", lambda body: body.replace(b"\3\0run", b"\0\0run")),
    "no text": (MalformedSignature, "UTF-8", lambda body: body.replace(b"\3\0run", b"\3\0\xff\xff\xff")),
    "empty": (MalformedSignature, "found 0 bytes", lambda _: b""),
    "a pickle": (MalformedSignature, "not an envelope", lambda _: pickle.dumps(("run", (Bomb(),), {}))),
}


@pytest.mark.parametrize("name", ATTACKS)
def test_what_is_refused_is_not_loaded(name: str) -> None:
    error, text, change = ATTACKS[name]
    _refused(error, text, change(_signed(Bomb())))


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_no_bit_may_change(data: st.DataObject) -> None:
    body = bytearray(_signed(Bomb()))
    at = data.draw(st.integers(0, len(body) - 1))
    body[at] ^= 1 << data.draw(st.integers(0, 7))
    _refused(SignatureError, None, bytes(body))


def test_what_was_refused_does_not_use_up_the_call() -> None:
    verifier = Verifier(trusted_keys())
    body = _signed()
    _refused(SignedOtherCode, None, body + b"x", verifier)
    with pytest.raises(SignedForAnother):
        verifier.load(body, OTHER)
    assert verifier.load(body, LIFE)[0] == "run"


def test_memory_is_bounded_and_forgets_what_has_expired(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signing, "MAX_NONCES", 3)
    now = [time.time()]
    verifier = Verifier(trusted_keys(), lambda: now[0])
    bodies = [_signed(seconds=seconds) for seconds in (5, 60, 60, 60)]
    for body in bodies[:3]:
        verifier.check(body, LIFE)
    _refused(TooManySigned, "3 signed calls", bodies[3], verifier)
    now[0] += 10
    # The first is forgotten, and too late by itself.
    verifier.check(bodies[3], LIFE)
    _refused(SignatureExpired, None, bodies[0], verifier)
    _refused(SignatureReplayed, None, bodies[1], verifier)
    assert len(verifier._nonces) == 3


@given(st.binary(max_size=300) | st.binary(max_size=300).map(lambda rest: b"GSC\x01" + rest))
def test_garbage_is_no_envelope(body: bytes) -> None:
    with contextlib.suppress(EnvelopeError):
        open_envelope(body)
    with pytest.raises((MalformedSignature, SignerUnknown)):
        Verifier({}).check(body, LIFE)


def test_code_is_signed_for_one_agent_and_for_a_method_with_a_name() -> None:
    with pytest.raises(EncodeError, match=r"run\(\): code is signed for one agent; a name server takes plain data alone"):
        _signed(life=NO_LIFE)
    with pytest.raises(EnvelopeError, match="method's name of 300 bytes"):
        _signed(method="x" * 300)
    for seconds in (0.0, 1e9):
        assert 0 < open_envelope(_signed(seconds=seconds))[0].expires / 1000 - time.time() <= MAX_SECONDS


def test_an_envelope_is_pinned() -> None:
    """What another version must be able to read."""
    head = Envelope(LIFE, b"n" * 16, 0x0102, b"d" * 32, b"s" * 32, "run").head()
    assert head == b"GSC\1" + LIFE + b"n" * 16 + b"\2\1" + bytes(6) + b"d" * 32 + b"s" * 32 + b"\3\0run"
    envelope, found, signature, payload = open_envelope(seal(head, b"z" * 64, b"code"))
    assert envelope == Envelope(LIFE, b"n" * 16, 0x0102, b"d" * 32, b"s" * 32, "run")
    assert (found, signature, bytes(payload)) == (head, b"z" * 64, b"code")


def _elliptic(public: bool) -> bytes:
    key = generate_private_key(SECP256R1())
    if public:
        return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


@pytest.mark.parametrize(
    ("variable", "content", "error", "text"),
    [
        (SIGNING_KEY, None, ValueError, f"{SIGNING_KEY}: not set"),
        (SIGNING_KEY, b"garbage", ValueError, "no private key in PEM"),
        (SIGNING_KEY, _elliptic(False), ValueError, "must be Ed25519"),
        (SIGNING_KEY, b"x" * (1 << 21), ValueError, "more than 1048576 bytes"),
        (TRUSTED_KEYS, None, ValueError, f"{TRUSTED_KEYS}: not set"),
        (TRUSTED_KEYS, b"", ValueError, "found 0 public keys"),
        (TRUSTED_KEYS, b"garbage", ValueError, "found 0 public keys and 7 other bytes"),
        (TRUSTED_KEYS, b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n", ValueError, "key 1: "),
        (TRUSTED_KEYS, _elliptic(True), ValueError, "key 1: found a .*; must be Ed25519"),
    ],
)
def test_keys_that_cannot_be_used_are_named(
    variable: str, content: bytes | None, error: type[Exception], text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "key"
    if content is None:
        monkeypatch.delenv(variable)
    else:
        path.touch(mode=0o600)
        path.write_bytes(content)
        monkeypatch.setenv(variable, str(path))
    with pytest.raises(error, match=text):
        signing_key() if variable == SIGNING_KEY else trusted_keys()


def test_a_key_that_everybody_may_read_is_refused(tmp_path: Path) -> None:
    (tmp_path / "ours").chmod(0o644)
    with pytest.raises(PermissionError, match="mode 644, so everybody may use the key"):
        signing_key()
