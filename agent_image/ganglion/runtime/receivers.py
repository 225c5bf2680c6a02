"""Whether anybody is left who could settle what was sent, while the domain ends. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from ganglion.runtime.connections import peers_of
from ganglion.wire.control import Peer
from ganglion.wiring import ChannelWiring

ABSENT_SECONDS = 0.5
"""No receiver for so long: a directory that is being made anew is whole again by then."""


class Receivers:
    """The receivers of one agent's outputs, as the directory tells of them.

    While a domain ends no new replica joins it: when the last receiver of a channel has left, what is unsettled there stays so.
    Nobody waits for publications.
    """

    def __init__(self, channels: Iterable[ChannelWiring]) -> None:
        self._channels = [channel for channel in channels if channel.sends and channel.role != "Pub"]
        self._absent_since: dict[str, float] = {}

    def directory(self, peers: Iterable[Peer], now: float) -> None:
        """Take the current directory (monotonic seconds)."""
        members = tuple(peers)
        for channel in self._channels:
            if peers_of(channel, members):
                self._absent_since.pop(channel.alias, None)
            else:
                self._absent_since.setdefault(channel.alias, now)

    def gone(self, now: float) -> frozenset[str]:
        """Aliases whose receivers have all left."""
        return frozenset(alias for alias, since in self._absent_since.items() if now - since >= ABSENT_SECONDS)
