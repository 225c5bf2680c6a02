"""Pure planning: (NameServer, Channels, Agents, what exists) → conditions, wiring documents, intent. Both worlds use it."""

from ganglion.planner.agents import AgentPlan, declared_roles, plan_agent, pod_grace
from ganglion.planner.channels import ChannelPlan, plan_channel
from ganglion.planner.copies import CopiesPlan, allowed_templates, copy_of, plan_copies, template_problem
from ganglion.planner.domain import DomainView, NameServerAddress
from ganglion.planner.status import AgentObserved, ChannelObserved, NameServerObserved, agent_status, channel_status, name_server_status
from ganglion.planner.verdicts import Verdict, merge_conditions

__all__ = [
    "AgentObserved",
    "AgentPlan",
    "ChannelObserved",
    "ChannelPlan",
    "CopiesPlan",
    "DomainView",
    "NameServerAddress",
    "NameServerObserved",
    "Verdict",
    "agent_status",
    "allowed_templates",
    "channel_status",
    "copy_of",
    "declared_roles",
    "merge_conditions",
    "name_server_status",
    "plan_agent",
    "plan_channel",
    "plan_copies",
    "pod_grace",
    "template_problem",
]
