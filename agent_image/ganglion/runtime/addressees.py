"""Whom a channel's messages may be addressed to, as the directory tells. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from ganglion.runtime.connections import DesiredPeer
from ganglion.wire.control import Addresses, ChannelState

_SHOWN = 8


class Addressees:
    """Receivers of one channel.

    Args:
        peers: who is there.
        state: what the name server knows of the channel; None, or without receivers: nothing yet.
    """

    def __init__(self, peers: Iterable[DesiredPeer] = (), state: ChannelState | None = None) -> None:
        self._present = frozenset(peer.address for peer in peers)
        self._declared: Mapping[str, Addresses] | None = state.receivers if state is not None else None

    def __contains__(self, address: str) -> bool:
        """Whether there is such a receiver, or it may come (back). True while nothing is known."""
        if self._declared is None or address in self._present:
            return True
        agent, _, index = address.rpartition("-")
        declared = self._declared.get(agent)
        if declared is None or not (index.isascii() and index.isdecimal()) or str(int(index)) != index:
            return False
        return int(index) < declared.replicas and int(index) not in declared.done

    def __str__(self) -> str:
        """Who there is, for people."""
        names = [
            f"{agent}-0 to {agent}-{of.replicas - 1}" if of.replicas > 1 else f"{agent}-0" for agent, of in self._entries() if of.replicas
        ]
        shown = ", ".join(names[:_SHOWN]) or "none"
        return f"{shown} and others" if len(names) > _SHOWN else shown

    def _entries(self) -> list[tuple[str, Addresses]]:
        return sorted((self._declared or {}).items())


def no_such(alias: str, address: str, addressees: Addressees) -> str:
    """The text for a receiver that is not, or no longer, declared."""
    return f"channel {alias!r}: no replica {address!r} receives on it, or will again; there are: {addressees}"
