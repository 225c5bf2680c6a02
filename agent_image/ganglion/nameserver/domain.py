"""What is declared: the domain with the lookups that the registry makes, and where it comes from."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from ganglion.nameserver.member import SENDING
from ganglion.wire.admin import AgentCount, ChannelCount, Copy, DeclaredAgent, DeclaredChannel, Domain, PostedNotice
from ganglion.wire.control import Addresses

__all__ = ["DeclaredAgent", "DeclaredChannel", "Domain", "DomainIndex", "DomainSource", "StatusSnapshot"]


class DomainIndex:
    """A domain by channel; built once for each change."""

    def __init__(self, domain: Domain) -> None:
        self.domain = domain
        self._senders: dict[str, list[DeclaredAgent]] = {}
        self._receivers: dict[str, dict[str, DeclaredAgent]] = {}
        addressed = {name for name, channel in domain.channels.items() if channel.pattern == "DealerRouter"}
        self._counts: dict[str, tuple[int, int]] = {}
        for agent in domain.agents.values():
            for channel, roles in agent.roles.items():
                senders, receivers = self._counts.get(channel, (0, 0))
                sends = not SENDING.isdisjoint(roles)
                receives = any(role not in SENDING for role in roles)
                self._counts[channel] = (senders + sends * agent.replicas, receivers + receives * agent.replicas)
                if receives and channel in addressed:
                    self._receivers.setdefault(channel, {})[agent.name] = agent
                if sends:
                    self._senders.setdefault(channel, []).append(agent)

    @property
    def channels(self) -> set[str]:
        """Names of the channels that some agent takes part in."""
        return set(self._counts)

    def senders(self, channel: str) -> Sequence[DeclaredAgent]:
        """Agents that send on a channel."""
        return self._senders.get(channel, ())

    def addressed(self, channel: str) -> Mapping[str, DeclaredAgent] | None:
        """Agents that receive on a channel whose messages name their receiver; None: it is no such channel."""
        declared = self.domain.channels.get(channel)
        return self._receivers.get(channel, {}) if declared is not None and declared.pattern == "DealerRouter" else None

    def addresses(self, channel: str, done: Callable[[str], tuple[int, ...]] | None) -> dict[str, Addresses] | None:
        """Receivers of a channel whose messages name one; None: it is no such channel.

        Args:
            channel: name.
            done: agent → indices of its replicas that completed; None: nobody is expected any more.
        """
        agents = self.addressed(channel)
        if agents is None or done is None:
            return None if agents is None else {}
        # A source that counts more completions than were said goodbye to (an earlier name server was) cannot tell which.
        return {
            name: Addresses(0 if agent.run == "Once" and agent.completed >= agent.replicas else agent.replicas, done(name))
            for name, agent in agents.items()
        }

    def more_senders(self, channel: str, before: DomainIndex) -> bool:
        """Whether replicas are declared to send on a channel that were not in `before`."""
        known = {agent.name: agent.replicas for agent in before.senders(channel)}
        return any(agent.replicas > known.get(agent.name, 0) for agent in self.senders(channel))

    @functools.cached_property
    def loops(self) -> frozenset[str]:
        """Channels whose messages may lead, through receivers that send in turn, to more messages on the same channel."""
        follow: dict[str, set[str]] = {}
        for agent in self.domain.agents.values():
            sent = {channel for channel, roles in agent.roles.items() if not SENDING.isdisjoint(roles)}
            for channel, roles in agent.roles.items():
                if any(role not in SENDING for role in roles):
                    follow.setdefault(channel, set()).update(sent)
        # What nothing leads to, or leads nowhere, is in no loop: few channels are left to search from.
        left = set(follow)
        while True:
            reached = {target for channel in left for target in follow[channel]}
            kept = {channel for channel in left & reached if not left.isdisjoint(follow[channel])}
            if kept == left:
                return frozenset(channel for channel in left if channel in _reachable(follow, channel))
            left = kept

    def counts(self, channel: str) -> tuple[int, int]:
        """(sending, receiving) replicas that are declared."""
        return self._counts.get(channel, (0, 0))


def _reachable(follow: Mapping[str, set[str]], start: str) -> set[str]:
    found: set[str] = set()
    ahead = [start]
    while ahead:
        fresh = follow.get(ahead.pop(), set()) - found
        found |= fresh
        ahead.extend(fresh)
    return found


class StatusSnapshot(Protocol):
    """What a source may publish for people."""

    def members_count(self) -> int: ...

    def agent_counts(self) -> list[AgentCount]: ...

    def channel_counts(self) -> list[ChannelCount]: ...

    def copies(self) -> list[Copy]: ...

    def refused(self) -> int: ...


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
