"""Log messages of agents that a program made: to their logger when they have one, errors and warnings to the terminal as well."""

from __future__ import annotations

import logging
import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from ganglion.imperative.addresses import AgentAddress

if TYPE_CHECKING:
    from ganglion.imperative.core import Core

_LEVELS = {logging.DEBUG: "DEBUG", logging.INFO: "INFO", logging.WARNING: "WARNING", logging.ERROR: "ERROR"}


def logger_address(logger: Any) -> AgentAddress:
    """Where a logger listens: of a proxy to it, or of its address.

    Raises:
        ValueError: it is neither.
    """
    from ganglion.imperative.proxy import Proxy

    if isinstance(logger, Proxy):
        logger = logger.addr("sub")
    if not isinstance(logger, AgentAddress):
        raise ValueError(f"An AgentAddress must be provided for logging! Found a {type(logger).__name__}")  # noqa: TRY004 - as osBrain
    return logger


def write(core: Core, level: int, message: object, args: tuple[object, ...], logger: str) -> None:
    """Log one message; `logger` is the alias of the logger."""
    if level < (core.log.level or (logging.DEBUG if getattr(core.agent, "_DEBUG", False) else logging.INFO)):
        return
    word = _LEVELS[level]
    text = f"[{datetime.now(UTC).replace(tzinfo=None)}] ({core.name}): {message % args if args and isinstance(message, str) else message}"
    send = core.senders.get(logger)
    if send is not None:
        core.agent.send(logger, text, topic=word)
    if level >= logging.WARNING or send is None:
        stream = sys.stderr if level == logging.ERROR else sys.stdout
        stream.write(f"{word} {text}\n")
        stream.flush()
