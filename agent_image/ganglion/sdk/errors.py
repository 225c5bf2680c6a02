"""Errors of the SDK itself; those of the data plane are in `ganglion.runtime.errors`. All derive from `GanglionError`."""

from __future__ import annotations

from ganglion.errors import GanglionError


class AgentStopping(GanglionError):
    """The agent was told to stop: a function that still sends or waits should return."""


class AgentNotRunning(GanglionError):
    """The object was made by hand: only agents that the runtime starts have channels, timers and attributes."""


class RecvTimeout(GanglionError, TimeoutError):
    """Nothing arrived within the timeout."""


class StreamEnded(GanglionError, EOFError):
    """Every sender has said that no more messages will come, and all that came was received."""


class AliasError(GanglionError, LookupError):
    """No such alias, or its role cannot do what was asked."""


class HandlerError(GanglionError, TypeError):
    """Something that was given as a handler cannot be one."""


class UnknownHandler(HandlerError, AttributeError):
    """Neither the agent nor its module has something of this name."""


class AttributeTaken(GanglionError, AttributeError):
    """An attribute would hide a member that the agent already has."""


class NotSupported(GanglionError, NotImplementedError):
    """This way of running an agent does not have what was asked for; the text says what to do instead."""
