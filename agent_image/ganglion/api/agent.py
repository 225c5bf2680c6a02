"""Agent: code and the channels it takes part in."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints

from ganglion.api.base import FREE_FORM, Alias, Conditions, Identifier, Model, ObjectName, ObjectRef, Ref, Resource, list_map
from ganglion.api.channel import Role
from ganglion.api.pod import Container, Env, EnvFromSource, ExtraContainer, Mounts, PodFields, Volume

LogLevel = Literal["Debug", "Info", "Warning", "Error", "Critical"]
Topic = Annotated[str, StringConstraints(max_length=255)]
FileName = Annotated[str, StringConstraints(min_length=1, max_length=253, pattern=r"^[-._a-zA-Z0-9]+$")]
FileText = Annotated[str, StringConstraints(max_length=131072)]
TARGET_PATTERN = r"^[A-Za-z_][A-Za-z0-9_.]*:[A-Za-z_][A-Za-z0-9_.]*$"
Target = Annotated[str, StringConstraints(min_length=3, max_length=512, pattern=TARGET_PATTERN)]


class Code(Model):
    """Where the agent's code comes from when it is not in the image. Exactly one source."""

    config_map_ref: ObjectRef | None = Field(
        default=None, description='ConfigMap whose keys are files. Label it `ganglion.dev/code: "true"` so that an edit rolls the agent.'
    )
    inline: Annotated[dict[FileName, FileText], Field(min_length=1, max_length=32)] | None = Field(
        default=None, description="File name → text."
    )


class TopicHandler(Model):
    """Handler of one topic prefix."""

    topic: Topic = Field(description="Topic prefix; empty for everything.")
    handler: Identifier = Field(description="Method or function that takes the message.")


class AgentChannel(Model):
    """One channel that the agent takes part in."""

    alias: Alias = Field(description="Name under which the code knows the channel; also the ipc socket `<alias>.sock`.")
    channel_ref: Ref = Field(description="The Channel, in the same namespace and of the same NameServer.")
    role: Role = Field(description="The agent's role; must be one of the pattern's two.")
    handler: Identifier | None = Field(
        default=None,
        description="Method or function called with each message (Pull, Sub, Rep, Binder, Connector, Router, Dealer, SyncSub), or with each request (SyncPub).",
    )
    topics: Annotated[tuple[Topic, ...], Field(max_length=64, json_schema_extra={"x-kubernetes-list-type": "set"})] | None = Field(
        default=None, description="Sub, SyncSub: topic prefixes to subscribe to; default everything."
    )
    topic_handlers: Annotated[tuple[TopicHandler, ...], Field(max_length=64, json_schema_extra=list_map("topic"))] | None = Field(
        default=None, description="Sub, SyncSub: a handler for each topic prefix, instead of `handler` and `topics`."
    )
    speaks: Literal["Sdk", "Plain"] | None = Field(
        default=None,
        description="Plain: the program uses an ordinary ZeroMQ socket on the ipc leg. Default: Plain with `container`, else Sdk.",
    )


class Timer(Model):
    """A method that runs again and again, never overlapping itself."""

    name: Alias = Field(description="Name of the timer.")
    method: Identifier = Field(description="Method to call.")
    period_milliseconds: int = Field(ge=1, le=86400000, description="Time between starts.")
    initial_delay_milliseconds: int = Field(default=0, ge=0, le=86400000, description="Time before the first start.")


class AgentSpec(PodFields):
    """Desired state of an Agent."""

    name_server_ref: Ref = Field(description="The NameServer that owns this agent. Immutable.")
    replicas: int = Field(default=1, ge=0, le=10000, description="Pods of this agent (with `run: Once`: pods that must complete).")
    run: Literal["Always", "Once"] = Field(
        default="Always", description="Always: kept running. Once: runs to completion, as a Job. Immutable."
    )
    class_: Target | None = Field(default=None, alias="class", description="`module:Class` or `module:function` to run with the SDK.")
    code: Code | None = Field(default=None, description="Code that is not in the image; put first on the module path.")
    container: Container | None = Field(default=None, description="A program of any language instead of a class.")
    attributes: Annotated[dict[str, Any], Field(json_schema_extra=FREE_FORM)] | None = Field(
        default=None, description="Attributes set on the agent before `on_init`; any JSON values."
    )
    channels: Annotated[tuple[AgentChannel, ...], Field(max_length=64, json_schema_extra=list_map("alias"))] = Field(
        default=(), description="Channels that the agent takes part in."
    )
    timers: Annotated[tuple[Timer, ...], Field(max_length=64, json_schema_extra=list_map("name"))] = Field(
        default=(), description="Methods that run periodically."
    )
    data_plane: Literal["Sidecar", "InProcess"] = Field(
        default="Sidecar",
        description="Sidecar: the agent never sees a key or a peer. InProcess: the SDK opens the same sockets itself, for throughput.",
    )
    on_error: Literal["Continue", "Restart", "Stop"] = Field(
        default="Continue",
        description="After a handler's exception (always logged and counted): Continue, Restart the process, or Stop the agent in order.",
    )
    log_level: LogLevel | None = Field(
        default=None,
        description="What is less important is not logged by the agent's processes. A change reaches them while they run, and replaces no pod. "
        "Default: what they started with, `GANGLION_LOG_LEVEL`.",
    )
    suspend: bool = Field(default=False, description="Run no pods until it is false again.")
    min_available: int | None = Field(
        default=None, ge=0, le=10000, description="Pods that voluntary disruptions must leave (PodDisruptionBudget)."
    )
    backoff_limit: int = Field(default=6, ge=0, le=1000, description="`run: Once`: failures after which the agent counts as failed.")
    termination_grace_period_seconds: int = Field(
        default=30,
        ge=5,
        le=3600,
        description="Seconds to drain and stop when a pod is scaled down, rolled or evicted; at most half of the NameServer's "
        "`shutdown.timeoutSeconds`. Kubernetes shows the other half on top of it in the pods of agents with a `class`, which end by themselves "
        "in time: pods are deleted together with their NameServer, whose shutdown begins with that half.",
    )
    service_account_name: ObjectName | None = Field(
        default=None,
        description="Service account of the pods; must be in the NameServer's `allowedServiceAccounts`. No token is mounted in the agent.",
    )
    env: Env | None = Field(default=None, description="Environment variables of the agent container.")
    env_from: Annotated[tuple[EnvFromSource, ...], Field(max_length=32)] | None = Field(
        default=None, description="Variables from ConfigMaps or Secrets."
    )
    volumes: Annotated[tuple[Volume, ...], Field(max_length=32, json_schema_extra=list_map("name"))] | None = Field(
        default=None, description="Volumes; hostPath is not offered."
    )
    volume_mounts: Mounts | None = Field(default=None, description="Mounts of `volumes` in the agent container.")
    extra_containers: Annotated[tuple[ExtraContainer, ...], Field(max_length=8, json_schema_extra=list_map("name"))] | None = Field(
        default=None, description="Further containers beside the agent."
    )


class AgentStatus(Model):
    """Observed state of an Agent."""

    observed_generation: int = Field(default=0, ge=0, description="Generation that was reconciled last.")
    conditions: Conditions = ()
    replicas: int = Field(default=0, ge=0, description="Pods that exist.")
    ready_replicas: int = Field(
        default=0, ge=0, description="Pods that are Ready: they have joined, and `on_init` and `before_loop` are behind them."
    )
    updated_replicas: int = Field(default=0, ge=0, description="Pods of the current intent.")
    succeeded: int = Field(default=0, ge=0, description="`run: Once`: pods that completed.")
    failed: int = Field(default=0, ge=0, description="`run: Once`: pods that failed.")
    joined: int = Field(default=0, ge=0, description="Replicas with a live lease at the name server.")
    selector: str | None = Field(default=None, max_length=1024, description="Label selector of the pods, for the scale subresource.")
    intent_hash: str | None = Field(
        default=None, max_length=64, description="Hash of what the user wants; pods that carry another are replaced."
    )
    runtime_image: str | None = Field(default=None, max_length=512, description="Sidecar image, pinned until the spec changes.")
    runtime_generation: int | None = Field(default=None, ge=0, description="Generation for which the sidecar image was pinned.")


class Agent(Resource):
    """An Agent is code and the channels it takes part in. It becomes pods whose sidecar opens the channels."""

    kind: Literal["Agent"] = "Agent"
    spec: AgentSpec = Field(description="Desired state.")
    status: AgentStatus = Field(default_factory=AgentStatus, description="Observed state.")

    @property
    def desired_replicas(self) -> int:
        """Pods wanted now."""
        return 0 if self.spec.suspend else self.spec.replicas

    def speaks(self, channel: AgentChannel) -> Literal["Sdk", "Plain"]:
        """Dialect of the channel's ipc leg."""
        return channel.speaks or ("Plain" if self.spec.container else "Sdk")
