"""The permissions that the operator uses and those that it grants. The chart's roles are compared with this table."""

from __future__ import annotations

from dataclasses import dataclass

from ganglion.api import GROUP
from ganglion_operator.core.kinds import (
    AGENT,
    CHANNEL,
    CONFIGMAP,
    DISRUPTION_BUDGET,
    EVENT,
    JOB,
    LEASE,
    NAMESERVER,
    NODE,
    POD,
    ROLE,
    ROLE_BINDING,
    SECRET,
    SERVICE,
    SERVICE_ACCOUNT,
    STATEFULSET,
    Body,
    Kind,
)


@dataclass(frozen=True, slots=True)
class Rule:
    """Verbs on one resource of one group.

    Attributes:
        own: the rule is about the object of the name server's own name alone.
    """

    group: str
    resource: str
    verbs: tuple[str, ...]
    own: bool = False

    def render(self, name: str) -> Body:
        """The rule as a Role has it; `name` is the object that `own` means."""
        body: Body = {"apiGroups": [self.group], "resources": [self.resource], "verbs": list(self.verbs)}
        return {**body, "resourceNames": [name]} if self.own else body


def _on(kind: Kind, *verbs: str, subresource: str = "") -> Rule:
    return Rule(kind.group, f"{kind.plural}/{subresource}" if subresource else kind.plural, verbs)


_READ = ("get", "list", "watch")
_MAKE = ("get", "create", "patch")
_MAKE_WATCHED = ("get", "list", "watch", "create", "patch")

NAMESERVER_RULES: tuple[Rule, ...] = (
    _on(AGENT, *_READ),
    _on(CHANNEL, *_READ),
    _on(NAMESERVER, *_READ),
    Rule(GROUP, f"{NAMESERVER.plural}/status", ("get", "patch"), own=True),
    _on(EVENT, "create", "patch"),
)
"""What a name server may do in its namespace. The operator must hold all of it, or the API server refuses the Role."""

NAMESPACED_RULES: tuple[Rule, ...] = (
    _on(NAMESERVER, *_READ),
    _on(NAMESERVER, "get", "patch", subresource="status"),
    # Owner references with blockOwnerDeletion: OwnerReferencesPermissionEnforcement asks for this.
    _on(NAMESERVER, "update", subresource="finalizers"),
    _on(CHANNEL, *_READ),
    _on(CHANNEL, "get", "patch", subresource="status"),
    # Copies of templates.
    _on(AGENT, *_MAKE_WATCHED, "delete"),
    _on(AGENT, "get", "patch", subresource="status"),
    _on(AGENT, "update", subresource="finalizers"),
    _on(STATEFULSET, *_MAKE_WATCHED),
    _on(JOB, *_MAKE_WATCHED, "delete"),
    _on(POD, *_READ, "delete"),
    _on(SERVICE, *_MAKE_WATCHED),
    _on(CONFIGMAP, *_MAKE_WATCHED, "delete"),
    _on(DISRUPTION_BUDGET, *_MAKE_WATCHED, "delete"),
    _on(SECRET, "get", "create"),
    _on(SERVICE_ACCOUNT, *_MAKE),
    _on(ROLE, *_MAKE),
    _on(ROLE_BINDING, *_MAKE),
    _on(EVENT, "create", "patch"),
)
"""In every namespace that the operator serves."""

OWN_NAMESPACE_RULES: tuple[Rule, ...] = (_on(LEASE, "get", "create", "patch"),)
"""In the operator's own namespace: leader election."""

CLUSTER_RULES: tuple[Rule, ...] = (_on(NODE, "get"),)
"""Cluster-wide, optional: without it a pod on a lost node is replaced later."""

NON_RESOURCE_URLS: tuple[str, ...] = ("/.well-known/openid-configuration", "/openid/v1/jwks")
"""Read to verify join tokens offline. Kubernetes grants it to all service accounts by default
(ClusterRole system:service-account-issuer-discovery)."""
