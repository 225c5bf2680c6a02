"""Carries out actions. Every outcome that a level-triggered controller expects is an answer here, not an error."""

from __future__ import annotations

import logging

from ganglion_operator.core.actions import Action, Apply, Create, Delete, Patch
from ganglion_operator.core.drift import ANNOTATION_APPLIED, drifted
from ganglion_operator.core.kinds import AGENT, Body, Key, Kind
from ganglion_operator.core.trim import trim
from ganglion_operator.engine.context import Engine
from ganglion_operator.kube.errors import ApiError

logger = logging.getLogger(__name__)

MAX_FUTILE = 10_000
"""Applies remembered as futile; when one is forgotten, it is tried once more."""


class AgainError(Exception):
    """The picture was stale; it is fresh now, so look again (through the back-off)."""


class Executor:
    """Actions of one reconciliation at a time; remembers applies that achieve nothing."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._futile: dict[tuple[Key, str], str] = {}
        """(object, uid) → hash of an intent that the API server stores differently from how it was applied."""

    async def run(self, key: Key, action: Action) -> None:
        """Carry out one action of the reconciliation of `key`.

        Raises:
            AgainError: the store was stale.
            ApiError, ApiUnavailableError: anything that a fresh picture does not explain.
        """
        match action:
            case Create():
                await self._create(key, action)
            case Apply():
                await self._apply(key, action)
            case Patch():
                await self._patch(key, action)
            case Delete():
                await self._delete(key, action)

    def _learn(self, key: Key, kind: Kind, body: Body) -> None:
        self._engine.learned(kind, body, by=key, looked_up=not _followed(kind, body))

    async def _create(self, key: Key, action: Create) -> None:
        try:
            body = await self._engine.port.create(action.kind, action.body)
        except ApiError as error:
            if error.reason != "AlreadyExists":
                raise
            metadata = action.body["metadata"]
            await self._look(key, action.kind, metadata["namespace"], metadata["name"])
            raise AgainError(f"{action.kind.kind} {metadata['name']} exists already") from error
        logger.info("Created %s %s", action.kind.kind, action.body["metadata"]["name"], extra={"object": str(key)})
        self._learn(key, action.kind, body)

    async def _look(self, key: Key, kind: Kind, namespace: str, name: str) -> None:
        """Fetch an object into the store, whoever owns it."""
        try:
            body = await self._engine.port.get(kind, namespace, name)
        except ApiError as error:
            if not error.not_found:
                raise
            change = self._engine.store.discard(Key(kind.kind, namespace, name))
            if change is not None:
                self._engine.changed(change, without=key)
        else:
            self._learn(key, kind, body)

    async def _apply(self, key: Key, action: Apply) -> None:
        metadata = action.body["metadata"]
        target = Key(action.kind.kind, metadata["namespace"], metadata["name"])
        digest = (metadata.get("annotations") or {}).get(ANNOTATION_APPLIED, "owner references")
        if self._futile.get((target, metadata["uid"])) == digest:
            return
        try:
            body = await self._engine.port.apply(action.kind, action.body)
        except ApiError as error:
            if not error.conflict and not error.not_found:
                raise
            await self._look(key, action.kind, metadata["namespace"], metadata["name"])
            raise AgainError(f"{target} is not the one it was") from error
        logger.info("Applied %s %s", action.kind.kind, target.name, extra={"object": str(key)})
        self._learn(key, action.kind, body)
        if action.kind is not AGENT and drifted(action.body, trim(action.kind, body)):
            # Something rewrites what was applied (an admission webhook): once is enough.
            self._futile[target, metadata["uid"]] = digest
            while len(self._futile) > MAX_FUTILE:
                del self._futile[next(iter(self._futile))]
            logger.warning("%s is stored differently from how it was applied", target)

    async def _patch(self, key: Key, action: Patch) -> None:
        try:
            body = await self._engine.port.patch(action.kind, action.key, action.body)
        except ApiError as error:
            if not error.conflict and not error.not_found:
                raise
            await self._look(key, action.kind, action.key.namespace, action.key.name)
            raise AgainError(f"{action.key} is not the one it was") from error
        self._learn(key, action.kind, body)

    async def _delete(self, key: Key, action: Delete) -> None:
        try:
            await self._engine.port.delete(action.kind, action.key, action.uid, action.grace)
        except ApiError as error:
            if not error.conflict and not error.not_found:
                raise
            await self._look(key, action.kind, action.key.namespace, action.key.name)
            return
        logger.info("Deleted %s %s: %s", action.kind.kind, action.key.name, action.why, extra={"object": str(key)})
        # The answer may be the object or a Status: read what is left, so that the next pass does not delete it again.
        await self._look(key, action.kind, action.key.namespace, action.key.name)


def _followed(kind: Kind, body: Body) -> bool:
    """Whether a watch will tell about this object."""
    if not kind.watched:
        return False
    if not kind.selector:
        return True
    name, _, value = kind.selector.partition("=")
    labels = body["metadata"].get("labels") or {}
    return labels.get(name) == value if value else name in labels
