"""What a plan may look at: the objects of one namespace, indexed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, cast

from ganglion.api import Agent, AgentChannel, Channel, NameServer


@dataclass(frozen=True, slots=True)
class NameServerAddress:
    """Where a name server is reached; known once its keys exist."""

    endpoint: str
    """`tcp://host:port`."""
    public_key: str
    """Z85; empty with `security: None`."""


class _Legs:
    """Who takes part in one channel, and how many; kept while agents come and go, so that a channel of thousands is judged at once."""

    __slots__ = ("agents", "plain", "replicas")

    def __init__(self) -> None:
        self.agents: dict[str, tuple[Agent, list[AgentChannel]]] = {}
        self.replicas: Counter[tuple[str, str]] = Counter()
        """(NameServer, role) → replicas, without agents that are being deleted."""
        self.plain: Counter[tuple[str, str]] = Counter()
        """The same for legs of plain programs."""

    def add(self, agent: Agent, entry: AgentChannel, sign: int) -> None:
        """Count one entry of an agent, or with -1 take it back."""
        if agent.deleting:
            return
        key = (agent.spec.name_server_ref.name, entry.role)
        self.replicas[key] += sign * agent.desired_replicas
        self.plain[key] += sign * (agent.speaks(entry) == "Plain")


@dataclass(frozen=True)
class DomainView:
    """Objects of one namespace. Lookups are dict reads.

    Attributes:
        name_servers, channels, agents: by name.
        addresses: by NameServer name; missing while the keys are not made yet.
        code: ConfigMap name → content hash of its data; missing when there is no such ConfigMap.
    """

    name_servers: Mapping[str, NameServer]
    channels: Mapping[str, Channel]
    agents: Mapping[str, Agent]
    addresses: Mapping[str, NameServerAddress] = field(default_factory=dict)
    code: Mapping[str, str] = field(default_factory=dict)
    memo: dict[tuple[str, str], Any] = field(default_factory=dict, init=False, repr=False, compare=False)
    """Results of pure functions of this view, so that a thousand agents of one channel judge it once."""
    _legs: dict[str, _Legs] = field(default_factory=dict, init=False, repr=False, compare=False)
    _letters: dict[str, list[Channel]] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        given, mine = self.agents, dict[str, Agent]()
        object.__setattr__(self, "agents", mine)
        letters: dict[str, list[Channel]] = {}
        for _, channel in sorted(self.channels.items()):
            if channel.spec.dead_letter is not None:
                letters.setdefault(channel.spec.dead_letter.name, []).append(channel)
        object.__setattr__(self, "_letters", letters)
        for name, agent in sorted(given.items()):
            self.put_agent(name, agent)

    def put_agent(self, name: str, agent: Agent | None) -> None:
        """Add, replace or (None) remove one agent, and forget what was concluded from the former one."""
        agents = cast("dict[str, Agent]", self.agents)
        old = agents.pop(name, None)
        for entry in old.spec.channels if old is not None else ():
            legs = self._legs[entry.channel_ref.name]
            legs.agents.pop(name, None)
            legs.add(cast("Agent", old), entry, -1)
        if agent is not None:
            agents[name] = agent
            for entry in agent.spec.channels:
                legs = self._legs.setdefault(entry.channel_ref.name, _Legs())
                legs.agents.setdefault(name, (agent, []))[1].append(entry)
                legs.add(agent, entry, +1)
        if self.memo:
            self._forget([one for one in (old, agent) if one is not None])

    def _forget(self, agents: Iterable[Agent]) -> None:
        for agent in agents:
            if len({entry.role for entry in agent.spec.channels}) > 1:
                # It passes messages on: who waits for whom may have changed for any channel.
                self.memo.clear()
                return
            for entry in agent.spec.channels:
                # Whoever sends to a channel sends its dead letters, too.
                channel = self.channels.get(entry.channel_ref.name)
                letters = channel.spec.dead_letter if channel is not None else None
                for target in (entry.channel_ref.name, letters.name if letters is not None else ""):
                    self.memo.pop(("plan", target), None)
                    # What is wrong with a channel for dead letters is told by the channel that names it.
                    for source in self._letters.get(target, ()):
                        self.memo.pop(("plan", source.name), None)

    def replicas(self, channel: str, role: str) -> int:
        """Replicas that agents of the channel's NameServer declare in a role."""
        legs = self._legs.get(channel)
        return legs.replicas[self._owner(channel), role] if legs is not None else 0

    def plain(self, channel: str, roles: Iterable[str]) -> bool:
        """Whether a plain program of the channel's NameServer takes one of these roles."""
        legs = self._legs.get(channel)
        return legs is not None and any(legs.plain[self._owner(channel), role] for role in roles)

    def _owner(self, channel: str) -> str:
        target = self.channels.get(channel)
        return target.spec.name_server_ref.name if target is not None else ""

    def dead_letter_sources(self, channel: str) -> Iterable[Channel]:
        """Channels of the same NameServer that send their dead letters to `channel`."""
        owner = self._owner(channel)
        return [source for source in self._letters.get(channel, ()) if source.spec.name_server_ref.name == owner and source.name != channel]

    def participants(self, channel: str) -> Iterable[tuple[Agent, AgentChannel]]:
        """(agent, its entry) of every agent that names the channel and belongs to the channel's NameServer, in no certain order."""
        legs, owner = self._legs.get(channel), self._owner(channel)
        return [
            (agent, entry)
            for agent, entries in (legs.agents.values() if legs is not None else ())
            if agent.spec.name_server_ref.name == owner and not agent.deleting
            for entry in entries
        ]
