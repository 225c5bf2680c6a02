"""The three kinds: models, rules, CRDs, names. Pure."""

from ganglion.api.agent import Agent, AgentChannel, AgentSpec, AgentStatus
from ganglion.api.base import API_VERSION, GROUP, VERSION, Condition, Metadata, Ref
from ganglion.api.channel import ROLES, SENDING, Channel, ChannelSpec, ChannelStatus
from ganglion.api.manifest import ManifestError, Problem, load_object
from ganglion.api.nameserver import NameServer, NameServerSpec, NameServerStatus

__all__ = [
    "API_VERSION",
    "GROUP",
    "ROLES",
    "SENDING",
    "VERSION",
    "Agent",
    "AgentChannel",
    "AgentSpec",
    "AgentStatus",
    "Channel",
    "ChannelSpec",
    "ChannelStatus",
    "Condition",
    "ManifestError",
    "Metadata",
    "NameServer",
    "NameServerSpec",
    "NameServerStatus",
    "Problem",
    "Ref",
    "load_object",
]
