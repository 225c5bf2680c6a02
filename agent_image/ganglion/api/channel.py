"""Channel: a named, typed connection between agents."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from ganglion.api.base import Conditions, Model, Ref, Resource

Pattern = Literal["PushPull", "PubSub", "RequestReply", "Pair", "DealerRouter", "SyncPub"]
Role = Literal["Push", "Pull", "Pub", "Sub", "Req", "Rep", "Binder", "Connector", "Router", "Dealer", "SyncPub", "SyncSub"]
Codec = Literal["MsgPack", "MsgPackBlosc", "Json", "Raw", "Protobuf", "Pickle", "Dill"]
MessageType = Annotated[
    str, StringConstraints(min_length=1, max_length=253, pattern=r"^[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*$")
]
"""Full name of a Protobuf message: its package, and its name."""

ROLES: dict[str, tuple[Role, Role]] = {
    "PushPull": ("Push", "Pull"),
    "PubSub": ("Pub", "Sub"),
    "RequestReply": ("Rep", "Req"),
    "Pair": ("Binder", "Connector"),
    "DealerRouter": ("Router", "Dealer"),
    "SyncPub": ("SyncPub", "SyncSub"),
}
"""Roles of each pattern, default binder first."""
BOTH_WAYS: frozenset[str] = frozenset({"Binder", "Connector", "Router", "Dealer", "SyncPub", "SyncSub"})
"""Roles that send and receive under one alias."""
SENDING: frozenset[str] = BOTH_WAYS | {"Push", "Pub", "Req"}
RECEIVING: frozenset[str] = BOTH_WAYS | {"Pull", "Sub", "Rep"}
ACKNOWLEDGED: frozenset[str] = frozenset({"PushPull", "Pair", "DealerRouter"})
"""Patterns that are AtLeastOnce unless they say otherwise; only PushPull may."""
CODE_CODECS: frozenset[str] = frozenset({"Pickle", "Dill"})
"""Codecs that can run code while they decode."""


class Barrier(Model):
    """Hold the first message until enough receivers are wired, instead of sleeping."""

    peers: int = Field(ge=1, le=10000, description="Receiving replicas that must be wired before a sender's first message leaves.")
    timeout_seconds: int = Field(default=60, ge=1, le=86400, description="After so many seconds the sender goes on without them.")


class ChannelSpec(Model):
    """Desired state of a Channel."""

    name_server_ref: Ref = Field(description="The NameServer whose agents use this channel. Immutable.")
    pattern: Pattern = Field(
        description="PushPull: work is shared out. PubSub: everybody gets what they subscribed to. RequestReply: one answer each."
        " Pair: two replicas, one in each role, send to each other under one alias. DealerRouter: Dealers send to any Router, a Router to the one"
        " Dealer that it names. SyncPub: as PubSub, and a subscriber may send requests, whose replies come to it alone, in their place among the"
        " publications. Immutable."
    )
    bind: Role | None = Field(
        default=None,
        description="The role that listens; every replica of the other role connects to every listener. Default: Push, Pub, Rep, Router, SyncPub. Of a Pair always Binder, of a SyncPub always SyncPub.",
    )
    max_binders: int | None = Field(
        default=None, ge=1, le=10000, description="Most replicas that may take the binding role; default: no limit."
    )
    codec: Codec = Field(
        default="MsgPack",
        description="How message bodies are encoded. MsgPackBlosc is MsgPack, compressed where that makes it shorter. Protobuf needs `messageType`. Pickle and Dill need `remoteCode: Trusted`.",
    )
    message_type: MessageType | None = Field(
        default=None,
        description="With `codec: Protobuf`: full name of the messages, e.g. `shop.Order`; with `pattern: RequestReply` of the requests, with `SyncPub` of publications, requests and replies alike. SDK agents import the module that protoc has generated.",
    )
    reply_type: MessageType | None = Field(
        default=None, description="With `codec: Protobuf` and `pattern: RequestReply`: full name of the replies' messages."
    )
    delivery: Literal["BestEffort", "AtLeastOnce"] | None = Field(
        default=None,
        description="AtLeastOnce (default of PushPull; Pair and DealerRouter have no other): credit, acknowledgement, redelivery. BestEffort: as ZeroMQ does it, drops counted.",
    )
    ack: Literal["Causal", "Handler"] = Field(
        default="Causal",
        description="Causal: an input is acknowledged when its handler has returned and all it sent is acknowledged. Handler: when it has returned. What a Binder or a Router sends is always acknowledged so.",
    )
    high_water_mark: int = Field(
        default=1024,
        ge=1,
        le=1000000,
        description="Messages that one sender may have unacknowledged, a Router for each Dealer; the most (≤ 1024) that it gives one receiver.",
    )
    max_message_bytes: int = Field(default=8388608, ge=1, le=268435456, description="Largest message body in bytes.")
    linger_seconds: int = Field(
        default=1, ge=0, le=3600, description="Seconds that a closing BestEffort sender waits for its queue to empty."
    )
    overflow: Literal["Block", "DropNewest"] = Field(
        default="Block", description="What a send does at the high-water mark: wait, or drop the message and count it."
    )
    barrier: Barrier | None = Field(default=None, description="Hold the first message until enough receivers are wired.")
    dead_letter: Ref | None = Field(
        default=None,
        description="Channel (PushPull) that takes messages given up after three attempts, or sent to a Dealer that is gone for good; default: counted and reported only.",
    )


class ChannelStatus(Model):
    """Observed state of a Channel."""

    observed_generation: int = Field(default=0, ge=0, description="Generation that was reconciled last.")
    conditions: Conditions = ()
    bind: Role | None = Field(default=None, description="The role that listens.")
    delivery: Literal["BestEffort", "AtLeastOnce"] | None = Field(default=None, description="Delivery class in force.")
    senders: int = Field(default=0, ge=0, description="Sending replicas that agents declare.")
    receivers: int = Field(default=0, ge=0, description="Receiving replicas that agents declare.")
    accepted: int = Field(default=0, ge=0, description="Messages accepted from senders.")
    acked: int = Field(default=0, ge=0, description="Messages acknowledged.")
    in_flight: int = Field(default=0, ge=0, description="Messages accepted and not settled.")
    dead_lettered: int = Field(
        default=0, ge=0, description="Messages given up after three attempts, or sent to a Dealer that is gone for good."
    )
    dropped: int = Field(default=0, ge=0, description="Messages dropped by the runtime.")
    delivered: int = Field(default=0, ge=0, description="Messages handed to handlers.")
    unaccounted: int = Field(default=0, ge=0, description="BestEffort: accepted but not delivered.")


class Channel(Resource):
    """A Channel is a named connection: pattern, who binds, codec, delivery class. It has no pod of its own."""

    kind: Literal["Channel"] = "Channel"
    spec: ChannelSpec = Field(description="Desired state.")
    status: ChannelStatus = Field(default_factory=ChannelStatus, description="Observed state.")

    @property
    def binder(self) -> Role:
        """The role that listens."""
        return self.spec.bind or ROLES[self.spec.pattern][0]

    @property
    def delivery(self) -> Literal["BestEffort", "AtLeastOnce"]:
        """Delivery class in force: PushPull, Pair and DealerRouter default to AtLeastOnce, everything else is BestEffort."""
        return self.spec.delivery or ("AtLeastOnce" if self.spec.pattern in ACKNOWLEDGED else "BestEffort")
