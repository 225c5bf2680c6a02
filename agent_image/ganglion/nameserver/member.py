"""One live replica as the registry sees it."""

from __future__ import annotations

from dataclasses import dataclass, field

from ganglion.wire.admin import Domain
from ganglion.wire.control import ChannelReport, Incarnation, Part, Report
from ganglion.wire.replicas import slot_of

__all__ = ["SENDING", "Member", "slot_of"]

SENDING = frozenset({"Push", "Pub", "Req"})
"""Roles that send first; as in `ganglion.api.channel.SENDING`, without importing the models."""


@dataclass(slots=True, eq=False)
class Member:
    """State of a lease.

    Attributes:
        session: routing id of its connection.
        user_id: CURVE key of its connection; empty with `security: None`.
        key: public key of its data plane; empty while that is not known yet.
        lease_until: monotonic seconds.
        claimed: what its wiring says; None until its first beat.
        granted: those of `claimed` that were declared at some time while it lived.
        seq: last directory sequence sent.
        in_step: a snapshot was sent, deltas may follow.
        told: last command sent.
        log_level: that of its agent, as it was declared last; None: not known yet.
    """

    agent: str
    replica: str
    incarnation: Incarnation
    host: str
    key: str
    session: bytes
    user_id: str
    lease_until: float
    report: Report = field(default_factory=Report)
    claimed: dict[str, Part] | None = None
    granted: dict[str, Part] = field(default_factory=dict)
    seq: int = 0
    in_step: bool = False
    told: str = ""
    log_level: str | None = None

    @property
    def roles(self) -> frozenset[tuple[str, str]]:
        """(channel, role) pairs it takes part in."""
        return frozenset((part.channel, part.role) for part in self.granted.values())

    def parts_of(self, channel: str) -> list[tuple[Part, ChannelReport]]:
        """Its aliases on one channel with what it reports of them."""
        return [(part, self.report.channels.get(alias, _NOTHING)) for alias, part in self.granted.items() if part.channel == channel]

    def grant(self, domain: Domain) -> bool:
        """Take over what is declared now of what it claims; whether anything was added.

        Nothing is taken back: a replica of an earlier intent keeps its links until a rollout replaces it.
        """
        declared = domain.agents.get(self.agent)
        if declared is None or self.claimed is None:
            return False
        fresh = {
            alias: part
            for alias, part in self.claimed.items()
            if alias not in self.granted and part.role in declared.roles.get(part.channel, ())
        }
        self.granted.update(fresh)
        return bool(fresh)


_NOTHING = ChannelReport()
