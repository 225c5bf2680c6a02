"""Copies of templates as Agents: made, and deleted when they are asked for no more. What is allowed is the planner's to say."""

from __future__ import annotations

from ganglion.api import Agent, NameServer
from ganglion.api.names import LABEL_TEMPLATE
from ganglion.planner import CopiesPlan, plan_copies
from ganglion_operator.core.actions import Action, Create, Delete
from ganglion_operator.core.kinds import AGENT, Body, Key
from ganglion_operator.core.meta import controller_of, is_name_server, owner_reference
from ganglion_operator.core.snapshot import NameServerSnapshot


def is_copy(metadata: Body) -> bool:
    """Whether a NameServer controls the Agent, so that it ends with it whatever `deletionPolicy` says."""
    reference = controller_of({"metadata": metadata})
    return reference is not None and is_name_server(reference)


def plan(snapshot: NameServerSnapshot) -> tuple[list[Action], tuple[str, ...]]:
    """(what to do, why something that is asked for is not made)."""
    server = snapshot.server
    existing = {body["metadata"]["name"]: body for body in snapshot.copies}
    templates = {name: str((body["metadata"].get("labels") or {}).get(LABEL_TEMPLATE)) for name, body in existing.items()}
    # A list that is not known is not empty: nobody's copy ends for it.
    found: CopiesPlan = plan_copies(server, snapshot.wanted or (), templates, snapshot.find, snapshot.taken)
    actions: list[Action] = []
    for name in found.end if snapshot.wanted is not None else ():
        metadata = existing[name]["metadata"]
        if not metadata.get("deletionTimestamp"):
            key = Key(AGENT.kind, metadata["namespace"], name)
            actions.append(Delete(AGENT, key, metadata["uid"], None, "no program asks for this copy, or spec.templates does not allow it"))
    # Last, because the API server may refuse one: a program must not thereby keep others from their end.
    actions += [Create(AGENT, _body(server, agent)) for agent in found.make]
    return actions, found.refused


def _body(server: NameServer, agent: Agent) -> Body:
    metadata: Body = {
        "name": agent.name,
        "namespace": server.namespace,
        "labels": agent.metadata.labels,
        "ownerReferences": [owner_reference(server)],
    }
    return {"apiVersion": AGENT.api_version, "kind": AGENT.kind, "metadata": metadata, "spec": agent.spec.to_dict()}
