"""Sums of what replicas report, by channel. Pure."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass, field

from msgspec import structs

from ganglion.nameserver.member import SENDING, Member, slot_of
from ganglion.wire.admin import ChannelCount, Domain
from ganglion.wire.control import ChannelReport, Ledger, Report
from ganglion.wiring import BACK

_Counter = tuple[str, str, str]
"""(replica, uid, whose counts they are): the process that counted, or the start of the runtime that reported."""


@dataclass(slots=True)
class _Sums:
    accepted: int = 0
    acked: int = 0
    in_flight: int = 0
    dead_lettered: int = 0
    dropped: int = 0
    redelivered: int = 0
    delivered: int = 0
    failed: int = 0
    by_receiver: dict[str, int] = field(default_factory=dict)
    """Delivered, by slot of a receiving agent: a publication is owed to each."""

    def add(self, report: ChannelReport, sends: bool, slot: str) -> None:
        """Count one alias of one replica."""
        if report.sent is not None:
            sent = report.sent
            self.accepted += sent.accepted
            self.acked += sent.acked
            self.in_flight += sent.in_flight
            self.dead_lettered += sent.dead_lettered
            self.dropped += sent.dropped
            self.redelivered += sent.redelivered
        if not sends:
            self.delivered += report.delivered
            self.failed += report.failed
            self.by_receiver[slot] = self.by_receiver.get(slot, 0) + report.delivered

    def copy(self) -> _Sums:
        return _Sums(
            self.accepted,
            self.acked,
            self.in_flight,
            self.dead_lettered,
            self.dropped,
            self.redelivered,
            self.delivered,
            self.failed,
            dict(self.by_receiver),
        )


MAX_PARKED = 4096
"""Past counters that are kept apart; older ones are summed up."""


class TrafficBook:
    """Live reports plus what processes that are gone had counted last."""

    def __init__(self) -> None:
        self._past: dict[str, _Sums] = {}
        self._parked: OrderedDict[_Counter, dict[str, tuple[str, bool, str, ChannelReport]]] = OrderedDict()

    def retire(self, member: Member) -> None:
        """A lease ended: keep the replica's counts, apart at first, for whoever counted may come back with all of them."""
        for alias, report in member.report.channels.items():
            self._park(member, alias, report)

    def reported(self, member: Member, before: Report) -> None:
        """A member's report replaces `before`.

        Where another process counts from now on, what the earlier one had counted is kept; and a process that comes back (its lease had
        ended, or it has a new sidecar) brings what was kept of it.
        """
        now = member.report.channels
        for alias, report in before.channels.items():
            if alias not in now or now[alias].counter != report.counter:
                self._park(member, alias, report)
        for alias, report in now.items():
            earlier = before.channels.get(alias)
            if earlier is None or earlier.counter != report.counter:
                self._return(_counter(member, report), alias)

    def _park(self, member: Member, alias: str, report: ChannelReport) -> None:
        part = member.granted.get(alias)
        if part is None or not (report.delivered or report.failed or report.sent not in (None, Ledger())):
            return
        counter = _counter(member, report)
        parts = self._parked.setdefault(counter, {})
        self._parked.move_to_end(counter)
        parts[alias] = (part.channel, part.role in SENDING, _receiver(member), _settled(report))
        while len(self._parked) > MAX_PARKED:
            _, parts = self._parked.popitem(last=False)
            for channel, sends, receiver, settled in parts.values():
                self._past.setdefault(channel, _Sums()).add(settled, sends, receiver)

    def _return(self, counter: _Counter, alias: str) -> None:
        parts = self._parked.get(counter)
        if parts is not None:
            parts.pop(alias, None)
            if not parts:
                del self._parked[counter]

    def forget(self, channels: Iterable[str]) -> None:
        """Channels that are declared no more."""
        gone = {name for channel in channels for name in (channel, channel + BACK)}
        for name in gone:
            self._past.pop(name, None)
        for counter, parts in list(self._parked.items()):
            for alias in [alias for alias, (channel, *_) in parts.items() if channel in gone]:
                self._return(counter, alias)

    def base(self) -> dict[str, _Sums]:
        """What replicas that are gone contributed, by channel; a copy that `count` adds to."""
        sums = {channel: past.copy() for channel, past in self._past.items()}
        for parts in self._parked.values():
            for channel, sends, receiver, report in parts.values():
                sums.setdefault(channel, _Sums()).add(report, sends, receiver)
        return sums

    @staticmethod
    def count(channel: str, base: dict[str, _Sums], domain: Domain, members: Iterable[Member], *, ended: bool) -> ChannelCount:
        """Totals of one channel over `members` (those that take part in it) and `base`."""
        sums = base.get(channel) or _Sums()
        senders: set[str] = set()
        receivers: set[str] = set()
        for member in members:
            for part, report in member.parts_of(channel):
                sends = part.role in SENDING
                (senders if sends else receivers).add(member.replica)
                sums.add(report, sends, _receiver(member))
        return ChannelCount(
            name=channel,
            senders=len(senders),
            receivers=len(receivers),
            accepted=sums.accepted,
            acked=sums.acked,
            in_flight=sums.in_flight,
            dead_lettered=sums.dead_lettered,
            dropped=sums.dropped,
            redelivered=sums.redelivered,
            delivered=sums.delivered,
            failed=sums.failed,
            unaccounted=_unaccounted(channel, domain, sums),
            ended=ended,
        )


def both_ways(one: ChannelCount, back: ChannelCount) -> ChannelCount:
    """Totals of a channel from those of its two directions; it has ended when both have."""
    sums = {name: getattr(one, name) + getattr(back, name) for name in one.__struct_fields__ if name not in ("name", "ended")}
    return structs.replace(one, **sums, ended=one.ended and back.ended)


def _settled(report: ChannelReport) -> ChannelReport:
    """What a sender had in flight went with it, and nobody can tell how much of that arrived: it counts as handed over.

    So the sums balance, and the loss of a best-effort channel is never shown too small.
    """
    if report.sent is None or not report.sent.in_flight:
        return report
    sent = structs.replace(report.sent, acked=report.sent.acked + report.sent.in_flight, in_flight=0)
    return structs.replace(report, sent=sent)


def _counter(member: Member, report: ChannelReport) -> _Counter:
    return member.replica, member.incarnation.uid, report.counter or f"runtime {member.incarnation.start}"


def _receiver(member: Member) -> str:
    return f"{member.agent}/{slot_of(member.agent, member.replica)}"


def _unaccounted(channel: str, domain: Domain, sums: _Sums) -> int:
    declared = domain.channels.get(channel)
    if declared is None or declared.delivery != "BestEffort":
        return 0
    owed = sums.accepted - sums.dropped
    if declared.pattern in ("PubSub", "SyncPub"):
        return sum(max(0, owed - delivered) for delivered in sums.by_receiver.values())
    return max(0, owed - sums.delivered)
