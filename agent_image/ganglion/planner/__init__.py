"""Pure planning: (NameServer, Channels, Agents, what exists) → conditions, wiring documents, intent. Both worlds use it."""

from ganglion.planner.agents import AgentPlan, declared_roles, plan_agent, pod_grace
from ganglion.planner.channels import ChannelPlan, plan_channel
from ganglion.planner.domain import DomainView, NameServerAddress
from ganglion.planner.status import AgentObserved, ChannelObserved, NameServerObserved, agent_status, channel_status, name_server_status
from ganglion.planner.verdicts import Verdict, merge_conditions

__all__ = [
    "AgentObserved",
    "AgentPlan",
    "ChannelObserved",
    "ChannelPlan",
    "DomainView",
    "NameServerAddress",
    "NameServerObserved",
    "Verdict",
    "agent_status",
    "channel_status",
    "declared_roles",
    "merge_conditions",
    "name_server_status",
    "plan_agent",
    "plan_channel",
    "pod_grace",
]
