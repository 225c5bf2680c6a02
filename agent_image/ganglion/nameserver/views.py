"""Filtered directories: what members that play the same roles see, as snapshots and coalesced deltas. Pure.

Replicas with the same roles see the same peers, so each change is filtered and encoded once per set of roles, not once per member.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import msgspec

from ganglion.nameserver.member import Member
from ganglion.wire.control import ChannelState, Peer, PeerChannel

Roles = frozenset[tuple[str, str]]


class _RawDirectory(msgspec.Struct, frozen=True, tag="Directory", tag_field="t", kw_only=True):
    """`Directory` with its lists encoded already; the same bytes on the wire."""

    epoch: str
    seq: int
    full: bool
    peers: msgspec.Raw
    gone: list[str]
    channels: msgspec.Raw


_encoder = msgspec.msgpack.Encoder()


def peer_for(roles: Roles, member: Member) -> Peer | None:
    """`member` as somebody with `roles` may see it: only shared channels, only in the opposite role. None: not at all."""
    parts: dict[str, list[PeerChannel]] = {}
    channels = {channel for channel, _ in roles}
    for alias, part in member.granted.items():
        if part.channel not in channels or not any(channel == part.channel and role != part.role for channel, role in roles):
            continue
        report = member.report.channels.get(alias)
        parts.setdefault(part.channel, []).append(
            PeerChannel(role=part.role, port=report.port, wired=report.wired > 0, ended=report.ended)
            if report is not None
            else PeerChannel(role=part.role)
        )
    if not parts:
        return None
    return Peer(
        agent=member.agent,
        replica=member.replica,
        incarnation=member.incarnation,
        host=member.host,
        key=member.key,
        phase=member.report.phase,
        channels={name: first if not rest else msgspec.structs.replace(first, also=tuple(rest)) for name, (first, *rest) in parts.items()},
    )


class _View:
    """One set of roles: its members, and what has changed for them since the last flush."""

    def __init__(self, roles: Roles) -> None:
        self.roles = roles
        self.members: set[Member] = set()
        self.dirty: set[str] = set()
        self.dirty_channels: set[str] = set()
        self.shown: set[str] = set()
        """Replicas in the directory as the members have it."""
        self.newcomers = False


class Directories:
    """All views, and an index of who may be in them.

    Args:
        epoch: of this life of the name server.
        state_of: channel → its state; asked at each flush for channels that changed.
        publishable: whether a member may be shown at all (its data key is known).
    """

    def __init__(self, epoch: str, state_of: Callable[[str], ChannelState], publishable: Callable[[Member], bool]) -> None:
        self._epoch = epoch
        self._state_of = state_of
        self._publishable = publishable
        self._views: dict[Roles, _View] = {}
        self._view_of: dict[Member, _View] = {}
        self._by_role: dict[str, dict[str, dict[str, Member]]] = {}
        """Channel → role → replica → member."""
        self._views_by_channel: dict[str, set[_View]] = {}
        self._indexed: dict[Member, Roles] = {}
        self._dirty: set[_View] = set()

    @property
    def pending(self) -> bool:
        """Whether `flush` has anything to say."""
        return bool(self._dirty)

    def members_of(self, channel: str) -> list[Member]:
        """Members that take part in a channel, in any role."""
        found: dict[Member, None] = {}
        for members in self._by_role.get(channel, {}).values():
            found.update(dict.fromkeys(members.values()))
        return list(found)

    def holders(self, channel: str, role: str) -> Iterable[Member]:
        """Members that play one role on a channel."""
        return self._by_role.get(channel, {}).get(role, {}).values()

    def enter(self, member: Member) -> None:
        """A member is new, or its roles changed: index it and give it a snapshot."""
        self.leave(member)
        roles = member.roles
        self._indexed[member] = roles
        for channel, role in roles:
            self._by_role.setdefault(channel, {}).setdefault(role, {})[member.replica] = member
        view = self._views.get(roles)
        if view is None:
            view = self._views[roles] = _View(roles)
            for channel, _ in roles:
                self._views_by_channel.setdefault(channel, set()).add(view)
            view.shown = {replica for replica, peer in self._visible(view).items() if self._publishable(peer)}
        view.members.add(member)
        self._view_of[member] = view
        member.in_step = False
        self.want_snapshot(member)
        self.changed(member)

    def leave(self, member: Member) -> None:
        """A member is gone (or about to be indexed anew)."""
        roles = self._indexed.pop(member, None)
        if roles is None:
            return
        for channel, role in roles:
            holders = self._by_role[channel][role]
            if holders.get(member.replica) is member:
                del holders[member.replica]
        view = self._view_of.pop(member)
        view.members.discard(member)
        if not view.members:
            del self._views[view.roles]
            self._dirty.discard(view)
            for channel in {channel for channel, _ in view.roles}:
                others = self._views_by_channel[channel]
                others.discard(view)
                if not others:
                    # The last participant left: an old channel's index must not stay for ever.
                    del self._views_by_channel[channel]
                    self._by_role.pop(channel, None)
        self._mark(member.replica, roles)

    def changed(self, member: Member) -> None:
        """Something that others may see has changed."""
        self._mark(member.replica, self._indexed.get(member, frozenset()))

    def want_snapshot(self, member: Member) -> None:
        """Its next directory message is a snapshot."""
        member.in_step = False
        view = self._view_of.get(member)
        if view is not None:
            view.newcomers = True
            self._dirty.add(view)

    def channel_changed(self, channel: str) -> None:
        """The channel's state has changed: its participants hear of it."""
        for view in self._views_by_channel.get(channel, ()):
            view.dirty_channels.add(channel)
            self._dirty.add(view)

    def _mark(self, replica: str, roles: Roles) -> None:
        for channel, role in roles:
            for view in self._views_by_channel.get(channel, ()):
                if any(name == channel and other != role for name, other in view.roles):
                    view.dirty.add(replica)
                    self._dirty.add(view)

    def _visible(self, view: _View) -> dict[str, Member]:
        found: dict[str, Member] = {}
        for channel, role in view.roles:
            for other, members in self._by_role.get(channel, {}).items():
                if other != role:
                    found.update(members)
        return found

    def flush(self) -> list[tuple[Member, bytes]]:
        """Messages for everybody whose directory changed since the last flush, each change coalesced to its latest state."""
        out: list[tuple[Member, bytes]] = []
        for view in self._dirty:
            out.extend(self._flush_view(view))
        self._dirty.clear()
        return out

    def _flush_view(self, view: _View) -> Iterable[tuple[Member, bytes]]:
        visible = {replica: member for replica, member in self._visible(view).items() if self._publishable(member)}
        changed = [peer for replica in view.dirty if (peer := self._peer(view, visible.get(replica))) is not None]
        gone = [replica for replica in view.dirty if replica in view.shown and replica not in visible]
        view.shown = set(visible)
        states = {channel: self._state_of(channel) for channel in view.dirty_channels}
        if changed or gone or states:
            peers, channels = msgspec.Raw(_encoder.encode(changed)), msgspec.Raw(_encoder.encode(states))
            for member in view.members:
                if member.in_step:
                    member.seq += 1
                    yield member, self._encode(member, full=False, peers=peers, gone=gone, channels=channels)
        view.dirty.clear()
        view.dirty_channels.clear()
        if view.newcomers:
            view.newcomers = False
            yield from self._snapshots(view, visible)

    def _snapshots(self, view: _View, visible: Mapping[str, Member]) -> Iterable[tuple[Member, bytes]]:
        everybody = [peer for member in visible.values() if (peer := self._peer(view, member)) is not None]
        peers = msgspec.Raw(_encoder.encode(everybody))
        channels = msgspec.Raw(_encoder.encode({channel: self._state_of(channel) for channel, _ in view.roles}))
        for member in view.members:
            if not member.in_step:
                member.in_step = True
                member.seq += 1
                yield member, self._encode(member, full=True, peers=peers, gone=[], channels=channels)

    @staticmethod
    def _peer(view: _View, member: Member | None) -> Peer | None:
        return peer_for(view.roles, member) if member is not None else None

    def _encode(self, member: Member, *, full: bool, peers: msgspec.Raw, gone: list[str], channels: msgspec.Raw) -> bytes:
        return _encoder.encode(_RawDirectory(epoch=self._epoch, seq=member.seq, full=full, peers=peers, gone=gone, channels=channels))
