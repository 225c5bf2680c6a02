"""What a plan may look at. Gathered by the engine, without a clock or a connection of its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from ganglion.api import Agent, Channel, NameServer
from ganglion.api.nameserver import AgentCount, ChannelCount, Copy
from ganglion.planner import AgentPlan, ChannelPlan
from ganglion_operator.core.actions import Settled
from ganglion_operator.core.curve import KeyPair
from ganglion_operator.core.kinds import Body, Kind
from ganglion_operator.core.settings import PodSettings


@dataclass(frozen=True, slots=True)
class TokenKeys:
    """How to verify a ServiceAccount token offline, as published by the API server."""

    issuer: str
    jwks: str


@dataclass(frozen=True, slots=True)
class Around:
    """What every plan needs to know about the world.

    Attributes:
        now: UTC.
        alive: whether the owner that a reference names exists.
        nodes: node → ready, False, or None when it cannot be told; only for nodes that matter now.
        rejected: (reason, message) when the API server refused the last attempt for a cause that a retry does not cure.
    """

    settings: PodSettings
    now: datetime
    alive: Callable[[Body], bool]
    nodes: Mapping[str, bool | None] = field(default_factory=dict)
    rejected: tuple[str, str] | None = None

    @property
    def stamp(self) -> str:
        """`now` as conditions write it."""
        return self.now.strftime("%Y-%m-%dT%H:%M:%SZ")


@dataclass(frozen=True, slots=True)
class AgentSnapshot:
    """An agent and what belongs to it.

    Attributes:
        metadata: of the stored object, with its owner references.
        server: its NameServer, if there is one.
        workload: the StatefulSet or Job of its name, whoever owns it.
        pods: those of the workload.
        code_maps: ConfigMaps that hold inline code, current and former.
        count: what the name server counted.
        counted: False when the name server has no room to count it.
        settled: what the last pass found in place, if it did.
    """

    agent: Agent
    metadata: Body
    server: NameServer | None
    plan: AgentPlan
    workload: Body | None = None
    pods: tuple[Body, ...] = ()
    budget: Body | None = None
    code_maps: tuple[Body, ...] = ()
    count: AgentCount | None = None
    counted: bool = True
    settled: Settled | None = None


@dataclass(frozen=True, slots=True)
class NameServerSnapshot:
    """A NameServer and what belongs to it.

    Attributes:
        existing: finds an object by kind and name, whoever owns it.
        fresh_keys: the key pair to use when there is none; the same one until the status shows it.
        token_keys: None while the API server's are not known.
        agents, channels: how many refer to it.
        copies: Agents that it controls.
        wanted: copies that its status asks for; None when the list is absent or cannot be understood, which is not an empty one.
        find: an Agent of the namespace that can be understood.
        taken: whether there is an Agent of a name.
    """

    server: NameServer
    existing: Callable[[Kind, str], Body | None]
    fresh_keys: Callable[[], KeyPair]
    token_keys: TokenKeys | None
    agents: int = 0
    channels: int = 0
    pods: tuple[Body, ...] = ()
    copies: tuple[Body, ...] = ()
    wanted: tuple[Copy, ...] | None = None
    find: Callable[[str], Agent | None] = lambda _: None
    taken: Callable[[str], bool] = lambda _: False


@dataclass(frozen=True, slots=True)
class ChannelSnapshot:
    """A channel and its traffic."""

    channel: Channel
    plan: ChannelPlan
    count: ChannelCount | None = None
