"""One pass over a Channel: it has no pods, only a status."""

from __future__ import annotations

from ganglion.planner import ChannelObserved, channel_status
from ganglion_operator.core.actions import Plan
from ganglion_operator.core.snapshot import Around, ChannelSnapshot

_COUNTERS = ("accepted", "acked", "in_flight", "dead_lettered", "dropped", "delivered", "unaccounted")


def plan_pass(snapshot: ChannelSnapshot, around: Around) -> Plan:
    """The status of one channel."""
    channel = snapshot.channel
    if channel.deleting:
        return Plan()
    status = channel_status(channel, snapshot.plan, ChannelObserved(snapshot.count), around.stamp)
    if snapshot.count is None:
        # A name server that restarts counts from nothing for a moment; what is shown stays until it counts again.
        status = status.model_copy(update={name: getattr(channel.status, name) for name in _COUNTERS})
    return Plan(status=status.to_dict() if status != channel.status else None)
