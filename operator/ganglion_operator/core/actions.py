"""What a plan asks for. The engine carries it out; nothing here does I/O."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ganglion_operator.core.kinds import Body, Key, Kind


@dataclass(frozen=True, slots=True)
class Create:
    """POST; the answer AlreadyExists is looked into, never overwritten."""

    kind: Kind
    body: Body


@dataclass(frozen=True, slots=True)
class Apply:
    """Server-side apply of a whole intent. `body` carries `metadata.uid`, so a stranger's object is refused instead of merged into."""

    kind: Kind
    body: Body


@dataclass(frozen=True, slots=True)
class Patch:
    """Merge patch of a few fields, for objects whose whole intent may not be applied (immutable templates)."""

    kind: Kind
    key: Key
    body: Body


@dataclass(frozen=True, slots=True)
class Delete:
    """Deletion of exactly this life of an object.

    Attributes:
        grace: seconds; None for the object's own. 0 removes a pod whose node cannot confirm anything any more.
        why: for the log.
    """

    kind: Kind
    key: Key
    uid: str
    grace: int | None = None
    why: str = ""


Action = Create | Apply | Patch | Delete


@dataclass(frozen=True, slots=True)
class Notice:
    """An Event for people, about the object being reconciled."""

    severity: Literal["Normal", "Warning"]
    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class Settled:
    """A pass that rendered an agent's objects and found all of them in place: as long as nothing of this differs, the next one need not.

    Attributes:
        sources: what was rendered.
        found: identities of what exists.
        code_map: name of the ConfigMap that the pods mount.
    """

    sources: tuple[object, ...]
    found: tuple[object, ...]
    code_map: str | None


@dataclass(frozen=True, slots=True)
class Plan:
    """One pass over one object.

    Attributes:
        actions: in this order.
        status: fields of the status that belong to the operator, to apply when they differ; None to leave it alone.
        notices: Events that go with the status.
        requeue_after: seconds until the next look, although nothing may have happened; None for never.
        settled: for the next pass over the same agent.
    """

    actions: tuple[Action, ...] = ()
    status: Body | None = None
    notices: tuple[Notice, ...] = ()
    requeue_after: float | None = None
    settled: Settled | None = None
