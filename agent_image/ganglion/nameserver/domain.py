"""What is declared: the domain with the lookups that the registry makes, and where it comes from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from ganglion.nameserver.member import SENDING
from ganglion.wire.admin import AgentCount, ChannelCount, DeclaredAgent, DeclaredChannel, Domain, PostedNotice

__all__ = ["DeclaredAgent", "DeclaredChannel", "Domain", "DomainIndex", "DomainSource", "StatusSnapshot"]


class DomainIndex:
    """A domain by channel; built once for each change."""

    def __init__(self, domain: Domain) -> None:
        self.domain = domain
        self._senders: dict[str, list[DeclaredAgent]] = {}
        self._counts: dict[str, tuple[int, int]] = {}
        for agent in domain.agents.values():
            for channel, roles in agent.roles.items():
                senders, receivers = self._counts.get(channel, (0, 0))
                sends = not SENDING.isdisjoint(roles)
                receives = any(role not in SENDING for role in roles)
                self._counts[channel] = (senders + sends * agent.replicas, receivers + receives * agent.replicas)
                if sends:
                    self._senders.setdefault(channel, []).append(agent)

    @property
    def channels(self) -> set[str]:
        """Names of the channels that some agent takes part in."""
        return set(self._counts)

    def senders(self, channel: str) -> Sequence[DeclaredAgent]:
        """Agents that send on a channel."""
        return self._senders.get(channel, ())

    def more_senders(self, channel: str, before: DomainIndex) -> bool:
        """Whether replicas are declared to send on a channel that were not in `before`."""
        known = {agent.name: agent.replicas for agent in before.senders(channel)}
        return any(agent.replicas > known.get(agent.name, 0) for agent in self.senders(channel))

    def counts(self, channel: str) -> tuple[int, int]:
        """(sending, receiving) replicas that are declared."""
        return self._counts.get(channel, (0, 0))


class StatusSnapshot(Protocol):
    """What a source may publish for people."""

    def members_count(self) -> int: ...

    def agent_counts(self) -> list[AgentCount]: ...

    def channel_counts(self) -> list[ChannelCount]: ...


class DomainSource(Protocol):
    """Where the declared domain comes from. Runs in the server's loop."""

    async def run(self) -> None:
        """Feed the server until cancelled; outages are the source's own business and never raise."""
        ...

    async def deleting(self) -> bool:
        """Asked once, at SIGTERM: whether the NameServer itself is being deleted. Answers within a few seconds."""
        ...

    def post(self, notice: PostedNotice) -> None:
        """Show a notice to people. Never blocks."""
        ...

    def status_changed(self) -> None:
        """Counts may be published again. Never blocks."""
        ...

    async def close(self) -> None: ...
