"""The channels that a role is wired to: itself, or two directions (of a Pair, of Dealers and Routers, of a SyncPub). Pure."""

from __future__ import annotations

from dataclasses import dataclass

from ganglion.api.channel import Role as DeclaredRole
from ganglion.wiring import BACK, INWARD
from ganglion.wiring.document import Pattern, Role


@dataclass(frozen=True, slots=True)
class Leg:
    """One direction.

    Attributes:
        pattern: that it is carried as.
        role: that the agent takes in it.
        peer_role: that the other side takes.
        channel_suffix, alias_suffix: of the names in the wiring document.
        addressed: each message names the replica that it is for.
    """

    pattern: Pattern
    role: Role
    peer_role: Role
    channel_suffix: str = ""
    alias_suffix: str = ""
    addressed: bool = False


_BACK = Leg("PushPull", "Push", "Pull", channel_suffix=BACK)
_FROM_BACK = Leg("PushPull", "Pull", "Push", channel_suffix=BACK, alias_suffix=INWARD)
_INWARD = Leg("PushPull", "Pull", "Push", alias_suffix=INWARD)

_LEGS: dict[DeclaredRole, tuple[Leg, ...]] = {
    "Push": (Leg("PushPull", "Push", "Pull"),),
    "Pull": (Leg("PushPull", "Pull", "Push"),),
    "Pub": (Leg("PubSub", "Pub", "Sub"),),
    "Sub": (Leg("PubSub", "Sub", "Pub"),),
    "Req": (Leg("RequestReply", "Req", "Rep"),),
    "Rep": (Leg("RequestReply", "Rep", "Req"),),
    "Binder": (Leg("PushPull", "Push", "Pull"), _FROM_BACK),
    "Connector": (_BACK, _INWARD),
    "Router": (Leg("PushPull", "Push", "Pull", addressed=True), _FROM_BACK),
    "Dealer": (_BACK, _INWARD),
    "SyncPub": (Leg("PubSub", "Pub", "Sub"), Leg("RequestReply", "Rep", "Req", channel_suffix=BACK, alias_suffix=INWARD)),
    "SyncSub": (Leg("RequestReply", "Req", "Rep", channel_suffix=BACK), Leg("PubSub", "Sub", "Pub", alias_suffix=INWARD)),
}


def legs(role: DeclaredRole) -> tuple[Leg, ...]:
    """What a role is wired to; of two directions the sending one is first."""
    return _LEGS[role]
