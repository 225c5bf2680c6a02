"""A member's copy of its directory: snapshots and sequenced deltas in, one current mapping out. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from ganglion.wire.control import ChannelState, Directory, Peer


class DirectoryMirror:
    """Applies `Directory` messages.

    A name server restarts empty. Its first snapshots would tear down links that work, so after a change of epoch the peers of the
    earlier one are kept for `hold_seconds` unless they come back (perhaps changed) or are said to be gone.
    """

    def __init__(self) -> None:
        self.epoch = ""
        self.seq = 0
        """Last sequence number applied; 0 asks for a snapshot."""
        self.held_until: float | None = None
        """When peers of the earlier epoch are let go; None: none are held."""
        self._known: dict[str, Peer] = {}
        self._held: dict[str, Peer] = {}
        self._channels: dict[str, ChannelState] = {}

    @property
    def peers(self) -> Mapping[str, Peer]:
        """By replica; a new immutable mapping."""
        return MappingProxyType({**self._held, **self._known})

    @property
    def channels(self) -> Mapping[str, ChannelState]:
        """By channel; a new immutable mapping."""
        return MappingProxyType(dict(self._channels))

    def enter(self, epoch: str, now: float, hold_seconds: float) -> None:
        """A session begins: sequence numbers restart; with a new epoch what is known is held for a while."""
        if epoch != self.epoch:
            if self.epoch:
                self._held = {**self._held, **self._known}
                self.held_until = now + hold_seconds if self._held else None
                self._known = {}
            self.epoch = epoch
        self.seq = 0

    def apply(self, message: Directory) -> bool:
        """Take a message of the current epoch.

        Returns:
            False when it cannot be applied (another epoch, or a gap): `seq` is 0 then and a snapshot is needed.
        """
        if message.epoch != self.epoch or (not message.full and (self.seq == 0 or message.seq != self.seq + 1)):
            self.seq = 0
            return False
        if message.full:
            self._known = {}
            self._channels = {}
        for peer in message.peers:
            self._known[peer.replica] = peer
            self._held.pop(peer.replica, None)
        for replica in message.gone:
            self._known.pop(replica, None)
            self._held.pop(replica, None)
        self._channels.update(message.channels)
        self.seq = message.seq
        return True

    def release(self, now: float) -> bool:
        """Let go of held peers when their time has come; whether that changed anything."""
        if self.held_until is None or now < self.held_until:
            return False
        self.held_until = None
        changed = bool(self._held)
        self._held = {}
        return changed


def directory_delta(
    old: Mapping[str, Peer], new: Mapping[str, Peer], old_channels: Mapping[str, ChannelState], new_channels: Mapping[str, ChannelState]
) -> tuple[list[Peer], list[str], dict[str, ChannelState]]:
    """(changed or new peers, replicas that left, changed channels) between two directories."""
    peers = [peer for replica, peer in new.items() if (before := old.get(replica)) is not peer and before != peer]
    gone = [replica for replica in old if replica not in new]
    channels = {name: state for name, state in new_channels.items() if old_channels.get(name) != state}
    return peers, gone, channels
