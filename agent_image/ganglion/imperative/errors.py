"""Errors of calls and of the directory, and how an exception travels: its type, its message and its traceback as text."""

from __future__ import annotations

import traceback
from typing import Any

from ganglion.codecs.errors import CodecError
from ganglion.errors import GanglionError
from ganglion.imperative import values
from ganglion.runtime.errors import RemoteError

__all__ = [
    "AgentNameTaken",
    "AgentStartError",
    "CallTimeout",
    "CommunicationError",
    "NamingError",
    "decode_error",
    "encode_error",
    "format_exception",
]

_DATA = (str, int, float, bool, bytes, type(None))


class CommunicationError(GanglionError, ConnectionError):
    """The agent or name server is gone; whether it acted on what was asked is unknown unless the text says so."""


class CallTimeout(GanglionError, TimeoutError):
    """No answer within the timeout: the agent is busy, or stands still."""


class NamingError(GanglionError, LookupError):
    """The name server knows no agent of this name."""


class AgentNameTaken(GanglionError, RuntimeError):
    """Another agent lives under this name."""


class AgentStartError(GanglionError, RuntimeError):
    """The agent or name server could not be started; the text holds the traceback of what failed there."""


def format_exception(error: BaseException) -> str:
    """The traceback as a block whose lines begin with `|`, to tell it from one of this process."""
    lines = "".join(traceback.format_exception(error)).splitlines()
    return "\n|>>>>>>>>" + "\n| ".join(["", *lines]) + "\n|<<<<<<<<"


def _describe(method: str, arguments: tuple[Any, ...], named: dict[str, Any], error: BaseException) -> str:
    text = f"Error executing `{method}`! ({error})\n\n> method: {method}\n> args: {arguments}\n> kwargs: {named}\n"
    return text + format_exception(error)


def encode_error(error: BaseException, call: tuple[str, tuple[Any, ...], dict[str, Any]] | None = None) -> bytes:
    """An exception as the body of a reply.

    Args:
        call: of a safe call, (method, args, kwargs): the message then tells what was called, and where it failed.
    """
    cls = type(error)
    try:
        text = str(error) if call is None else _describe(*call, error)
    except Exception:  # noqa: BLE001 - __str__ or __repr__ of what was passed may raise anything
        text = f"{cls.__name__} (its text cannot be made)"
    try:
        kind = values.dumps(cls)
    except CodecError:
        kind = None
    # What an exception carries beside its text, as far as it is plain data.
    extra = {name: value for name, value in vars(error).items() if isinstance(value, _DATA)}
    return values.dumps((f"{cls.__module__}.{cls.__qualname__}", text, "".join(traceback.format_exception(error)), kind, extra))


def decode_error(body: bytes) -> BaseException:
    """The exception to raise at the caller: of the same type with the same message, caused by a `RemoteError` that has the traceback.

    When the type cannot be had here, it is the `RemoteError` itself.
    """
    name, text, trace, kind, extra = values.loads(body)
    remote = RemoteError(name, text, trace)
    if kind is None:
        return remote
    try:
        cls = values.loads(kind)
        # Not by calling it: the constructor may want other arguments than the text.
        error: BaseException = cls.__new__(cls, text)
        error.args = (text,)
        vars(error).update(extra)
        if text not in (str(error), *error.args) or isinstance(error, UnicodeError):
            return remote
    except Exception:  # noqa: BLE001 - a class of somebody else's code
        return remote
    error.__cause__ = remote
    return error
