"""What the parts of the engine share."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime

from ganglion_operator.core.kinds import Body, Key, Kind
from ganglion_operator.core.settings import PodSettings
from ganglion_operator.core.snapshot import TokenKeys
from ganglion_operator.engine.queue import Queue
from ganglion_operator.engine.relations import Relations, owner_delay
from ganglion_operator.engine.store import Change, Store
from ganglion_operator.engine.views import Views
from ganglion_operator.kube.port import KubernetesPort
from ganglion_operator.metrics import Metrics


@dataclass
class Engine:
    """Store, queue and the indexes that follow the store. All of it belongs to one event loop; no method waits.

    Attributes:
        clock: monotonic seconds.
        now: UTC.
        token_keys: as last read from the API server; None while unknown.
    """

    port: KubernetesPort
    settings: PodSettings
    metrics: Metrics
    clock: Callable[[], float] = time.monotonic
    now: Callable[[], datetime] = lambda: datetime.now(UTC)
    store: Store = field(default_factory=Store)
    relations: Relations = field(default_factory=Relations)
    token_keys: TokenKeys | None = None
    views: Views = field(init=False)
    queue: Queue[Key] = field(init=False)

    def __post_init__(self) -> None:
        self.views = Views(self.store)
        self.queue = Queue(self.clock)

    def event(self, kind: Kind, body: Body, *, deleted: bool = False, initial: bool = False) -> Change | None:
        """Take in one event of a watch, and the keys that it concerns. Cannot fail on anything that an API server stores."""
        change = self.store.apply(kind, body, deleted=deleted)
        if change is not None:
            self.changed(change, initial=initial)
        return change

    def changed(self, change: Change, *, initial: bool = False, without: Key | None = None) -> None:
        """Follow a change of the store.

        Args:
            initial: it is part of a first list: live events go before it.
            without: a key that need not be looked at: the change is its own doing.
        """
        self.views.changed(change)
        owners = {entry.owner for entry in (change.old, change.new) if entry is not None}
        for key in self.relations.concerned(change):
            if key == without:
                continue
            if key in owners and not initial:
                delay = owner_delay(change)
                if delay is not None:
                    self.queue.add_soon(key, delay)
            else:
                self.queue.add(key, initial=initial)

    def learned(self, kind: Kind, body: Body, *, by: Key, looked_up: bool = False) -> None:
        """Take in the answer to a read or write of the reconciliation of `by`, before a watch tells it."""
        change = self.store.apply(kind, body, looked_up=self.clock() if looked_up else None)
        if change is not None:
            self.changed(change, without=by)
