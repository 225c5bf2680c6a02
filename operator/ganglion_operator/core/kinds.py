"""The kinds that the operator deals with, in one table: API group, version, plural, and which of them it watches."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

from ganglion.api import GROUP, VERSION
from ganglion.api.names import LABEL_CODE, MANAGED_BY

Body = dict[str, Any]
"""A Kubernetes object as JSON."""

LABEL_MANAGED_BY = "app.kubernetes.io/managed-by"
MANAGED = f"{LABEL_MANAGED_BY}={MANAGED_BY}"


class Key(NamedTuple):
    """Identity of an object, and the only thing that a queue holds."""

    kind: str
    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind} {self.namespace}/{self.name}"


@dataclass(frozen=True, slots=True)
class Kind:
    """One resource of the API.

    Attributes:
        selector: label selector of the objects that concern the operator; empty for all.
        watched: whether the store follows it; the others are looked up by name.
        namespaced: False for cluster-scoped ones.
    """

    kind: str
    group: str
    version: str
    plural: str
    selector: str = ""
    watched: bool = False
    namespaced: bool = True

    @property
    def api_version(self) -> str:
        """`apiVersion` of the objects."""
        return f"{self.group}/{self.version}" if self.group else self.version

    def path(self, namespace: str | None = None, name: str | None = None, subresource: str | None = None) -> str:
        """URL path of a collection, an object or its subresource."""
        parts = ["/apis", self.group, self.version] if self.group else ["/api", self.version]
        if namespace is not None and self.namespaced:
            parts += ["namespaces", namespace]
        parts.append(self.plural)
        if name is not None:
            parts.append(name)
        if subresource is not None:
            parts.append(subresource)
        return "/".join(parts)


NAMESERVER = Kind("NameServer", GROUP, VERSION, "nameservers", watched=True)
CHANNEL = Kind("Channel", GROUP, VERSION, "channels", watched=True)
AGENT = Kind("Agent", GROUP, VERSION, "agents", watched=True)
STATEFULSET = Kind("StatefulSet", "apps", "v1", "statefulsets", MANAGED, watched=True)
JOB = Kind("Job", "batch", "v1", "jobs", MANAGED, watched=True)
POD = Kind("Pod", "", "v1", "pods", MANAGED, watched=True)
SERVICE = Kind("Service", "", "v1", "services", MANAGED, watched=True)
DISRUPTION_BUDGET = Kind("PodDisruptionBudget", "policy", "v1", "poddisruptionbudgets", MANAGED, watched=True)
CONFIGMAP = Kind("ConfigMap", "", "v1", "configmaps", LABEL_CODE, watched=True)
SECRET = Kind("Secret", "", "v1", "secrets")
SERVICE_ACCOUNT = Kind("ServiceAccount", "", "v1", "serviceaccounts")
ROLE = Kind("Role", "rbac.authorization.k8s.io", "v1", "roles")
ROLE_BINDING = Kind("RoleBinding", "rbac.authorization.k8s.io", "v1", "rolebindings")
EVENT = Kind("Event", "events.k8s.io", "v1", "events")
LEASE = Kind("Lease", "coordination.k8s.io", "v1", "leases")
NODE = Kind("Node", "", "v1", "nodes", namespaced=False)

KINDS = {
    kind.kind: kind
    for kind in (
        NAMESERVER, CHANNEL, AGENT, STATEFULSET, JOB, POD, SERVICE, DISRUPTION_BUDGET, CONFIGMAP,
        SECRET, SERVICE_ACCOUNT, ROLE, ROLE_BINDING, EVENT, LEASE, NODE,
    )
}  # fmt: skip
WATCHED = tuple(kind for kind in KINDS.values() if kind.watched)
CUSTOM = (NAMESERVER, CHANNEL, AGENT)
