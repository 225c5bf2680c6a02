"""Create, adopt or refuse: what to do with an object that should be ours."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ganglion.api import Agent, NameServer
from ganglion_operator.core.actions import Action, Apply, Create
from ganglion_operator.core.drift import drifted, stamp
from ganglion_operator.core.kinds import Body, Kind
from ganglion_operator.core.meta import controller_of

RECHECK_SECONDS = 30.0
"""How soon an object in conflict is looked at again: the stranger's object need not be one that the operator watches."""


@dataclass(frozen=True, slots=True)
class Ensured:
    """Outcome for one object.

    Attributes:
        action: what to do now, if anything.
        conflict: message when somebody else's object has the name.
        waiting: whether an object of a former life of the owner still has the name; the garbage collector removes it.
    """

    action: Action | None = None
    conflict: str | None = None
    waiting: bool = False


def owned_by(body: Body | None, owner: Agent | NameServer) -> bool:
    """Whether `body` exists and this life of `owner` controls it."""
    reference = controller_of(body) if body is not None else None
    return reference is not None and reference.get("uid") == owner.metadata.uid


def ensure(
    kind: Kind,
    desired: Body,
    owner: Agent | NameServer,
    existing: Body | None,
    alive: Callable[[Body], bool],
    *,
    immutable: bool = False,
) -> Ensured:
    """Bring one object to `desired`.

    Args:
        desired: as rendered, without stamp.
        existing: the object of that name (trimmed), whoever made it.
        alive: tells whether the owner that a reference names still exists.
        immutable: never applied again once it exists.
    """
    stamped = stamp(desired)
    if existing is None:
        return Ensured(Create(kind, stamped))
    reference = controller_of(existing)
    name = desired["metadata"]["name"]
    if reference is None:
        return Ensured(conflict=f"{kind.kind} {name!r} exists and belongs to nobody; delete it or choose another name")
    if reference.get("uid") != owner.metadata.uid:
        if alive(reference):
            return Ensured(
                conflict=f"{kind.kind} {name!r} belongs to {reference.get('kind')} {reference.get('name')!r}; choose another name"
            )
        return Ensured(waiting=True)
    if existing["metadata"].get("deletionTimestamp"):
        return Ensured(waiting=True)
    if immutable or not drifted(stamped, existing):
        return Ensured()
    identified = {**stamped, "metadata": {**stamped["metadata"], "uid": existing["metadata"]["uid"]}}
    return Ensured(Apply(kind, identified))
