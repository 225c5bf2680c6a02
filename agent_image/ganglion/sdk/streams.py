"""End of stream: when every sender of a channel has ended, and what came is handled. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from ganglion.wire.control import ChannelState, Peer
from ganglion.wiring import ChannelWiring

SETTLE_SECONDS = 1.0
"""BestEffort only: nobody acknowledges, so a stream has ended when nothing has come for so long after the last sender's END."""


@dataclass(slots=True)
class _Stream:
    channel: ChannelWiring
    closing: bool = False
    """The directory says that the channel has ended."""
    ended: bool = False
    """`on_end` may run, or has run."""
    delivered: int = -1
    quiet_since: float = 0.0


class Streams:
    """The receiving aliases of one agent."""

    def __init__(self, channels: Collection[ChannelWiring]) -> None:
        self._streams = {channel.alias: _Stream(channel) for channel in channels if not channel.sends}
        self._inward = {channel.alias: channel.inward for channel in channels if channel.inward is not None}
        self._at_rest: dict[str, bool] = dict.fromkeys(self._streams, False)
        self.loops: frozenset[str] = frozenset()
        """Aliases that are part of a loop."""
        self.loops_ended = False
        """The loops have come to rest, whatever their senders say."""

    @property
    def all_ended(self) -> bool:
        """There are inputs, and every one has ended."""
        return bool(self._streams) and all(stream.ended for stream in self._streams.values())

    @property
    def at_rest(self) -> bool:
        """No sender will send more: each has ended, is at rest, or is gone. True without inputs."""
        return all(rest or (self.loops_ended and alias in self.loops) for alias, rest in self._at_rest.items())

    @property
    def outside_at_rest(self) -> bool:
        """The same of the senders that are in no loop with this agent."""
        return all(rest or alias in self.loops for alias, rest in self._at_rest.items())

    @property
    def awaited(self) -> bool:
        """There are senders that are not at rest and would wait for a receiver. Any thread."""
        return any(not rest and self._streams[alias].channel.role != "Sub" for alias, rest in tuple(self._at_rest.items()))

    def set_loops(self, channels: Iterable[str]) -> None:
        """Channels that are part of a loop."""
        names = frozenset(channels)
        self.loops = frozenset(alias for alias, stream in self._streams.items() if stream.channel.channel in names)

    @property
    def pending(self) -> bool:
        """A channel has ended and its stream has not yet: look again soon."""
        return any(stream.closing and not stream.ended for stream in self._streams.values())

    @property
    def reopened(self) -> bool:
        """A stream that had ended has senders again: `on_end` has run, but messages may come."""
        return any(stream.ended and not stream.closing for stream in self._streams.values())

    def ended(self, alias: str) -> bool:
        """Whether this alias's stream has ended."""
        stream = self._streams.get(self._inward.get(alias, alias))
        return stream is not None and stream.ended

    def directory(self, peers: Mapping[str, Peer], channels: Mapping[str, ChannelState]) -> None:
        """Take the current directory."""
        for alias, stream in self._streams.items():
            wiring = stream.channel
            state = channels.get(wiring.channel)
            # A new sender may have been declared meanwhile: then the channel is open again. `ended` stays: on_end runs once.
            stream.closing = state is not None and state.ended
            self._at_rest[alias] = stream.closing or all(
                peer.phase in ("AtRest", "Stopped") or part.ended
                for peer in peers.values()
                if (first := peer.channels.get(wiring.channel)) is not None
                for part in (first, *first.also)
                if part.role == wiring.peer_role
            )

    def look(self, alias: str, now: float, *, idle: bool, delivered: int) -> bool:
        """Whether this alias's stream ends now; true once.

        Args:
            now: monotonic seconds.
            idle: nothing is being handled.
            delivered: messages handed to handlers so far.
        """
        stream = self._streams[alias]
        if stream.ended or not stream.closing:
            stream.delivered = -1
            return False
        if delivered != stream.delivered or not idle:
            stream.delivered = delivered
            stream.quiet_since = now
        settle = 0.0 if stream.channel.delivery == "AtLeastOnce" or stream.channel.pattern == "RequestReply" else SETTLE_SECONDS
        if not idle or now - stream.quiet_since < settle:
            return False
        stream.ended = True
        return True
