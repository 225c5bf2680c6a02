"""Which keys a change concerns: an object's own, its owner's, and those that refer to it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from typing import Any

from ganglion.api.names import LABEL_CODE
from ganglion_operator.core.drift import identity
from ganglion_operator.core.kinds import Body, Key
from ganglion_operator.core.rollout import active, intent_of, ready
from ganglion_operator.core.trouble import trouble
from ganglion_operator.engine.store import Change, Entry


def _name(value: Any) -> str | None:
    name = value.get("name") if isinstance(value, dict) else None
    return name if isinstance(name, str) else None


def references(kind: str, namespace: str, spec: Body) -> set[Key]:
    """Objects that a spec names. It looks at what the API server stored, whether or not this version can parse all of it."""
    found = {("NameServer", _name(spec.get("nameServerRef")))}
    if kind == "Channel":
        found.add(("Channel", _name(spec.get("deadLetter"))))
    if kind == "NameServer":
        templates = spec.get("templates")
        found.update(("Agent", _name(template)) for template in (templates if isinstance(templates, list) else ()))
    if kind == "Agent":
        channels = spec.get("channels")
        for channel in channels if isinstance(channels, list) else ():
            found.add(("Channel", _name(channel.get("channelRef")) if isinstance(channel, dict) else None))
        code = spec.get("code")
        found.add(("ConfigMap", _name(code.get("configMapRef")) if isinstance(code, dict) else None))
    return {Key(target, namespace, name) for target, name in found if name}


def intent_changed(change: Change) -> bool:
    """Whether others must look again: not for a change of status or labels alone."""
    old, new = change.old, change.new
    if old is None or new is None or old.uid != new.uid:
        return True
    before, after = old.body["metadata"], new.body["metadata"]
    return bool(
        before.get("generation") != after.get("generation")
        or before.get("deletionTimestamp") != after.get("deletionTimestamp")
        or _address(old) != _address(new)
        or old.body.get("contentHash") != new.body.get("contentHash")
    )


def _address(entry: Entry) -> tuple[Any, ...]:
    """What agents read of a NameServer's status."""
    if entry.key.kind != "NameServer":
        return ()
    status = entry.body.get("status") or {}
    return status.get("endpoint"), status.get("publicKey")


def wishes_changed(change: Change) -> bool:
    """Whether a name server asks for other copies than before."""
    before, after = ((entry.body.get("status") or {}).get("copies") if entry is not None else None for entry in (change.old, change.new))
    return bool(before != after)


def _labels(entry: Entry) -> Any:
    return entry.body["metadata"].get("labels")


def _counts(entry: Entry | None, field: str) -> dict[str, Body]:
    status = (entry.body.get("status") or {}) if entry is not None else {}
    return {item["name"]: item for item in status.get(field) or ()}


def counted(change: Change) -> Iterator[Key]:
    """Agents and Channels whose counts in a NameServer's status changed."""
    for field, kind in (("agents", "Agent"), ("channels", "Channel")):
        before, after = _counts(change.old, field), _counts(change.new, field)
        for name in before.keys() | after.keys():
            if before.get(name) != after.get(name):
                yield Key(kind, change.key.namespace, name)


CHILD_SECONDS = 0.1
"""A workload and its pods change several times in a row: one look at their owner is enough for all of it."""
NUMBERS_SECONDS = 1.0
"""The same for what changes numbers only."""


def _pod_news(pod: Body) -> tuple[Any, ...]:
    """What an owner must act on, or tell at once."""
    metadata = pod["metadata"]
    gone = metadata.get("deletionTimestamp")
    return ready(pod), gone, pod["spec"].get("nodeName") if gone else None, trouble((pod,))


def _seen(body: Body) -> bool:
    """Whether a StatefulSet's controller knows its latest intent: old pods may be deleted then."""
    return bool((body.get("status") or {}).get("observedGeneration") == body["metadata"].get("generation"))


def owner_delay(change: Change) -> float | None:
    """Seconds within which an owner must look at a change of what it owns; None when the change means nothing to it."""
    old, new = change.old, change.new
    if old is None and new is not None and change.key.kind in ("Pod", "StatefulSet"):
        # It asked for it itself, and waits for it to become ready.
        quiet = change.key.kind == "StatefulSet" or _pod_news(new.body) == (False, None, None, None)
        return NUMBERS_SECONDS if quiet else CHILD_SECONDS
    if old is None or new is None or old.uid != new.uid or old.owner != new.owner:
        return CHILD_SECONDS
    match change.key.kind:
        case "Agent":
            # A copy: what its NameServer looks at is whether it is there, and of which template.
            return CHILD_SECONDS if intent_changed(change) or _labels(old) != _labels(new) else None
        case "Pod":
            if _pod_news(old.body) != _pod_news(new.body):
                return CHILD_SECONDS
            counted = [(active(entry.body), intent_of(entry.body), entry.body["metadata"].get("labels")) for entry in (old, new)]
            return NUMBERS_SECONDS if counted[0] != counted[1] else None
        case "StatefulSet":
            if identity(old.body) == identity(new.body) and _seen(old.body) == _seen(new.body):
                return None
            # A new one has no old pods.
            return NUMBERS_SECONDS if new.body["metadata"].get("generation") == 1 else CHILD_SECONDS
    return CHILD_SECONDS


class Relations:
    """Reverse index of references."""

    def __init__(self) -> None:
        self._forward: dict[Key, set[Key]] = {}
        self._reverse: dict[Key, set[Key]] = defaultdict(set)

    def referrers(self, key: Key) -> set[Key]:
        """Keys whose specs name `key`."""
        return set(self._reverse.get(key, ()))

    def _update(self, change: Change) -> set[Key]:
        """Take in the new references; returns old and new ones."""
        old = self._forward.pop(change.key, set())
        new = references(change.key.kind, change.key.namespace, change.new.body["spec"]) if change.new is not None else set()
        for target in old - new:
            self._reverse[target].discard(change.key)
            if not self._reverse[target]:
                del self._reverse[target]
        for target in new - old:
            self._reverse[target].add(change.key)
        if new:
            self._forward[change.key] = new
        return old | new

    def concerned(self, change: Change) -> set[Key]:
        """Keys to look at after a change."""
        key = change.key
        keys: set[Key] = set()
        for entry in (change.old, change.new):
            if entry is not None and entry.owner is not None:
                keys.add(entry.owner)
        if key.kind in ("NameServer", "Channel", "Agent"):
            keys.add(key)
            touched = self._update(change)
            if key.kind == "NameServer":
                keys.update(counted(change))
            if intent_changed(change):
                keys |= self.referrers(key)
                # Channels count their participants, and dead letters add a role to the target.
                keys |= {target for target in touched if target.kind == "Channel"}
        elif key.kind == "ConfigMap" and intent_changed(change):
            entry = change.new or change.old
            if entry is not None and LABEL_CODE in (entry.body["metadata"].get("labels") or {}):
                keys |= self.referrers(key)
        return keys
