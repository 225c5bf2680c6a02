"""What peers may send: values of any kind where remote code is trusted, plain data where it is forbidden.

Where it is signed, calls with code come in a signed envelope that is verified first; everything else is plain data. Calls and results are
pickles. Where remote code is forbidden they are loaded as `ganglion.imperative.plain` does; anything else is refused before it is loaded.
"""

from __future__ import annotations

import functools
import os
import pickle
import sys
from collections.abc import Callable
from typing import Any, Literal

from ganglion.codecs.base import Body, Codec, kind
from ganglion.codecs.errors import CodecForbidden, DecodeError, EncodeError
from ganglion.imperative import values
from ganglion.imperative.membership import membership
from ganglion.imperative.plain import loads_plain
from ganglion.imperative.serializers import PROTOBUF, codec_of
from ganglion.imperative.settings import config

CODE_CODECS = frozenset({"pickle", "dill", "cloudpickle"})
RemoteCode = Literal["Forbidden", "Signed", "Trusted"]


def _advice() -> str:
    return "sign the call" if remote_code() == "Signed" else "set NameServer.spec.remoteCode to Trusted"


def _loads_plain(body: Body) -> Any:
    return loads_plain(body, _advice)


def _dumps_plain(value: Any) -> bytes:
    """Not by value: what would travel as code is refused where it is sent, too."""
    try:
        return pickle.dumps(value, 5)
    except Exception as error:  # __reduce__ of the value may raise anything
        raise EncodeError(
            "cloudpickle", f"found a {kind(value)}: {type(error).__name__}: {error}; remote code is forbidden here"
        ) from error


@functools.cache
def remote_code() -> RemoteCode:
    """Whether peers may send code to this process: as the NameServer of this pod says, as `GANGLION_REMOTE_CODE` says, else Trusted.

    Raises:
        ValueError: the variable is neither `Forbidden`, `Signed` nor `Trusted`.
        AdHocForbidden, CommunicationError: see `membership`.
    """
    mine = membership()
    if mine is not None:
        return mine.remote_code
    found = os.environ.get("GANGLION_REMOTE_CODE", "Trusted")
    if found not in ("Forbidden", "Signed", "Trusted"):
        raise ValueError(f"GANGLION_REMOTE_CODE: found {found!r}, must be Forbidden, Signed or Trusted")
    return found  # type: ignore[return-value]


@functools.cache
def peer_loads() -> Callable[[Body], Any]:
    """Loads what a peer has sent."""
    return values.loads if remote_code() == "Trusted" else _loads_plain


@functools.cache
def peer_dumps() -> Callable[[Any], bytes]:
    """Makes what is sent to a peer."""
    return values.dumps if remote_code() == "Trusted" else _dumps_plain


def call_loads(life: bytes) -> Callable[[bytes], Any]:
    """Loads (method, args, kwargs) of calls to an agent.

    Args:
        life: its own.
    Raises:
        ValueError, OSError: remote code is to be signed, and the trusted keys cannot be read.
    """
    loads = peer_loads()
    if remote_code() != "Signed":
        return loads
    from ganglion.imperative import signing

    check = signing.verifier()
    return lambda body: check.load(body, life) if signing.is_signed(body) else loads(body)


def call_body(method: str, arguments: tuple[Any, ...], named: dict[str, Any], *, life: bytes, seconds: float) -> bytes:
    """The body of a call; signed where it carries code that must be.

    Args:
        life: whom it is meant for.
        seconds: how long it is waited for.
    Raises:
        EncodeError: an argument cannot travel.
        ValueError, OSError: see `signing.signing_key`.
    """
    whole = (method, arguments, named)
    if remote_code() != "Signed" or values.is_plain(whole):
        return peer_dumps()(whole)
    try:
        body = _dumps_plain(whole)
        # What names a class of nobody's, or one that the callee would refuse, is code there.
        _loads_plain(body)
    except (CodecForbidden, EncodeError, DecodeError):
        from ganglion.imperative import signing

        return signing.sign(method, arguments, named, life=life, seconds=seconds)
    return body


def permitted_codec(name: str) -> Codec:
    """The codec of a socket.

    Raises:
        CodecForbidden: it can run code, and the domain forbids remote code.
        UnknownCodec: see `codec_of`.
    """
    module = name.removeprefix(PROTOBUF).partition(":")[0]
    if name.startswith(PROTOBUF) and remote_code() != "Trusted" and module not in sys.modules:
        # A peer gives the name, in an address or a call: it must not choose what is imported.
        raise CodecForbidden(name, f"module {module!r} is not imported here; import it in the agent's own module, or trust remote code")
    codec = codec_of(name)
    if name in CODE_CODECS and remote_code() != "Trusted":
        raise CodecForbidden(codec.name, "can run code while decoding; set NameServer.spec.remoteCode to Trusted, or use msgpack")
    return codec


def default_serializer() -> str | None:
    """Of agents that name none: MsgPack where the configured one would be forbidden; None: the configured one."""
    return None if remote_code() == "Trusted" or config["SERIALIZER"] not in CODE_CODECS else "msgpack"
