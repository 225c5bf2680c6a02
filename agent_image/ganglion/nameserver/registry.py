"""Who is a member: leases, incarnations, fencing, what each may see, the end of streams, the end of the domain.

Pure: time is an argument (monotonic seconds), frames to send collect in `outbox`. It starts empty and is full again a beat or two
later; nothing of it is stored.
"""

from __future__ import annotations

import secrets
from collections import OrderedDict
from collections.abc import Iterable

from ganglion.nameserver.domain import DomainIndex
from ganglion.nameserver.ends import EndBook
from ganglion.nameserver.lives import LifeBook
from ganglion.nameserver.member import Member
from ganglion.nameserver.shutdown import Phase, ShutdownPlan
from ganglion.nameserver.traffic import TrafficBook, both_ways
from ganglion.nameserver.views import Directories
from ganglion.wire.admin import AgentCount, ChannelCount, Domain, MemberState
from ganglion.wire.control import (
    PROTOCOL_VERSION,
    AdHocTerms,
    Beat,
    BeatAck,
    Bye,
    ByeAck,
    ChannelState,
    Incarnation,
    Message,
    Refuse,
    Report,
    Watch,
    Welcome,
    encode,
)
from ganglion.wire.departures import Reason
from ganglion.wire.join import Join, is_key
from ganglion.wiring import BACK, TWO_WAY

BEAT_SECONDS = 1.0
LEASE_SECONDS = 10.0
SETTLE_SECONDS = 3.0
"""After its start the name server takes an empty registry for the truth only when members had three beats to come back."""
WAITED_FOR = {"Pull": "Push", "Rep": "Req"}
"""Receiving roles whose senders wait for them, by role."""
MAX_FENCES = 16384
"""Newest incarnation of so many replicas that are gone is remembered."""


class Registry:
    """See the module.

    Args:
        now: monotonic seconds.
        curve: whether members must have a data key before others may see them.
        epoch: id of this life; random unless a test needs a certain one.
    """

    def __init__(self, now: float, *, curve: bool = True, epoch: str | None = None) -> None:
        self.epoch = epoch or secrets.token_hex(8)
        self.domain: Domain | None = None
        self._index = DomainIndex(Domain())
        self.outbox: list[tuple[bytes, bytes]] = []
        """(session, frame) in order; the caller sends and clears it."""
        self.ad_hoc: AdHocTerms | None = None
        """What members are welcomed with."""
        self.not_granted: list[tuple[str, str, str]] = []
        """(replica, channel, role) claimed and not declared; the caller logs and clears it."""
        self._born = now
        self._last_tick = now
        self._members: dict[str, Member] = {}
        self._by_session: dict[bytes, Member] = {}
        self._by_key: dict[str, Member] = {}
        self._fences: OrderedDict[str, Incarnation] = OrderedDict()
        self._ends = EndBook()
        self._traffic = TrafficBook()
        self._ended: dict[str, bool] = {}
        self._reopened: set[str] = set()
        """Channels that got senders in this life: what receivers saw of an earlier end says nothing of these."""
        self._suspects: set[str] = set()
        """Channels whose end must be looked at again."""
        self._directories = Directories(self.epoch, self._state_of, lambda member: bool(member.key) or not curve)
        self._shutdown: ShutdownPlan | None = None
        self._life_book = LifeBook(now, lease=LEASE_SECONDS, settle=SETTLE_SECONDS, say=self._say)

    def opened(self, now: float) -> None:
        """Members can come only from now on, maybe long after the start: who has not come back by now is not gone."""
        self._born = now
        self._life_book.opened(now)

    # -- what others declare -------------------------------------------------------------------------------------------------------

    def set_domain(self, domain: Domain, now: float) -> None:
        """What is declared has changed (or is known for the first time)."""
        before = self.domain
        self.domain = domain
        if before is not None:
            self._ends.forget(before.agents.keys() - domain.agents.keys())
            self._traffic.forget(before.channels.keys() - domain.channels.keys())
        for member in self._members.values():
            if member.grant(domain):
                self._directories.enter(member)
        index, self._index = self._index, DomainIndex(domain)
        if before is not None:
            self._reopened |= {channel for channel in self._index.channels if self._index.more_senders(channel, index)}
        self._reopened &= self._index.channels
        self._suspects |= self._index.channels | self._ended.keys()
        for channel in index.channels | self._index.channels:
            if index.counts(channel) != self._index.counts(channel) or index.addressed(channel) != self._index.addressed(channel):
                self._directories.channel_changed(channel)
        if domain.deleting:
            self.shut_down(now, domain.shutdown_timeout_seconds)

    def shut_down(self, now: float, timeout: float) -> None:
        """Begin the end of the domain; again with an earlier end shortens it."""
        if self._shutdown is None:
            self._shutdown = ShutdownPlan(now, timeout)
            self._addresses_changed(self._index.channels)
        else:
            self._shutdown.shorten(now, timeout)
        self._tell_all(now)

    # -- what members say ----------------------------------------------------------------------------------------------------------

    def join(self, session: bytes, user_id: str, join: Join, issued: int, now: float) -> Refuse | None:
        """A replica whose token was verified joins, or joins again.

        Args:
            session: routing id of its connection.
            user_id: CURVE key of its connection; empty with `security: None`.
            join: its frame.
            issued: when its token was issued (Unix seconds); the claim of the frame is not believed above it.
            now: monotonic seconds.
        Returns:
            The refusal that was sent, for the log; None when it was welcomed.
        """
        incarnation = Incarnation(uid=join.uid, start=join.start, issued=min(join.issued, issued) if issued else join.issued)
        refuse = self._refusal(session, user_id, join, incarnation, now)
        if refuse is not None:
            self._say(session, refuse)
            return refuse
        member = self._members.get(join.replica)
        if member is not None and _same_life(member.incarnation, incarnation):
            self._by_session.pop(member.session, None)
            member.session, member.user_id, member.host = session, user_id, join.host
            member.in_step, member.told, member.claimed = False, "", None
        else:
            fence = self._fences.get(join.replica)
            if fence is not None and _same_life(fence, incarnation):
                # Peers compare incarnations: a renewed token must not look like another life.
                incarnation = fence
            if member is not None:
                self._say(member.session, Refuse(reason="Fenced", message="a newer life of this replica has joined", retry=False))
                self._remove(member, "Replaced", now, returns=member.incarnation.uid == incarnation.uid)
            member = Member(
                agent=join.agent,
                replica=join.replica,
                incarnation=incarnation,
                host=join.host,
                key="",
                session=session,
                user_id=user_id,
                lease_until=now + LEASE_SECONDS,
            )
            self._members[join.replica] = member
            if self._ends.returned(member):
                self._addresses_changed(self._index.channels)
        self._by_session[session] = member
        self._fence(join.replica, member.incarnation)
        member.lease_until = now + LEASE_SECONDS
        self._set_key(member, join.key)
        self._say(
            session,
            Welcome(
                version=PROTOCOL_VERSION,
                epoch=self.epoch,
                lease_seconds=LEASE_SECONDS,
                beat_seconds=BEAT_SECONDS,
                issued=member.incarnation.issued,
                ad_hoc=self.ad_hoc,
            ),
        )
        self._tell(member, now)
        return None

    def _refusal(self, session: bytes, user_id: str, join: Join, mine: Incarnation, now: float) -> Refuse | None:
        if self._shutdown is not None and not join.rejoin:
            return Refuse(reason="ShuttingDown", message="the name server is being deleted", retry=True)
        if self.domain is None or join.agent not in self.domain.agents:
            return Refuse(reason="NotDeclared", message=f"agent {join.agent!r} is not declared (yet)", retry=True)
        holder = self._by_key.get(join.key) if join.key else None
        if holder is not None and holder.replica != join.replica and not _proves(user_id, holder):
            return Refuse(reason="NotAuthenticated", message="not authenticated", retry=True)
        member = self._members.get(join.replica)
        newest = member.incarnation if member is not None else self._fences.get(join.replica)
        if newest is None:
            return None
        if _same_life(newest, mine):
            stranger = member is not None and member.session != session and member.user_id != user_id and now < member.lease_until
            # Same life, other key, and the first still beats: two processes; the second waits until one of them is gone.
            return Refuse(reason="Fenced", message="this life of the replica is a member already", retry=True) if stranger else None
        if not mine.supersedes(newest):
            return Refuse(reason="Fenced", message="a newer life of this replica has joined", retry=False)
        return None

    def beat(self, session: bytes, user_id: str, beat: Beat, now: float) -> None:
        """A member's sign of life with its report."""
        member = self._known(session, user_id)
        if member is None:
            return
        member.lease_until = now + LEASE_SECONDS
        if beat.key:
            self._set_key(member, beat.key)
        before, member.report = member.report, beat.report
        first = member.claimed is None
        if first or (beat.parts and beat.parts != member.claimed):
            member.claimed = dict(beat.parts)
            self._enter(member)
        elif _visible(before) != _visible(beat.report):
            self._directories.changed(member)
        if first or _ends(before) != _ends(beat.report):
            self._suspects.update(part.channel for part in member.granted.values())
        self._traffic.reported(member, before)
        self._life_book.reported(member)
        if beat.epoch != self.epoch:
            self._directories.want_snapshot(member)
        stay = self._is_last(member) if beat.report.phase == "Draining" else None
        declared = self.domain.agents.get(member.agent) if self.domain is not None else None
        if declared is not None:
            # One whose agent was deleted keeps its level to the end.
            member.log_level = declared.log_level
        self._say(session, BeatAck(epoch=self.epoch, seq=member.seq, stay=stay, log_level=member.log_level))

    def bye(self, session: bytes, user_id: str, bye: Bye, now: float) -> None:
        """A member leaves by itself."""
        member = self._known(session, user_id)
        if member is None:
            return
        before, member.report = member.report, bye.report
        self._traffic.reported(member, before)
        self._say(session, ByeAck())
        if bye.completed:
            self._ends.completed(member)
            self._addresses_changed(part.channel for part in member.granted.values())
        self._remove(member, "Killed" if bye.report.process == "" and not bye.report.goodbye else "Shutdown", now)
        self._tell_all(now)

    def watch(self, session: bytes, user_id: str, watch: Watch, now: float) -> None:
        """A member says of whose ends it wants to hear."""
        member = self._known(session, user_id)
        if member is not None:
            self._life_book.wants(member, watch.names, now, self.domain, goes_on=watch.goes_on)

    def asks_snapshot(self, session: bytes) -> None:
        """What was sent last did not reach this member, or it lost count."""
        member = self._by_session.get(session)
        if member is not None:
            self._directories.want_snapshot(member)

    def member_of(self, session: bytes, user_id: str) -> Member | None:
        """The member that speaks on this connection; None when it is not (or no longer) one."""
        member = self._by_session.get(session)
        return member if member is not None and member.user_id == user_id else None

    def _known(self, session: bytes, user_id: str) -> Member | None:
        member = self.member_of(session, user_id)
        if member is None:
            # A restarted name server, or a lease that ended: join again.
            self._say(session, Refuse(reason="NotAuthenticated", message="not authenticated", retry=True))
        return member

    # -- time ----------------------------------------------------------------------------------------------------------------------

    def tick(self, now: float) -> list[Member]:
        """End leases, escalate a shutdown. Call it about every quarter of a second.

        Returns:
            Members whose lease ended.
        """
        pause = now - self._last_tick
        self._last_tick = now
        if pause > BEAT_SECONDS * 2:
            # We stood still, not they: beats of that time wait in our socket.
            for member in self._members.values():
                member.lease_until += pause
        # While the domain ends, leases are shorter where time is.
        early = LEASE_SECONDS - min(LEASE_SECONDS, self._shutdown.silence_seconds) if self._shutdown is not None else 0.0
        expired = [member for member in self._members.values() if member.lease_until - early <= now]
        for member in expired:
            self._remove(member, "LeaseEnded", now)
        self._life_book.tick(now)
        self._tell_all(now)
        return expired

    def flush(self) -> None:
        """Put what changed in directories into the outbox, coalesced. Call it at most every few milliseconds."""
        for channel in self._suspects:
            self._look_at_end(channel)
        self._suspects.clear()
        self.outbox.extend((member.session, frame) for member, frame in self._directories.flush())

    @property
    def pending(self) -> bool:
        """Whether `flush` has something to do."""
        return bool(self._suspects) or self._directories.pending

    def phase(self, now: float) -> Phase:
        """`Empty` means that the process may end."""
        if self._shutdown is None:
            return "Serving"
        expected = self.domain is None or any(agent.replicas for agent in self.domain.agents.values())
        settled = not expected or now - self._born >= SETTLE_SECONDS
        return self._shutdown.phase(now, empty=not self._members and settled)

    # -- state for people ----------------------------------------------------------------------------------------------------------

    def __len__(self) -> int:
        return len(self._members)

    def members(self) -> list[MemberState]:
        """Live replicas by name."""
        return [
            MemberState(
                replica=member.replica,
                agent=member.agent,
                phase=member.report.phase,
                message=member.report.message[:256],
                start=member.incarnation.start,
                ports={alias: part.port for alias, part in member.report.channels.items() if part.port},
            )
            for _, member in sorted(self._members.items())
        ]

    def agents(self) -> list[AgentCount]:
        """Declared agents by name."""
        joined: dict[str, int] = {}
        wired: dict[str, int] = {}
        for member in self._members.values():
            joined[member.agent] = joined.get(member.agent, 0) + 1
            parts = [member.report.channels.get(alias) for alias in member.granted]
            if all(part is not None and part.wired for part in parts):
                wired[member.agent] = wired.get(member.agent, 0) + 1
        names = self.domain.agents if self.domain is not None else joined
        return [AgentCount(name=name, joined=joined.get(name, 0), wired=wired.get(name, 0)) for name in sorted(names)]

    def channels(self) -> list[ChannelCount]:
        """Declared channels by name."""
        if self.domain is None:
            return []
        base = self._traffic.base()

        def count(name: str) -> ChannelCount:
            return self._traffic.count(name, base, domain, self._directories.members_of(name), ended=self._ended.get(name, False))

        domain = self.domain
        return [
            both_ways(count(name), count(name + BACK)) if channel.pattern in TWO_WAY else count(name)
            for name, channel in sorted(domain.channels.items())
        ]

    # -- inside --------------------------------------------------------------------------------------------------------------------

    def _say(self, session: bytes, message: Message) -> None:
        self.outbox.append((session, encode(message)))

    def _tell_all(self, now: float) -> None:
        if self._shutdown is not None:
            for member in self._members.values():
                self._tell(member, now)

    def _tell(self, member: Member, now: float) -> None:
        if self._shutdown is None:
            return
        loops = self._index.loops.intersection(part.channel for part in member.granted.values())
        command = self._shutdown.command(now, sorted(loops))
        if member.told != command.kind:
            member.told = command.kind
            self._say(member.session, command)

    def _enter(self, member: Member) -> None:
        assert self.domain is not None
        member.grant(self.domain)
        claimed = member.claimed or {}
        # A part that left the wiring (same life, new document) is no part any more.
        for alias in [alias for alias, part in member.granted.items() if claimed.get(alias) != part]:
            del member.granted[alias]
        self.not_granted.extend((member.replica, part.channel, part.role) for alias, part in claimed.items() if alias not in member.granted)
        self._directories.enter(member)

    def _is_last(self, member: Member) -> bool:
        """Whether a member that is leaving is the last that takes what some live sender sends, or waits for.

        Members that leave together are asked one after the other: the last of them stays.
        """
        return self._shutdown is None and any(
            part.role in WAITED_FOR
            and not any(other.report.phase == "Ready" for other in self._directories.holders(part.channel, part.role))
            and any(
                not report.ended and sender.report.phase not in ("AtRest", "Stopped")
                for sender in self._directories.holders(part.channel, WAITED_FOR[part.role])
                for sent, report in sender.parts_of(part.channel)
                if sent.role == WAITED_FOR[part.role]
            )
            for part in member.granted.values()
        )

    def _set_key(self, member: Member, key: str) -> None:
        if key == member.key or not is_key(key):
            return
        holder = self._by_key.get(key)
        if holder is not None and holder is not member:
            if not _proves(member.user_id, holder):
                return
            holder.key = ""
            self._directories.changed(holder)
        self._by_key.pop(member.key, None)
        member.key = key
        self._by_key[key] = member
        self._directories.changed(member)

    def _fence(self, replica: str, incarnation: Incarnation) -> None:
        self._fences[replica] = incarnation
        self._fences.move_to_end(replica)
        while len(self._fences) > MAX_FENCES:
            self._fences.popitem(last=False)

    def _remove(self, member: Member, reason: Reason, now: float, *, returns: bool = False) -> None:
        self._life_book.left(member, reason, now, returns=returns)
        del self._members[member.replica]
        if self._by_session.get(member.session) is member:
            del self._by_session[member.session]
        if self._by_key.get(member.key) is member:
            del self._by_key[member.key]
        self._suspects.update(part.channel for part in member.granted.values())
        self._directories.leave(member)
        self._traffic.retire(member)

    def _look_at_end(self, channel: str) -> None:
        members = self._directories.members_of(channel)
        ended = self._ends.ended(channel, self._index.senders(channel), members, believe=channel not in self._reopened)
        if self._ended.get(channel, False) != ended:
            self._ended[channel] = ended
            self._directories.channel_changed(channel)

    def _state_of(self, channel: str) -> ChannelState:
        senders, receivers = self._index.counts(channel)
        # While the domain ends, who has left does not come back.
        addresses = self._index.addresses(channel, self._ends.done if self._shutdown is None else None)
        return ChannelState(
            ended=self._ended.get(channel, False), declared_senders=senders, declared_receivers=receivers, receivers=addresses
        )

    def _addresses_changed(self, channels: Iterable[str]) -> None:
        for channel in channels:
            if self._index.addressed(channel) is not None:
                self._directories.channel_changed(channel)


def _same_life(one: Incarnation, other: Incarnation) -> bool:
    return (one.uid, one.start) == (other.uid, other.start)


def _proves(user_id: str, holder: Member) -> bool:
    """Whether a key is its own whose connection has this CURVE key, and not that of `holder`, who announced it as that of an agent behind it.

    Peers know the key; one of them may announce it first after a restart.
    """
    return bool(user_id) and user_id == holder.key != holder.user_id


def _visible(report: Report) -> tuple[object, ...]:
    # Not how many peers it is wired to: with n replicas on a channel each of n changes would be told to n others.
    return (report.phase, *((alias, part.port, part.wired > 0, part.ended) for alias, part in report.channels.items()))


def _ends(report: Report) -> Iterable[tuple[str, bool]]:
    return [(alias, part.ended) for alias, part in report.channels.items()]
