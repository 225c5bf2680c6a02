"""A small API server in memory, for races and failures that a real one cannot be asked for. The cluster tier runs the same paths for real."""

from __future__ import annotations

import itertools
import random
from collections.abc import AsyncIterator, Callable
from typing import Any

from ganglion_operator.core.actions import Notice
from ganglion_operator.core.kinds import KINDS, Body, Key, Kind
from ganglion_operator.core.snapshot import TokenKeys
from ganglion_operator.kube.errors import ApiError, ApiUnavailableError
from ganglion_operator.kube.port import Page

WRITES = ("create", "apply", "apply_status", "patch", "delete")


def copied(body: Body) -> Body:
    """A copy of a decoded object; quicker than `copy.deepcopy`, which the property tests would spend a quarter of their time in."""
    return {key: _copied(value) for key, value in body.items()}


def _copied(value: Any) -> Any:
    if isinstance(value, dict):
        return copied(value)
    return [_copied(item) for item in value] if isinstance(value, list) else value


def _merge(target: Any, patch: Any) -> Any:
    if not isinstance(patch, dict):
        return _copied(patch)
    base = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            base.pop(key, None)
        else:
            base[key] = _merge(base.get(key), value)
    return base


class FakePort:
    """Objects with uids, resource versions and generations; `broken` decides which calls fail.

    `watch` is called with (kind, body, deleted) after each change, as a watch would.
    """

    def __init__(self) -> None:
        self.objects: dict[Key, Body] = {}
        self.calls: list[tuple[str, str]] = []
        self.notices: list[Notice] = []
        self.broken: Callable[[str, str], Exception | None] = lambda call, kind: None
        self.watch: Callable[[Kind, Body, bool], None] = lambda kind, body, deleted: None
        self.elapsed = 0.0
        """Seconds of virtual time that earlier lives of an operator have taken."""
        self._versions = itertools.count(1000)
        self._uids = itertools.count(1)

    def writes(self) -> list[tuple[str, str]]:
        """Calls that change something, as (method, kind)."""
        return [call for call in self.calls if call[0] in WRITES]

    def put(self, body: Body) -> Body:
        """What a user does with kubectl apply; bumps generation and version."""
        stored = copied(body)
        metadata = stored["metadata"]
        key = Key(stored["kind"], metadata["namespace"], metadata["name"])
        old = self.objects.get(key)
        metadata.setdefault("uid", f"uid-{next(self._uids)}")
        if old is not None:
            metadata["uid"] = old["metadata"]["uid"]
            metadata["generation"] = old["metadata"]["generation"] + (old.get("spec") != stored.get("spec"))
            metadata.setdefault("ownerReferences", old["metadata"].get("ownerReferences", []))
            stored["status"] = old.get("status", {})
        return self._store(key, stored)

    def remove(self, key: Key) -> None:
        """Deletion without any grace."""
        body = self.objects.pop(key)
        body["metadata"]["resourceVersion"] = str(next(self._versions))
        self.watch(KINDS[key.kind], copied(body), True)

    def _store(self, key: Key, body: Body) -> Body:
        body["metadata"]["resourceVersion"] = str(next(self._versions))
        body["metadata"].setdefault("generation", 1)
        body["metadata"].setdefault("creationTimestamp", "2026-01-01T00:00:00Z")
        self.objects[key] = body
        self.watch(KINDS[key.kind], copied(body), False)
        return copied(body)

    def _call(self, method: str, kind: Kind | None) -> None:
        name = kind.kind if kind is not None else ""
        self.calls.append((method, name))
        error = self.broken(method, name)
        if error is not None:
            raise error

    def _need(self, key: Key) -> Body:
        if key not in self.objects:
            raise ApiError(404, "NotFound", f"{key} not found")
        return self.objects[key]

    async def get(self, kind: Kind, namespace: str, name: str) -> Body:
        self._call("get", kind)
        return copied(self._need(Key(kind.kind, namespace, name)))

    async def list(self, kind: Kind, namespace: str | None) -> AsyncIterator[Page]:
        self._call("list", kind)
        label, _, value = kind.selector.partition("=")
        found = []
        for key, body in self.objects.items():
            labels = body["metadata"].get("labels") or {}
            wanted = not label or (labels.get(label) == value if value else label in labels)
            if key.kind == kind.kind and namespace in (None, key.namespace) and wanted:
                found.append(copied(body))
        yield Page(found, next(self._versions))

    async def create(self, kind: Kind, body: Body) -> Body:
        self._call("create", kind)
        metadata = body["metadata"]
        key = Key(kind.kind, metadata["namespace"], metadata["name"])
        if key in self.objects:
            raise ApiError(409, "AlreadyExists", f"{key} already exists")
        stored = copied(body)
        stored["metadata"]["uid"] = f"uid-{next(self._uids)}"
        return self._store(key, stored)

    async def apply(self, kind: Kind, body: Body) -> Body:
        self._call("apply", kind)
        metadata = body["metadata"]
        key = Key(kind.kind, metadata["namespace"], metadata["name"])
        old = self._need(key)
        if metadata["uid"] != old["metadata"]["uid"]:
            raise ApiError(409, "Conflict", "uid mismatch")
        new = {**copied(old), **{k: _copied(v) for k, v in body.items() if k != "metadata"}}
        new["metadata"] = {**old["metadata"], **{k: _copied(v) for k, v in metadata.items() if k != "uid"}}
        if kind.kind == "Agent":
            new["metadata"]["ownerReferences"] = _copied(metadata.get("ownerReferences", []))
        new["metadata"]["generation"] = old["metadata"]["generation"] + (new.get("spec") != old.get("spec"))
        return self._store(key, new)

    async def apply_status(self, kind: Kind, body: Body) -> Body:
        self._call("apply_status", kind)
        metadata = body["metadata"]
        key = Key(kind.kind, metadata["namespace"], metadata["name"])
        old = self._need(key)
        if metadata["uid"] != old["metadata"]["uid"]:
            raise ApiError(409, "Conflict", "uid mismatch")
        kept = {k: v for k, v in (old.get("status") or {}).items() if k in ("members", "agents", "channels", "copies")}
        return self._store(key, {**copied(old), "status": {**kept, **copied(body["status"])}})

    async def patch(self, kind: Kind, key: Key, body: Body) -> Body:
        self._call("patch", kind)
        old = self._need(key)
        for field in ("uid", "resourceVersion"):
            if (body.get("metadata") or {}).get(field) not in (None, old["metadata"][field]):
                raise ApiError(409, "Conflict", f"{field} mismatch")
        new = _merge(old, body)
        new["metadata"]["generation"] = old["metadata"].get("generation", 1) + (new.get("spec") != old.get("spec"))
        return self._store(key, new)

    async def delete(self, kind: Kind, key: Key, uid: str, grace: int | None) -> None:
        self._call("delete", kind)
        if self._need(key)["metadata"]["uid"] != uid:
            raise ApiError(409, "Conflict", "uid mismatch")
        self.remove(key)

    async def post_event(self, about: Body, notice: Notice) -> None:
        self._call("post_event", None)
        self.notices.append(notice)

    async def token_keys(self) -> TokenKeys:
        self._call("token_keys", None)
        return TokenKeys("https://issuer", '{"keys": []}')

    async def close(self) -> None:
        pass


def flaky(draw: random.Random, share: float) -> Callable[[str, str], Exception | None]:
    """Failures of all kinds, for a share of the calls."""

    def decide(call: str, kind: str) -> Exception | None:
        if draw.random() >= share:
            return None
        return draw.choice([
            ApiUnavailableError("connection lost"),
            ApiError(500, "InternalError", "boom"),
            ApiError(429, "TooManyRequests", "slow down"),
            ApiError(409, "Conflict", "stale"),
        ])  # fmt: skip

    return decide
