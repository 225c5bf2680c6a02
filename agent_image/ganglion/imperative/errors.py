"""Errors of calls and of the directory."""

from __future__ import annotations

import traceback

from ganglion.errors import GanglionError

__all__ = [
    "AdHocForbidden",
    "AgentNameTaken",
    "AgentStartError",
    "CallTimeout",
    "CommunicationError",
    "MalformedSignature",
    "NamingError",
    "SignatureError",
    "SignatureExpired",
    "SignatureInvalid",
    "SignatureReplayed",
    "SignedForAnother",
    "SignedOtherCode",
    "SignerUnknown",
    "TemplateRefused",
    "TooManySigned",
    "UnknownPeer",
    "format_exception",
]


class CommunicationError(GanglionError, ConnectionError):
    """The agent or name server is gone; whether it acted on what was asked is unknown unless the text says so."""


class UnknownPeer(CommunicationError):
    """A ROUTER has no connection to this peer; nothing was sent."""


class CallTimeout(GanglionError, TimeoutError):
    """No answer within the timeout: the agent is busy, or stands still."""


class NamingError(GanglionError, LookupError):
    """The name server knows no agent of this name."""


class AdHocForbidden(GanglionError, PermissionError):
    """The domain allows no agents or sockets that no manifest declares; the text names the field."""


class TemplateRefused(GanglionError, PermissionError):
    """The NameServer does not allow this copy of this template; the text names the field to change."""


class SignatureError(GanglionError, PermissionError):
    """Base: a call with code was refused by its signature, before anything of it was loaded (`remoteCode: Signed`)."""


class MalformedSignature(SignatureError):
    """Cut off, damaged, or of another version."""


class SignerUnknown(SignatureError):
    """Signed with a key that the agent does not trust."""


class SignatureInvalid(SignatureError):
    """Not signed with the key that it names, or changed on the way."""


class SignedForAnother(SignatureError):
    """Signed for another agent, or for an earlier life of this one."""


class SignedOtherCode(SignatureError):
    """The signature is for other code than has come with it."""


class SignatureExpired(SignatureError):
    """Too late, or valid for longer than is accepted."""


class SignatureReplayed(SignatureError):
    """The same call has been made before."""


class TooManySigned(SignatureError):
    """More signed calls within their validity than can be remembered."""


class AgentNameTaken(GanglionError, RuntimeError):
    """Another agent lives under this name."""


class AgentStartError(GanglionError, RuntimeError):
    """The agent or name server could not be started; the text holds the traceback of what failed there."""


BLOCK = "\n|>>>>>>>>"
"""Begins a remote traceback in a text."""


def format_exception(error: BaseException) -> str:
    """The traceback as a block whose lines begin with `|`, to tell it from one of this process."""
    lines = "".join(traceback.format_exception(error)).splitlines()
    return BLOCK + "\n| ".join(["", *lines]) + "\n|<<<<<<<<"
