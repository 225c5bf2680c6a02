"""Messages of the name server's admin socket: a supervisor on the same machine declares the domain and asks for its state.

One request, one reply, each a msgpack map with field `t`, on a ROUTER/DEALER pair over an ipc socket that only its owner may open.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from ganglion.wire.control import Phase


class DeclaredAgent(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a manifest says about one agent, as far as the name server cares.

    Attributes:
        replicas: pods wanted, regardless of `suspend`: a suspended sender has not ended its streams.
        roles: channel → roles that the agent may take, dead-letter channels included.
        log_level: `spec.logLevel`; empty: none.
        completed: `run: Once`: pods that succeeded, as the source knows it.
        template: of a copy: what it was made from.
        problem: of a copy: why it is not ready.
        over: of a copy: it has completed or failed.
    """

    name: str
    replicas: int
    run: Literal["Always", "Once"] = "Always"
    roles: dict[str, list[str]] = {}
    log_level: str = ""
    completed: int = 0
    template: str = ""
    problem: str = ""
    over: bool = False


class DeclaredTemplate(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An Agent that programs may have copies of.

    Attributes:
        problem: why no copy can be made now; empty if one can.
    """

    max_copies: int
    problem: str = ""


class Copy(msgspec.Struct, frozen=True, kw_only=True):
    """A copy that a program has asked for; `NameServer.status.copies[]`."""

    name: str
    template: str


class DeclaredChannel(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a manifest says about one channel, as far as the name server cares."""

    name: str
    pattern: str
    delivery: Literal["BestEffort", "AtLeastOnce"] = "AtLeastOnce"


class Domain(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Everything declared under one NameServer."""

    agents: dict[str, DeclaredAgent] = {}
    channels: dict[str, DeclaredChannel] = {}
    deleting: bool = False
    """The NameServer is being deleted: shut the domain down."""
    shutdown_timeout_seconds: float = 60.0
    templates: dict[str, DeclaredTemplate] | None = {}
    """None: the spec has what the source does not understand. This is not an empty list, and ends no copy."""
    copies: list[Copy] = []
    """Those that were asked for before the name server started; it looks at the first that it is told."""


class ChannelCount(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Traffic of one channel in messages, summed over live and past replicas of this epoch; `NameServer.status.channels[]`."""

    name: str
    senders: int = 0
    receivers: int = 0
    accepted: int = 0
    acked: int = 0
    in_flight: int = 0
    dead_lettered: int = 0
    dropped: int = 0
    redelivered: int = 0
    delivered: int = 0
    failed: int = 0
    unaccounted: int = 0
    ended: bool = False


class AgentCount(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Members of one agent; `NameServer.status.agents[]`."""

    name: str
    joined: int = 0
    wired: int = 0


class MemberState(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One live replica."""

    replica: str
    agent: str
    phase: Phase
    message: str = ""
    start: int = 0
    ports: dict[str, int] = {}
    """By alias; bound channels only."""


class PostedNotice(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Something a person should see, numbered so that a reader can ask for what is new."""

    number: int
    replica: str
    reason: str
    channel: str
    message: str
    count: int = 1


class _AdminMessage(msgspec.Struct, frozen=True, tag_field="t", kw_only=True, omit_defaults=True):
    """Base of tagged messages. `request` pairs a reply with its request."""

    request: int


class SetDomain(_AdminMessage, frozen=True, tag="SetDomain"):
    """Supervisor → name server: this is declared now. Answered by `Done`."""

    domain: Domain


class GetStatus(_AdminMessage, frozen=True, tag="GetStatus"):
    """Supervisor → name server. Answered by `Status`."""

    notices_after: int = 0


class Shutdown(_AdminMessage, frozen=True, tag="Shutdown"):
    """Supervisor → name server: shut the domain down with the flow; the process exits with 0 when it is empty. Answered by `Done`."""

    timeout_seconds: float


class Done(_AdminMessage, frozen=True, tag="Done"):
    """Name server → supervisor."""


class Failed(_AdminMessage, frozen=True, tag="Failed"):
    """Name server → supervisor: the request could not be read or served."""

    message: str


class Status(_AdminMessage, frozen=True, tag="Status"):
    """Name server → supervisor."""

    epoch: str
    endpoint: str
    """`tcp://host:port` of the join port."""
    phase: Literal["Serving", "ShuttingDown", "Leaving", "Empty"] = "Serving"
    members: list[MemberState] = []
    agents: list[AgentCount] = []
    channels: list[ChannelCount] = []
    notices: list[PostedNotice] = []
    copies: list[Copy] = []


AdminMessage = SetDomain | GetStatus | Shutdown | Done | Failed | Status

_encoder = msgspec.msgpack.Encoder()
_decoder: msgspec.msgpack.Decoder[AdminMessage] = msgspec.msgpack.Decoder(AdminMessage)


def encode(message: AdminMessage) -> bytes:
    """Encode one admin message as one frame."""
    return _encoder.encode(message)


def decode(frame: bytes) -> AdminMessage:
    """Decode one frame.

    Raises:
        msgspec.MsgspecError: not an admin message.
    """
    try:
        return _decoder.decode(frame)
    except RecursionError:
        # An unknown field may nest as deep as the frame is long.
        raise msgspec.DecodeError("nested too deeply") from None
    except UnicodeDecodeError as error:
        raise msgspec.DecodeError(f"text that is no UTF-8: {error.reason}") from None
