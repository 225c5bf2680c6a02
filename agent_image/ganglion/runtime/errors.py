"""Errors that the data plane raises to user code. All derive from `GanglionError`."""

from __future__ import annotations

from ganglion.errors import GanglionError

__all__ = [
    "ChannelClosed",
    "ConfigurationError",
    "GanglionError",
    "MessageTooLarge",
    "ReceiverAbsent",
    "RemoteError",
    "ReplierLost",
    "RequestTimeout",
    "SendTimeout",
    "UnknownReceiver",
]


class MessageTooLarge(GanglionError):
    """A body exceeds the channel's `maxMessageBytes`."""


class SendTimeout(GanglionError, TimeoutError):
    """The channel stayed full for the whole timeout."""


class UnknownReceiver(GanglionError, LookupError):
    """A message was to go to a replica that is not declared (it never was, it was scaled away), or that is done."""


class ReceiverAbsent(GanglionError, ConnectionError):
    """The replica that a message was to go to is not there at present, and `highWaterMark` messages wait for it."""


class ChannelClosed(GanglionError):
    """The channel takes no more messages: END was said, or the agent is leaving."""


class RequestTimeout(GanglionError, TimeoutError):
    """No reply within the timeout."""


class ReplierLost(GanglionError, ConnectionError):
    """The replier that held the request is gone; whether it acted is unknown."""


class RemoteError(GanglionError):
    """The replier's handler raised. Type, message and traceback travel as text.

    Attributes:
        type: qualified name of the remote exception class.
        traceback: the remote traceback as text.
    """

    def __init__(self, type: str, message: str, traceback: str = "") -> None:  # noqa: A002 - the field's name on the wire
        super().__init__(f"{type}: {message}")
        self.type = type
        self.message = message
        self.traceback = traceback


class ConfigurationError(GanglionError):
    """The wiring document, the class or the environment is wrong; retrying cannot help (exit code 78)."""
