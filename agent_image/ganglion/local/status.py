"""From processes and the name server's counts to the same status that a cluster would show."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from ganglion.api.nameserver import AgentCount, ChannelCount, Copy
from ganglion.local.child import Child
from ganglion.local.desired import Desired
from ganglion.local.group import Group
from ganglion.local.replica import Replica
from ganglion.planner import ChannelObserved, NameServerObserved, agent_status, channel_status, merge_conditions, name_server_status
from ganglion.wire import admin


def refresh(desired: Desired, groups: Mapping[str, Group], server: NameServerObserved, counts: admin.Status | None) -> None:
    """Write the status of every object of the bundle.

    Args:
        counts: the name server's last answer; None before the first.
    """
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    bundle = desired.bundle
    channels = {item.name: ChannelCount(**_fields(item)) for item in counts.channels} if counts is not None else {}
    for name, agent in bundle.agents.items():
        group = groups.get(name)
        if group is not None:
            status = agent_status(agent, desired.plans[name], group.observed(), now)
            bundle.agents[name] = agent.model_copy(update={"status": status})
    for name, channel in bundle.channels.items():
        observed = ChannelObserved(channels.get(name))
        bundle.channels[name] = channel.model_copy(update={"status": channel_status(channel, desired.channel_plans[name], observed, now)})
    item = desired.name_server
    generation = item.metadata.generation
    bundle.name_servers[item.name] = item.model_copy(
        update={
            "status": item.status.model_copy(
                update={
                    "observed_generation": generation,
                    "conditions": merge_conditions(item.status.conditions, name_server_status(item, server, now), generation, now),
                    "endpoint": counts.endpoint if counts is not None else None,
                    "members": len(counts.members) if counts is not None and server.ready else 0,
                    "agents": tuple(AgentCount(**_fields(count)) for count in counts.agents) if counts is not None else (),
                    "channels": tuple(channels.values()),
                    "copies": tuple(Copy(**_fields(copy)) for copy in counts.copies) if counts is not None else (),
                }
            )
        }
    )


def _fields(count: admin.ChannelCount | admin.AgentCount | admin.Copy) -> dict[str, Any]:
    return {field: getattr(count, field) for field in count.__struct_fields__}


def replica_row(replica: Replica, member: admin.MemberState | None) -> dict[str, Any]:
    """One replica, for people and programs."""
    return {
        "name": replica.name,
        "agent": replica.seat.agent.name,
        "phase": replica.phase.value,
        "ready": replica.ready,
        "pid": replica.agent.pid,
        "state": replica.agent.state.value,
        "exitCode": replica.agent.exit_code,
        "restarts": replica.restarts,
        "sidecarPid": replica.sidecar.pid if replica.sidecar is not None else None,
        "sidecarState": replica.sidecar.state.value if replica.sidecar is not None else None,
        "uid": replica.seat.uid,
        "start": member.start if member is not None else None,
        "member": member.phase if member is not None else None,
        "message": (member.message if member is not None else "") or (replica.problem.message if replica.problem is not None else ""),
    }


def server_row(child: Child | None, ready: bool) -> dict[str, Any]:
    """The name server's process."""
    if child is None:
        return {"pid": None, "state": "New", "restarts": 0, "ready": False}
    return {"pid": child.pid, "state": child.state.value, "restarts": child.restarts, "ready": ready}
