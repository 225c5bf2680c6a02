"""What a plan may look at: the objects of one namespace, indexed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ganglion.api import Agent, AgentChannel, Channel, NameServer


@dataclass(frozen=True, slots=True)
class NameServerAddress:
    """Where a name server is reached; known once its keys exist."""

    endpoint: str
    """`tcp://host:port`."""
    public_key: str
    """Z85; empty with `security: None`."""


@dataclass(frozen=True)
class DomainView:
    """Objects of one namespace. Build it once per pass; lookups are dict reads.

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
    _by_channel: dict[str, list[tuple[Agent, AgentChannel]]] = field(init=False, repr=False, compare=False)
    _letters: dict[str, list[Channel]] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        index: dict[str, list[tuple[Agent, AgentChannel]]] = {}
        for _, agent in sorted(self.agents.items()):
            for entry in agent.spec.channels:
                index.setdefault(entry.channel_ref.name, []).append((agent, entry))
        object.__setattr__(self, "_by_channel", index)
        letters: dict[str, list[Channel]] = {}
        for _, channel in sorted(self.channels.items()):
            if channel.spec.dead_letter is not None:
                letters.setdefault(channel.spec.dead_letter.name, []).append(channel)
        object.__setattr__(self, "_letters", letters)

    def dead_letter_sources(self, channel: str) -> Iterable[Channel]:
        """Channels of the same NameServer that send their dead letters to `channel`."""
        target = self.channels.get(channel)
        owner = target.spec.name_server_ref.name if target is not None else None
        return [source for source in self._letters.get(channel, ()) if source.spec.name_server_ref.name == owner and source.name != channel]

    def participants(self, channel: str) -> Iterable[tuple[Agent, AgentChannel]]:
        """(agent, its entry) of every agent that names the channel and belongs to the channel's NameServer."""
        target = self.channels.get(channel)
        owner = target.spec.name_server_ref.name if target is not None else None
        return [
            (agent, entry)
            for agent, entry in self._by_channel.get(channel, ())
            if agent.spec.name_server_ref.name == owner and not agent.deleting
        ]
