"""Events from kopf into the engine. The only module that imports kopf.

kopf watches, reconnects and renews credentials; it never handles: `on.event` writes nothing, so there are no finalizers, no
annotations, and no second opinion about what has been done.
"""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import kopf

from ganglion_operator.core.kinds import WATCHED, Body, Kind
from ganglion_operator.kube.access import Access

logger = logging.getLogger(__name__)

LOGIN_SECONDS = 300.0
"""Service account tokens are renewed on disk; ask for the current one this often."""
CHUNK = 100
IDLE_SECONDS = 0.1

Sink = Callable[[Kind, Body, bool, bool], None]
"""(kind, body, deleted, initial) → taken in."""


class _NoDiffBase(kopf.DiffBaseStorage):
    """There are no handlers of changes, so nothing is compared: without this, kopf copies each object several times per event."""

    def build(self, *, body: kopf.Body, extra_fields: Any = None) -> kopf.BodyEssence:
        return cast("kopf.BodyEssence", {})

    def fetch(self, *, body: kopf.Body) -> kopf.BodyEssence | None:
        return None

    def store(self, *, body: kopf.Body, patch: kopf.Patch, essence: kopf.BodyEssence) -> None:
        """Nothing is stored."""


class _NoProgress(kopf.ProgressStorage):
    """The same for the progress of handlers."""

    def fetch(self, *, key: Any, body: kopf.Body) -> None:
        """Nothing is known."""

    def store(self, *, key: Any, record: Any, body: kopf.Body, patch: kopf.Patch) -> None:
        """Nothing is stored."""

    def purge(self, *, key: Any, body: kopf.Body, patch: kopf.Patch) -> None:
        """Nothing is there."""

    def touch(self, *, body: kopf.Body, patch: kopf.Patch, value: str | None) -> None:
        """Nothing is written."""

    def clear(self, *, essence: kopf.BodyEssence) -> kopf.BodyEssence:
        return essence


class _Stream:
    """One collection as kopf follows it: a list, then events; after 410 Gone a list again, which does not tell what was deleted."""

    __slots__ = ("_first", "_live")

    def __init__(self) -> None:
        self._first: str | None = None
        self._live = False

    def relisted(self, listed: bool, uid: str) -> bool:
        """Take in one event; returns whether it begins another list.

        A list of nothing goes unnoticed; the operator's canary is in one of the collections, and what cuts one watch cuts the others.
        """
        if not listed:
            self._live = True
            return False
        if self._first is None or (not self._live and uid != self._first):
            self._first = self._first or uid
            return False
        self._first, self._live = uid, False
        return True


class Watches:
    """All watches of one operator.

    Args:
        sink: called with each event, in the loop; must not fail.
        relisted: called when a watch had to begin with a list again; must not fail.
        access: current credentials.
        namespaces: namespaces to watch; None for all.
    """

    def __init__(
        self, sink: Sink, access: Callable[[], Awaitable[Access]], namespaces: Sequence[str] | None, *, relisted: Callable[[], None]
    ) -> None:
        self._sink = sink
        self._relisted = relisted
        self._streams: defaultdict[tuple[str, str | None], _Stream] = defaultdict(_Stream)
        self._access = access
        self._namespaces = namespaces
        self._stop = asyncio.Event()
        self.ready = asyncio.Event()
        """Set when kopf has started."""

    def _registry(self) -> kopf.OperatorRegistry:
        registry = kopf.OperatorRegistry()

        async def login(**_: Any) -> kopf.ConnectionInfo:
            access = await self._access()
            return kopf.ConnectionInfo(
                server=access.server,
                ca_path=access.ca_path,
                token=access.token,
                certificate_path=access.certificate_path,
                private_key_path=access.key_path,
                insecure=access.insecure,
                expiration=datetime.now(UTC) + timedelta(seconds=LOGIN_SECONDS),
            )

        kopf.on.login(registry=registry)(login)
        for kind in WATCHED:
            # By group, version and plural: other projects have `agents`, too.
            kopf.on.event(kind.group, kind.version, kind.plural, id=kind.plural, registry=registry)(self._handler(kind))
        return registry

    def _handler(self, kind: Kind) -> Callable[..., Awaitable[None]]:
        async def handle(event: Any, **_: Any) -> None:
            # type None marks what is listed.
            body, listed = dict(event["object"]), event["type"] is None
            metadata = body["metadata"]
            stream = self._streams[kind.kind, metadata.get("namespace") if self._namespaces is not None else None]
            if stream.relisted(listed, metadata["uid"]):
                self._relisted()
            self._sink(kind, body, event["type"] == "DELETED", listed)

        return handle

    def _settings(self) -> kopf.OperatorSettings:
        settings = kopf.OperatorSettings()
        settings.posting.enabled = False
        # Cluster-wide lists of namespaces and definitions are not ours to read when we serve a few namespaces; and the three kinds exist
        # before this starts.
        settings.scanning.disabled = True
        # Memory follows the size of a chunk, and the number of kopf's idle tasks, one for each object that it saw lately.
        settings.watching.chunk_size = CHUNK
        settings.queueing.idle_timeout = IDLE_SECONDS
        settings.persistence.diffbase_storage = _NoDiffBase()
        settings.persistence.progress_storage = _NoProgress()
        settings.process.ultimate_exiting_timeout = None
        for kind in WATCHED:
            if kind.selector:
                settings.watching.label_selectors[kind.group, kind.version, kind.plural] = kind.selector
        return settings

    async def run(self, installed: Callable[[], None]) -> None:
        """Watch until `stop`.

        Args:
            installed: called after kopf has taken the process's signal handlers, to take them back.
        Raises:
            Exception: a watch ended for a reason that kopf does not retry.
        """
        scope: dict[str, Any] = {"namespaces": list(self._namespaces)} if self._namespaces is not None else {"clusterwide": True}
        before = asyncio.all_tasks()
        tasks = await kopf.spawn_tasks(
            registry=self._registry(),
            settings=self._settings(),
            standalone=True,
            stop_flag=self._stop,
            ready_flag=self.ready,
            **scope,
        )
        installed()
        await kopf.run_tasks(tasks, ignored=before)

    def stop(self) -> None:
        """End all watches; `run` returns soon."""
        self._stop.set()
