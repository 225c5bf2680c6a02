"""Labels, annotations, ports and names of what the operator makes. Nobody else spells them out."""

from __future__ import annotations

from ganglion.api.base import GROUP

LABEL_NAMESERVER = f"{GROUP}/nameserver"
LABEL_AGENT = f"{GROUP}/agent"
LABEL_CODE = f"{GROUP}/code"
LABEL_TEMPLATE = f"{GROUP}/template"
"""Of a copy: the Agent that it was made from."""
ANNOTATION_INTENT = f"{GROUP}/intent-hash"
ANNOTATION_WIRING = f"{GROUP}/wiring"
FIELD_MANAGER = "ganglion-operator"
FIELD_MANAGER_NAMESERVER = "ganglion-nameserver"
MANAGED_BY = "ganglion-operator"

NAMESERVER_PORT = 7500
HEALTH_PORT = 7501
AD_HOC_PORT = 7502
AD_HOC_RELAY_PORT = 7503
DATA_PORT_BASE = 7600
DATA_PORT_COUNT = 64
AGENT_CONTAINER = "agent"
RUNTIME_CONTAINER = "runtime"
USER_ID = 65532
"""Numeric non-root user of our images, also the fsGroup of the shared ipc directory."""


def agents_service(nameserver: str) -> str:
    """Headless Service that gives the agents' pods stable names."""
    return f"{nameserver}-agents"


def nameserver_account(nameserver: str) -> str:
    """ServiceAccount, Role and RoleBinding of a name server."""
    return f"{nameserver}-nameserver"


def token_audience(namespace: str, nameserver_uid: str, agent: str) -> str:
    """Audience of a join token: good for one agent of one life of one NameServer."""
    return f"{GROUP.split('.', 1)[0]}:{namespace}/{nameserver_uid}/{agent}"
