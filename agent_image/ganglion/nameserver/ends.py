"""When a channel has ended: every declared replica of every sending agent has said so. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ganglion.nameserver.member import SENDING, Member, slot_of
from ganglion.wire.admin import DeclaredAgent


class EndBook:
    """Remembers which replicas completed; everything else follows from live reports and the declared domain."""

    def __init__(self) -> None:
        self._completed: dict[str, set[str]] = {}

    def completed(self, member: Member) -> None:
        """A `run: Once` replica said goodbye after its work."""
        self._completed.setdefault(member.agent, set()).add(slot_of(member.agent, member.replica))

    def forget(self, agents: Iterable[str]) -> None:
        """Agents that are declared no more: their name may come back with other work."""
        for agent in agents:
            self._completed.pop(agent, None)

    def done(self, agent: str) -> tuple[int, ...]:
        """Indices of an agent's replicas that completed."""
        return tuple(sorted(int(slot) for slot in self._completed.get(agent, ()) if slot.isdecimal()))

    def returned(self, member: Member) -> bool:
        """A replica of a slot that completed lives again (the Job was made anew): its work is open again. Whether it was completed."""
        slots, slot = self._completed.get(member.agent, set()), slot_of(member.agent, member.replica)
        known = slot in slots
        slots.discard(slot)
        return known

    def ended(self, channel: str, senders: Sequence[DeclaredAgent], members: Iterable[Member], *, believe: bool = True) -> bool:
        """Whether the channel has ended.

        Args:
            channel: name.
            senders: agents that are declared to send on it.
            members: live members that take part in the channel, in any role.
            believe: whether receivers that saw the end teach.

        A receiver that saw the end teaches a restarted name server, which cannot know senders that completed and went; a live sender
        that has not ended outweighs it.
        """
        open_slots: dict[str, set[str]] = {}
        ended_slots: dict[str, set[str]] = {}
        taught = False
        for member in members:
            for part, report in member.parts_of(channel):
                if part.role in SENDING:
                    slots = ended_slots if report.ended else open_slots
                    slots.setdefault(member.agent, set()).add(slot_of(member.agent, member.replica))
                elif report.ended:
                    taught = believe
        if open_slots:
            return False
        if not senders:
            return taught
        wanted = sum(agent.replicas for agent in senders)
        said = all(self._said(agent, ended_slots.get(agent.name, set())) for agent in senders)
        return taught or (wanted > 0 and said)

    def _said(self, agent: DeclaredAgent, ended: set[str]) -> bool:
        done = ended | self._completed.get(agent.name, set())
        # Slots above the declared number are replicas that are being scaled down.
        counted = sum(1 for slot in done if not slot.isdecimal() or int(slot) < agent.replicas)
        # The source's count is no set of slots: it cannot be added to ours, only be larger.
        return max(counted, agent.completed) >= agent.replicas
