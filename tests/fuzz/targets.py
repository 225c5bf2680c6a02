"""Every decoder of bytes that come from others. A target gets garbage: it refuses with its own error, or takes it; it never loads code.

Used by hypothesis (tests/unit/test_decoders.py) and by atheris (`make fuzz`).
"""

from __future__ import annotations

import contextlib
import importlib
import itertools
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import zmq
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ganglion.codecs import CodecError, get_codec
from ganglion.errors import GanglionError
from ganglion.imperative import frames as calls
from ganglion.imperative import ports, requests
from ganglion.imperative.addresses import address_to_host_port
from ganglion.imperative.envelope import MAGIC, EnvelopeError, open_envelope
from ganglion.imperative.errors import SignatureError
from ganglion.imperative.nameserver import NameServerProcess
from ganglion.imperative.signing import Verifier
from ganglion.wire import admin, control, frames, join, published

LOADS_CODE = frozenset(
    {"import", "exec", "compile", "pickle.find_class", "marshal.loads", "os.system", "subprocess.Popen", "os.exec", "open"}
)
_guarded = threading.local()


class LoadedCode(BaseException):
    """A decoder has begun to load code, or to touch files. No decoder catches this."""


def _audit(event: str, arguments: tuple[Any, ...]) -> None:
    if event in LOADS_CODE and getattr(_guarded, "on", False):
        _guarded.on = False
        raise LoadedCode(f"{event}{arguments[:1]!r}")


@contextlib.contextmanager
def _no_code() -> Iterator[None]:
    _guarded.on = True
    try:
        yield
    finally:
        _guarded.on = False


def _hooked() -> None:
    # An audit hook stays for good; it does nothing outside of a target.
    if not getattr(sys, "_ganglion_audit", False):
        sys.addaudithook(_audit)
        sys._ganglion_audit = True  # type: ignore[attr-defined]


def only(errors: tuple[type[Exception], ...], decoder: Callable[[bytes], Any]) -> Callable[[bytes], None]:
    """A target: the decoder raises nothing else."""
    _hooked()

    def target(data: bytes) -> None:
        with _no_code(), contextlib.suppress(*errors):
            decoder(data)

    return target


# ---------------------------------------------------------------- calls of imperative agents

BEHIND_HEADS = b"CRBKGS\0"


def split(data: bytes) -> list[bytes]:
    """Garbage as a message of up to eight frames: the first byte of each is its length."""
    parts: list[bytes] = []
    while data and len(parts) < 8:
        length, data = data[0], data[1:]
        parts.append(data[:length])
        data = data[length:]
    return parts


def _message(data: bytes) -> list[bytes]:
    """Plausible half of the time: a header of this version, the rest as it comes."""
    if not data or data[0] & 1:
        return split(data[1:])
    kind = BEHIND_HEADS[data[0] // 2 % len(BEHIND_HEADS)]
    return [calls.header(kind, 7, b"\1" * 16, data[0] >> 5), *split(data[1:])]


_endpoints = itertools.count()


@contextlib.contextmanager
def _arrived(parts: list[bytes]) -> Iterator[zmq.Socket[bytes]]:
    """A ROUTER with one message, of at least one frame."""
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context.instance()
    with context.socket(zmq.ROUTER) as router, context.socket(zmq.DEALER) as dealer:
        endpoint = f"inproc://fuzz-{next(_endpoints)}"
        router.bind(endpoint)
        dealer.connect(endpoint)
        dealer.send_multipart(parts or [b""])
        assert router.poll(10_000)
        yield router


def call_port(data: bytes) -> None:
    """The frames that an agent's call port takes apart, for another life: a call's body is then none of its business."""
    with _arrived(_message(data)) as router:
        ports.CallPort(router, b"\2" * 16, lambda _call: None, lambda *_other: None).drain()
        assert not router.poll(0)


class _Directory(NameServerProcess):
    """A name server without threads and sockets."""

    def __init__(self) -> None:
        from ganglion.imperative.leases import Leases

        self.lock = threading.Lock()
        self.leases = Leases(0.0)
        self.control = self  # type: ignore[assignment]
        self.calls = self

    def send(self, *_parts: bytes) -> bool:
        return True


def directory(data: bytes) -> None:
    """Beats and goodbyes."""
    server = _Directory()
    with _arrived(_message(data)) as router:
        ports.CallPort(router, b"\2" * 16, lambda _call: None, server._on_frame).drain()
    assert len(server.leases) <= 1


SIGNER = Ed25519PrivateKey.from_private_bytes(b"\1" * 32).public_key()
"""Garbage may name it, and then has to be signed by it."""
_VERIFIER = Verifier({SIGNER.public_bytes_raw(): SIGNER})


def _address(data: bytes) -> None:
    address_to_host_port(data.decode("utf-8", "replace"))


def codec(name: str) -> Callable[[bytes], None]:
    """Message bodies."""
    found = get_codec(name)
    # What it imports when it is first used, or when an array comes, is none of the garbage's doing.
    with contextlib.suppress(ImportError):
        importlib.import_module("numpy")
    found.decode(found.encode(b"x" * 1000))
    return only((CodecError,), found.decode)


TARGETS: dict[str, Callable[[bytes], None]] = {
    "codec-msgpack": codec("MsgPack"),
    "codec-json": codec("Json"),
    "codec-raw": codec("Raw"),
    "imperative-header": only((calls.FrameError,), calls.read_header),
    "imperative-record": only((calls.FrameError,), calls.decode_record),
    "imperative-request": only((msgspec.MsgspecError,), requests._decode),
    "imperative-calls": only((), call_port),
    "imperative-directory": only((), directory),
    "imperative-envelope": only((EnvelopeError,), open_envelope),
    "imperative-signed": only((SignatureError,), lambda data: _VERIFIER.check(MAGIC + data, b"\1" * 16)),
    "imperative-address": only((ValueError,), _address),
    "wire-data": only((frames.FrameError,), frames.decode_data),
    "wire-ack": only((frames.FrameError,), frames.decode_ack),
    "wire-reply": only((frames.FrameError,), frames.decode_reply),
    "wire-sync-request": only((frames.FrameError,), published.decode_request),
    "wire-sync-reply": only((frames.FrameError,), published.decode_reply),
    "wire-control": only((frames.FrameError,), frames.decode_control),
    "wire-join": only((join.JoinError,), join.decode_join),
    "control": only((GanglionError, ValueError), control.decode),
    "admin": only((GanglionError, ValueError), admin.decode),
}
with contextlib.suppress(CodecError):
    TARGETS["codec-msgpackblosc"] = codec("MsgPackBlosc")
