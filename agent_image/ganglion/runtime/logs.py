"""Log lines of a runtime process, as text or as JSON lines, on stderr.

Every line names the replica; a record's `message_id` and `alias` (through `extra`, or from the process's `context`) follow when there are any.
"""

from __future__ import annotations

import datetime as dt
import logging
import sys
from collections.abc import Callable, Mapping
from typing import Any, TextIO

import msgspec

LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
FORMATS = ("text", "json")
_FIELDS = ("message_id", "alias")

Context = Callable[[], Mapping[str, str]]
"""Fields of what the process is doing now, e.g. the message whose handler runs."""


class _Formatter(logging.Formatter):
    def __init__(self, agent: str, replica: str, context: Context) -> None:
        super().__init__()
        self._agent = agent
        self._replica = replica
        self._context = context

    def _fields(self, record: logging.LogRecord) -> dict[str, str]:
        fields = dict(self._context())
        for name in _FIELDS:
            value = getattr(record, name, None)
            if value:
                fields[name] = str(value)
        return fields


def _time(record: logging.LogRecord) -> str:
    return dt.datetime.fromtimestamp(record.created, dt.UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


class TextFormatter(_Formatter):
    """`time LEVEL replica [message_id=…] logger: message`."""

    def format(self, record: logging.LogRecord) -> str:
        fields = "".join(f" {name}={value}" for name, value in self._fields(record).items())
        origin = "" if record.name == self._agent else f" {record.name}:"
        text = f"{_time(record)} {record.levelname:<7} {self._replica}{fields}{origin} {record.getMessage()}"
        if record.exc_info:
            text = f"{text}\n{self.formatException(record.exc_info)}"
        return text


class JsonFormatter(_Formatter):
    """One object a line: time, level, agent, replica, logger, message, then message_id, alias, exception when there are any."""

    def format(self, record: logging.LogRecord) -> str:
        entry: dict[str, Any] = {
            "time": _time(record),
            "level": record.levelname,
            "agent": self._agent,
            "replica": self._replica,
            "logger": record.name,
            "message": record.getMessage(),
            **self._fields(record),
        }
        if record.exc_info:
            entry["exception"] = self.formatException(record.exc_info)
        try:
            return msgspec.json.encode(entry).decode()
        except UnicodeEncodeError:
            # A lone surrogate, e.g. from an undecodable file name, must not cost the line.
            safe = {key: str(value).encode(errors="backslashreplace").decode() for key, value in entry.items()}
            return msgspec.json.encode(safe).decode()


def level_number(level: object) -> int:
    """A standard level, by its name in any case or by its number.

    Raises:
        ValueError: it is none.
    """
    names = logging.getLevelNamesMapping()
    found = names.get(level.upper()) if isinstance(level, str) else level
    if not isinstance(found, int) or found not in [names[name] for name in LEVELS]:
        raise ValueError(f"level: found {level!r}; must be one of {', '.join(LEVELS)}, or its number")
    return found


def set_level(level: int) -> None:
    """Log from now on what is at least as important, of all loggers that have no level of their own. Any thread."""
    # Another event loop's internals are noise at DEBUG; a user who wants them can raise that logger again.
    for logger, wanted in ((logging.getLogger(), level), (logging.getLogger("asyncio"), max(logging.INFO, level))):
        # Setting it goes through all loggers, also when it changes nothing.
        if logger.level != wanted:
            logger.setLevel(wanted)


class DeclaredLevel:
    """The level that `spec.logLevel` declares for this process while it runs: each change is made once, so that a level which the agent's
    own code sets holds until the next.

    Args:
        start: level of the process while none is declared.
    """

    def __init__(self, start: int) -> None:
        self._start = start
        self._declared = ""

    def declare(self, level: str) -> None:
        """It is this one now. Any thread, one at a time.

        Args:
            level: as in `spec.logLevel`; empty: none is declared.
        """
        if level == self._declared:
            return
        try:
            number = level_number(level) if level else self._start
        except ValueError:
            # Of a later version: better the level that we have than none.
            return
        self._declared = level
        set_level(number)


def configure(
    environment: Mapping[str, str],
    *,
    agent: str,
    replica: str,
    context: Context = dict,
    stream: TextIO | None = None,
) -> DeclaredLevel:
    """Send all logging of this process to stderr.

    Args:
        environment: GANGLION_LOG_FORMAT (text or json, default text), GANGLION_LOG_LEVEL (a standard level name, default INFO).
        agent: name of the agent, sidecar's agent, or name server.
        replica: name of the replica.
        context: asked for every line; must be cheap and must not raise.
        stream: instead of stderr.
    Returns:
        What changes its level.
    Raises:
        ValueError: an unknown format or level.
    """
    form = environment.get("GANGLION_LOG_FORMAT", "text").lower() or "text"
    level = environment.get("GANGLION_LOG_LEVEL", "INFO").upper() or "INFO"
    if form not in FORMATS:
        raise ValueError(f"GANGLION_LOG_FORMAT: found {form!r}; must be one of {', '.join(FORMATS)}")
    if level not in LEVELS:
        raise ValueError(f"GANGLION_LOG_LEVEL: found {level!r}; must be one of {', '.join(LEVELS)}")
    handler = logging.StreamHandler(stream if stream is not None else sys.stderr)
    handler.setFormatter((JsonFormatter if form == "json" else TextFormatter)(agent, replica, context))
    root = logging.getLogger()
    for old in root.handlers[:]:
        root.removeHandler(old)
    root.addHandler(handler)
    set_level(level_number(level))
    return DeclaredLevel(root.level)
