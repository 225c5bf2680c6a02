"""The operator's own cache of objects, fed by watches, lists and the answers to its own writes.

Resource versions are compared as numbers: within one kind they grow with every change (KEP-5504). So the order in which a watch, a
resync and a write's answer arrive does not matter: an older picture never replaces a newer one, and a deletion is not undone by one.
"""

from __future__ import annotations

from collections import OrderedDict, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from ganglion_operator.core.kinds import Body, Key, Kind
from ganglion_operator.core.meta import owner_key
from ganglion_operator.core.trim import trim

MAX_TOMBSTONES = 20_000
"""Deletions remembered, so that a list or answer that began before them cannot bring the object back."""


class Entry:
    """One object as last seen."""

    __slots__ = ("body", "counts", "intent", "key", "looked_up", "memo", "owner", "uid", "version")

    def __init__(self, key: Key, body: Body, owner: Key | None, looked_up: float | None) -> None:
        self.key = key
        self.body = body
        self.uid: str = body["metadata"].get("uid", "")
        self.version = version_of(body)
        self.owner = owner
        self.looked_up = looked_up
        """When it was fetched by name (seconds of the engine's clock); None for objects that a watch follows."""
        self.intent: Any = None
        """The model of the spec, made when it is first asked for and kept while the spec is the same."""
        self.memo: Any = None
        """What the last pass found out and the next one need not find out again; kept as long as the model."""
        self.counts: dict[tuple[str, str], Body] | None = None
        """Counts in a NameServer's status by (field, name), made when they are first asked for."""

    def count(self, field: str, name: str) -> Body | None:
        """One entry of a list in the status: thousands of agents look for theirs."""
        if self.counts is None:
            status = self.body.get("status") or {}
            self.counts = {(part, item["name"]): item for part in ("agents", "channels") for item in status.get(part) or ()}
        return self.counts.get((field, name))


@dataclass(frozen=True, slots=True)
class Change:
    """What one event did to the store."""

    key: Key
    old: Entry | None
    new: Entry | None


def version_of(body: Body) -> int:
    """`metadata.resourceVersion` as a number; 0 when there is none."""
    text = str(body["metadata"].get("resourceVersion") or "0")
    return int(text) if text.isascii() and text.isdigit() else 0


def _same_intent(old: Body, new: Body) -> bool:
    """Whether only status, labels or the like differ: the API server counts changes of the spec."""
    return new.get("generation") is not None and all(old.get(name) == new.get(name) for name in ("uid", "generation", "deletionTimestamp"))


class Store:
    """Objects by kind, namespace and name, and by the key whose reconciliation looks at them."""

    def __init__(self) -> None:
        self._entries: dict[str, dict[tuple[str, str], Entry]] = defaultdict(dict)
        self._children: dict[Key, set[Key]] = defaultdict(set)
        self._tombstones: OrderedDict[tuple[str, str], int] = OrderedDict()

    def get(self, key: Key) -> Entry | None:
        """The object, if it is known."""
        return self._entries[key.kind].get((key.namespace, key.name))

    def body(self, kind: Kind, namespace: str, name: str) -> Body | None:
        """Trimmed body of the object, if it is known."""
        entry = self._entries[kind.kind].get((namespace, name))
        return entry.body if entry is not None else None

    def all(self, kind: Kind, namespace: str | None = None) -> Iterator[Entry]:
        """Every object of a kind, of one namespace or of all."""
        for entry in list(self._entries[kind.kind].values()):
            if namespace is None or entry.key.namespace == namespace:
                yield entry

    def count(self, kind: Kind) -> int:
        """Number of objects of a kind."""
        return len(self._entries[kind.kind])

    def children(self, owner: Key, kind: Kind) -> list[Body]:
        """Objects of a kind whose labels name `owner`, by name."""
        keys = sorted(key for key in self._children.get(owner, ()) if key.kind == kind.kind)
        return [entry.body for key in keys if (entry := self.get(key)) is not None]

    def apply(self, kind: Kind, raw: Body, *, deleted: bool = False, looked_up: float | None = None) -> Change | None:
        """Take in one picture of an object.

        Args:
            raw: as the API sent it.
            deleted: the picture is the object's last.
            looked_up: when it was fetched by name; None for objects that a watch follows.
        Returns:
            what changed, or None when the store knew better or as much.
        """
        metadata = raw["metadata"]
        key = Key(kind.kind, metadata.get("namespace", ""), metadata["name"])
        uid, version = metadata.get("uid", ""), version_of(raw)
        old = self.get(key)
        if old is not None and old.uid == uid and (version < old.version or (version == old.version and not deleted)):
            return None
        buried = self._tombstones.get((kind.kind, uid))
        if deleted:
            self._bury(kind, uid, version)
            if old is None or old.uid != uid:
                return None
            self._drop(old)
            return Change(key, old, None)
        if buried is not None:
            return None
        if old is not None and old.uid != uid and version < old.version:
            # The end of a former life, told late.
            return None
        return self._put(kind, key, raw, old, looked_up)

    def discard(self, key: Key) -> Change | None:
        """Forget an object that was found to be gone, or that must be looked up again."""
        old = self.get(key)
        if old is None:
            return None
        self._drop(old)
        return Change(key, old, None)

    def differs(self, kind: Kind, namespace: str | None, raws: Sequence[Body], version: int) -> bool:
        """Whether `replace` with the same arguments would change anything."""
        present = set()
        for raw in raws:
            metadata = raw["metadata"]
            present.add((metadata.get("namespace", ""), metadata["name"]))
            old = self.get(Key(kind.kind, metadata.get("namespace", ""), metadata["name"]))
            if (old is None or old.version < version_of(raw)) and (kind.kind, metadata.get("uid", "")) not in self._tombstones:
                return True
        return any(True for _ in self._gone(kind, namespace, present, version))

    def _gone(self, kind: Kind, namespace: str | None, present: set[tuple[str, str]], version: int) -> Iterator[Entry]:
        for entry in self.all(kind, namespace):
            if entry.looked_up is None and (entry.key.namespace, entry.key.name) not in present and entry.version <= version:
                yield entry

    def replace(self, kind: Kind, namespace: str | None, raws: Iterable[Body], version: int) -> list[Change]:
        """Take in a full list: add what is missing, prune what is gone.

        Args:
            namespace: the namespace that was listed; None for all.
            version: `resourceVersion` of the list. Objects that are newer than it are not judged by it.
        """
        changes, present = [], set()
        for raw in raws:
            metadata = raw["metadata"]
            present.add((metadata.get("namespace", ""), metadata["name"]))
            change = self.apply(kind, raw)
            if change is not None:
                changes.append(change)
        for entry in self._gone(kind, namespace, present, version):
            self._bury(kind, entry.uid, entry.version)
            self._drop(entry)
            changes.append(Change(entry.key, entry, None))
        return changes

    def _put(self, kind: Kind, key: Key, raw: Body, old: Entry | None, looked_up: float | None) -> Change:
        body = trim(kind, raw, old.body if old is not None else None)
        new = Entry(key, body, owner_key(kind, body), looked_up)
        if old is not None:
            self._drop(old)
            if _same_intent(old.body["metadata"], body["metadata"]):
                new.intent, new.memo = old.intent, old.memo
        self._entries[key.kind][key.namespace, key.name] = new
        if new.owner is not None:
            self._children[new.owner].add(key)
        return Change(key, old, new)

    def _drop(self, entry: Entry) -> None:
        del self._entries[entry.key.kind][entry.key.namespace, entry.key.name]
        if entry.owner is not None:
            kept = self._children[entry.owner]
            kept.discard(entry.key)
            if not kept:
                del self._children[entry.owner]

    def _bury(self, kind: Kind, uid: str, version: int) -> None:
        self._tombstones[kind.kind, uid] = version
        self._tombstones.move_to_end((kind.kind, uid))
        while len(self._tombstones) > MAX_TOMBSTONES:
            self._tombstones.popitem(last=False)
