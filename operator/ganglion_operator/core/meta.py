"""Names, labels and owner references of what the operator makes. One file, so that selectors and objects cannot disagree."""

from __future__ import annotations

from ganglion.api import Agent, NameServer
from ganglion.api.names import LABEL_AGENT, LABEL_NAMESERVER, MANAGED_BY, nameserver_account
from ganglion_operator.core.kinds import AGENT, LABEL_MANAGED_BY, NAMESERVER, Body, Key, Kind

LABEL_COMPONENT = "app.kubernetes.io/component"
COMPONENT_AGENT = "agent"
COMPONENT_NAMESERVER = "nameserver"


def account(nameserver: str) -> str:
    """ServiceAccount, Role and RoleBinding of a name server."""
    return nameserver_account(nameserver)


def token_keys(nameserver: str) -> str:
    """ConfigMap with the public keys of the API server's token signer."""
    return f"{nameserver}-token-keys"


def nameserver_selector(nameserver: str) -> dict[str, str]:
    """Labels that select the name server's own pod."""
    return {LABEL_NAMESERVER: nameserver, LABEL_COMPONENT: COMPONENT_NAMESERVER}


def agent_selector(agent: str) -> dict[str, str]:
    """Labels that select an agent's pods."""
    return {LABEL_AGENT: agent}


def _common(instance: str, component: str) -> dict[str, str]:
    return {
        "app.kubernetes.io/name": "ganglion",
        "app.kubernetes.io/instance": instance,
        LABEL_COMPONENT: component,
        LABEL_MANAGED_BY: MANAGED_BY,
    }


def nameserver_labels(server: NameServer) -> dict[str, str]:
    """Labels of everything that belongs to a name server itself."""
    return {**_common(server.name, COMPONENT_NAMESERVER), LABEL_NAMESERVER: server.name}


def agent_labels(agent: Agent) -> dict[str, str]:
    """Labels of everything that belongs to an agent."""
    return {
        **_common(agent.name, COMPONENT_AGENT),
        LABEL_NAMESERVER: agent.spec.name_server_ref.name,
        LABEL_AGENT: agent.name,
    }


def owner_reference(owner: Agent | NameServer, *, controller: bool = True) -> Body:
    """Reference that makes the garbage collector delete the object with its owner, and the owner wait for it in a foreground deletion."""
    kind = AGENT if isinstance(owner, Agent) else NAMESERVER
    reference: Body = {
        "apiVersion": kind.api_version,
        "kind": kind.kind,
        "name": owner.name,
        "uid": owner.metadata.uid,
        "blockOwnerDeletion": True,
    }
    return {**reference, "controller": True} if controller else reference


def made(kind: Kind, owner: Agent | NameServer, name: str, *, annotations: dict[str, str] | None = None, **rest: object) -> Body:
    """A new object that belongs to `owner`."""
    labels = agent_labels(owner) if isinstance(owner, Agent) else nameserver_labels(owner)
    metadata: Body = {
        "name": name,
        "namespace": owner.namespace,
        "labels": labels,
        "ownerReferences": [owner_reference(owner)],
    }
    if annotations:
        metadata["annotations"] = annotations
    return {"apiVersion": kind.api_version, "kind": kind.kind, "metadata": metadata, **rest}


def owner_key(kind: Kind, body: Body) -> Key | None:
    """Key of the object whose reconciliation looks at `body`, told by labels: they outlive owner references that point to a former life."""
    metadata = body["metadata"]
    labels = metadata.get("labels") or {}
    namespace = metadata.get("namespace", "")
    if kind.kind == AGENT.kind:
        # A copy is the only Agent that its NameServer controls.
        reference = controller_of(body) or {}
        return Key(NAMESERVER.kind, namespace, str(reference.get("name"))) if is_name_server(reference) else None
    if kind.kind in ("NameServer", "Channel") or labels.get(LABEL_MANAGED_BY) != MANAGED_BY:
        return None
    if agent := labels.get(LABEL_AGENT):
        return Key("Agent", namespace, agent)
    if nameserver := labels.get(LABEL_NAMESERVER):
        return Key("NameServer", namespace, nameserver)
    return None


def is_name_server(reference: Body) -> bool:
    """Whether an owner reference is to a NameServer of ours, in any version: other groups may have a kind of that name."""
    group = str(reference.get("apiVersion")).partition("/")[0]
    return group == NAMESERVER.group and reference.get("kind") == NAMESERVER.kind


def controller_of(body: Body) -> Body | None:
    """The controlling owner reference."""
    return next((ref for ref in body["metadata"].get("ownerReferences") or () if ref.get("controller")), None)
