"""How an exception travels: its type, its message and its traceback as text."""

from __future__ import annotations

import traceback
from collections import deque
from typing import Any

from ganglion.codecs.errors import CodecError, DecodeError
from ganglion.imperative.errors import BLOCK, format_exception
from ganglion.imperative.trust import peer_dumps, peer_loads
from ganglion.runtime.errors import RemoteError
from ganglion.sdk.tracebacks import trim

MAX_SHOWN = 10_000
"""Parts of what was passed that a message shows in full."""
_FRAME = "\n  File "
_DATA = (str, int, float, bool, bytes, type(None))


def _describe(method: str, arguments: tuple[Any, ...], named: dict[str, Any], error: BaseException) -> str:
    # A list that holds another twice, which holds another twice, and so on, would be shown for ever.
    left = _left((arguments, named), MAX_SHOWN)
    passed = (
        f"> args: {arguments}\n> kwargs: {named}\n" if left else f"> args: {len(arguments)}, too large to show, and {len(named)} by name\n"
    )
    text = f"Error executing `{method}`! ({error})\n\n> method: {method}\n{passed}"
    return text + format_exception(error)


def _left(value: Any, parts: int) -> int:
    """What is left of so many parts after those of a value; 0: it has as many, counting those twice that it has twice."""
    inner = (
        (*value, *value.values()) if isinstance(value, dict) else value if isinstance(value, (tuple, list, set, frozenset, deque)) else ()
    )
    parts -= 1
    for one in inner:
        if parts <= 0:
            return 0
        parts = _left(one, parts)
    return max(parts, 0)


def encode_error(error: BaseException, call: tuple[str, tuple[Any, ...], dict[str, Any]] | None = None) -> bytes:
    """An exception as the body of a reply.

    Args:
        call: of a safe call, (method, args, kwargs): the message then tells what was called, and where it failed.
    """
    cls = type(error)
    whole = error.__traceback__
    # The frames between the call and the user's own first line say nothing to who called; without any of the user's, nor does the rest.
    theirs = trim(error)
    trace = "".join(traceback.format_exception(error))
    if not theirs:
        error.__traceback__ = whole
    try:
        text = str(error) if call is None else _describe(*call, error)
    except Exception:  # noqa: BLE001 - __str__ or __repr__ of what was passed may raise anything
        text = f"{cls.__name__} (its text cannot be made)"
    try:
        kind = peer_dumps()(cls)
    except CodecError:
        kind = None
    # What an exception carries beside its text, as far as it is plain data.
    extra = {name: value for name, value in vars(error).items() if isinstance(value, _DATA)}
    return peer_dumps()((f"{cls.__module__}.{cls.__qualname__}", text, trace, kind, extra))


def decode_error(body: bytes) -> BaseException:
    """The exception to raise at the caller: of the same type with the same message, caused by a `RemoteError` that has the traceback.

    When the type cannot be had here, or is no Exception, it is the `RemoteError` itself.
    """
    name, text, trace, kind, extra = peer_loads()(body)
    if not all(type(one) is str for one in (name, text, trace)):
        raise DecodeError("error", "found something else than texts")
    remote = RemoteError(name, text, trace)
    if BLOCK not in text and _FRAME in trace:
        # Shown below the message, where a traceback of this process is printed.
        remote.add_note(trace.rstrip())
    if kind is None:
        return remote
    try:
        cls = peer_loads()(kind)
        if not issubclass(cls, Exception):
            # SystemExit and the like are what the peer's process did; they must not end this one.
            return remote
        # Not by calling it: the constructor may want other arguments than the text.
        error: BaseException = cls.__new__(cls, text)
        error.args = (text,)
        vars(error).update(extra)
        if text not in (str(error), *error.args) or isinstance(error, UnicodeError):
            return remote
    except Exception:  # noqa: BLE001 - a class of somebody else's code
        return remote
    # The text of a safe call has the traceback already: once is enough.
    error.__cause__ = remote if BLOCK not in text else RemoteError(name, text.partition("\n")[0], trace)
    return error
