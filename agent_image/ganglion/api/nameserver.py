"""NameServer: a trust domain and lifecycle owner."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from ganglion.api.base import Conditions, Model, Name, ObjectName, Resource, list_map
from ganglion.api.pod import PodFields, ResourceRequirements

MAX_COUNTED_AGENTS = 4096
MAX_COUNTED_CHANNELS = 1024
"""Entries of the lists in a NameServer's status: with their managed fields they must fit into one object of etcd (1.5 MiB)."""
MAX_TEMPLATES = 8
MAX_COPIES = 100
"""Of one template."""


class Shutdown(Model):
    """How the domain ends."""

    timeout_seconds: int = Field(
        default=60,
        ge=10,
        le=86400,
        description="Seconds from the deletion of the NameServer until everything is gone. Agents get at most half.",
    )


class AgentDefaults(PodFields):
    """Defaults for the Agents of this NameServer; an Agent's own field wins as a whole."""


class Template(Model):
    """An Agent that programs may have copies of."""

    name: Name = Field(description="An Agent with a `class`, of this NameServer; with `replicas: 0` it runs no pods of its own.")
    max_copies: int = Field(
        default=1,
        ge=1,
        le=MAX_COPIES,
        description="Copies that may exist at the same time. The pod of a copy that was deleted may still be ending, for its grace period, and is not counted.",
    )


class NameServerSpec(Model):
    """Desired state of a NameServer."""

    security: Literal["Curve", "None"] = Field(
        default="Curve", description="`Curve` encrypts and authenticates every connection; `None` is for debugging on a closed network."
    )
    shutdown: Shutdown = Field(
        default_factory=Shutdown, description="How the domain ends when the NameServer is deleted.", json_schema_extra={"default": {}}
    )
    deletion_policy: Literal["Cascade", "Orphan"] = Field(
        default="Cascade", description="Whether the Agents that refer to this NameServer are deleted with it."
    )
    remote_code: Literal["Forbidden", "Signed", "Trusted"] = Field(
        default="Forbidden",
        description="Whether channels may use codecs that can run code while decoding (Pickle, Dill), and agents that programs make "
        "(`adHoc`) may send each other functions and classes. Forbidden: such a value is refused before it is loaded. Signed: these agents run what an Ed25519 key has "
        "signed that they trust, and channels are as with Forbidden.",
    )
    ad_hoc: Literal["Forbidden", "Allowed"] = Field(
        default="Forbidden",
        description="Whether programs in the pods of the Agents may make agents and sockets that no manifest declares (`run_agent`, "
        "`bind`, `connect`). They find each other by a directory beside the name server. Needs `security: Curve`.",
    )
    templates: Annotated[tuple[Template, ...], Field(max_length=MAX_TEMPLATES, json_schema_extra=list_map("name"))] = Field(
        default=(),
        description="Agents that programs in pods may have copies of, by `run_agent(template=...)`. A copy has the template's pod, `run: Once`, and "
        "no channels or timers. Needs `adHoc: Allowed`. Copies that this list no longer allows are deleted.",
    )
    agent_defaults: AgentDefaults = Field(
        default_factory=AgentDefaults, description="Defaults for the pods of the Agents.", json_schema_extra={"default": {}}
    )
    allowed_service_accounts: Annotated[
        tuple[ObjectName, ...], Field(max_length=64, json_schema_extra={"x-kubernetes-list-type": "set"})
    ] = Field(default=(), description="Service accounts that Agents may name in `serviceAccountName`.")
    resources: ResourceRequirements | None = Field(default=None, description="Compute resources of the name server itself.")


class ChannelCount(Model):
    """What the name server counted on one channel, in messages since the peers started."""

    name: Name = Field(description="Channel.")
    senders: int = Field(default=0, ge=0, description="Live sending replicas.")
    receivers: int = Field(default=0, ge=0, description="Live receiving replicas.")
    accepted: int = Field(default=0, ge=0, description="Accepted from senders.")
    acked: int = Field(default=0, ge=0, description="Acknowledged (AtLeastOnce) or handed to the carrier (BestEffort).")
    in_flight: int = Field(default=0, ge=0, description="Accepted and not settled yet.")
    dead_lettered: int = Field(default=0, ge=0, description="Given up after three attempts.")
    dropped: int = Field(default=0, ge=0, description="Dropped by the runtime itself.")
    redelivered: int = Field(default=0, ge=0, description="Sent again after a loss.")
    delivered: int = Field(default=0, ge=0, description="Handed to handlers.")
    failed: int = Field(default=0, ge=0, description="Handler exceptions.")
    unaccounted: int = Field(default=0, ge=0, description="BestEffort: accepted − delivered (per receiver), never below the true loss.")
    ended: bool = Field(default=False, description="Every declared sender has said END.")


class AgentCount(Model):
    """What the name server knows of one agent."""

    name: Name = Field(description="Agent.")
    joined: int = Field(default=0, ge=0, description="Replicas with a live lease.")
    wired: int = Field(default=0, ge=0, description="Replicas whose channels all have at least one peer.")


class Copy(Model):
    """A copy of a template that a program asked for."""

    name: Name = Field(description="Agent; the name follows from the template's and from that of the agent that the program has asked for.")
    template: Name = Field(description="The Agent that it is a copy of.")


class NameServerStatus(Model):
    """Observed state of a NameServer."""

    observed_generation: int = Field(default=0, ge=0, description="Generation that was reconciled last.")
    conditions: Conditions = ()
    endpoint: str | None = Field(default=None, max_length=512, description="Where agents join.")
    public_key: str | None = Field(default=None, max_length=64, description="CURVE public key of the name server (Z85).")
    key_secret: str | None = Field(default=None, max_length=253, description="Immutable Secret that holds the key pair.")
    members: int = Field(default=0, ge=0, description="Replicas with a live lease.")
    agents: Annotated[tuple[AgentCount, ...], Field(max_length=MAX_COUNTED_AGENTS, json_schema_extra=list_map("name"))] = Field(
        default=(), description="Members by agent, counted by the name server."
    )
    channels: Annotated[tuple[ChannelCount, ...], Field(max_length=MAX_COUNTED_CHANNELS, json_schema_extra=list_map("name"))] = Field(
        default=(), description="Traffic by channel, counted by the name server; refreshed at most every two seconds."
    )
    copies: Annotated[tuple[Copy, ...], Field(max_length=MAX_TEMPLATES * MAX_COPIES, json_schema_extra=list_map("name"))] = Field(
        default=(),
        description="Copies of `spec.templates` that programs have asked for, listed by the name server; only `spec` decides which are made.",
    )


class NameServer(Resource):
    """A NameServer is a trust domain and lifecycle owner: registry, keys, directory. Deleting it shuts its agents down in order."""

    kind: Literal["NameServer"] = "NameServer"
    spec: NameServerSpec = Field(default_factory=NameServerSpec, description="Desired state.", json_schema_extra={"default": {}})
    status: NameServerStatus = Field(default_factory=NameServerStatus, description="Observed state.")
