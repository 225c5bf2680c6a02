"""Values as they stand in a transcript: JSON, with what differs from run to run (ports, paths, identifiers, times) replaced."""

from __future__ import annotations

import re
from typing import Any

Json = Any

_IDENTIFIER = re.compile(r"[0-9a-f]{32}")
_PORT = re.compile(r"(127\.0\.0\.1|localhost|0\.0\.0\.0):\d+")
_SOCKET_FILE = re.compile(r"(?:/[^/\s,']+)+/([^/\s,')]+)")
_TIME = re.compile(r"\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d(?:\.\d+)?(?:Z|\+00:00)?")


def text(value: str) -> str:
    """A text without what no two runs share."""
    value = _TIME.sub("<time>", value)
    value = _IDENTIFIER.sub("<id>", value)
    value = _PORT.sub(r"\1:<port>", value)
    return _SOCKET_FILE.sub(r"<dir>/\1", value)


def canonical(value: Any) -> Json:
    """`value` as JSON that keeps what a program can tell apart: a tuple is no list, bytes are no text."""
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, str):
        return text(str(value))
    if isinstance(value, bytes | bytearray | memoryview):
        return {"bytes": text(bytes(value).decode("latin-1"))}
    if isinstance(value, list):
        return [canonical(item) for item in value]
    if isinstance(value, tuple):
        return {"tuple": [canonical(item) for item in value]}
    if isinstance(value, set | frozenset):
        return {"set": sorted((canonical(item) for item in value), key=repr)}
    if isinstance(value, dict):
        return {"dict": [[canonical(key), canonical(item)] for key, item in value.items()]}
    if isinstance(value, BaseException):
        return {"error": type(value).__name__, "text": text(str(value))}
    if type(value).__name__ in {"AgentAddress", "AgentChannel", "SocketAddress"}:
        return {"address": text(repr(value))}
    return {"object": type(value).__name__}
