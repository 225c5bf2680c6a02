"""The engine on an API server in memory, in virtual time: whole stories of an operator in milliseconds."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

from ganglion_operator.core.kinds import KINDS, Body, Kind
from ganglion_operator.core.settings import PodSettings
from ganglion_operator.engine.context import Engine
from ganglion_operator.engine.controller import Controller
from ganglion_operator.engine.executor import _followed
from ganglion_operator.engine.reconcile import Reconciler
from ganglion_operator.engine.resync import Resync
from ganglion_operator.metrics import Metrics
from tests.support.fakeport import FakePort

START = datetime(2026, 1, 1, tzinfo=UTC)


class Simulation:
    """One life of an operator on `port`; must run in a VirtualLoop."""

    def __init__(self, port: FakePort) -> None:
        self.port = port
        loop = asyncio.get_running_loop()
        self.engine = Engine(
            port,
            PodSettings(agent_image="agent:1"),
            Metrics(),
            clock=loop.time,
            now=lambda: START + timedelta(seconds=port.elapsed + loop.time()),
        )
        self.resync = Resync(self.engine, None, interval=300.0)
        self.reconciler = Reconciler(self.engine)
        self._controller = Controller(self.engine, self.reconciler, workers=4)

    def _watch(self, kind: Kind, body: Body, deleted: bool) -> None:
        if _followed(kind, body) or (deleted and kind.watched):
            # A watch tells later, never in the middle of a call.
            asyncio.get_running_loop().call_soon(lambda: self.engine.event(kind, body, deleted=deleted))

    @contextlib.asynccontextmanager
    async def running(self, *, watching: bool = True) -> AsyncIterator[Simulation]:
        """First list, workers and resync; leaving cancels them in the middle of whatever they do."""
        if watching:
            self.port.watch = self._watch
        await self.resync.first()
        tasks = [asyncio.create_task(self._controller.run()), asyncio.create_task(self.resync.run())]
        try:
            yield self
        finally:
            self.port.watch = lambda kind, body, deleted: None
            # The next life begins later than this one ended.
            self.port.elapsed += asyncio.get_running_loop().time()
            for task in tasks:
                task.cancel()
            for result in await asyncio.gather(*tasks, return_exceptions=True):
                if isinstance(result, Exception):
                    raise result

    async def settle(self, seconds: float = 2000.0) -> None:
        """Let virtual time pass: longer than any back-off."""
        await asyncio.sleep(seconds)

    def errors(self) -> float:
        """Reconciliations that ended with an unexpected exception or a failed call."""
        return sum(
            sample.value
            for metric in self.engine.metrics.reconciles.collect()
            for sample in metric.samples
            if sample.name.endswith("_total") and sample.labels["result"] == "error"
        )


def names(port: FakePort, kind: str) -> list[str]:
    """Names of the stored objects of a kind."""
    assert kind in KINDS
    return sorted(key.name for key in port.objects if key.kind == kind)


def ready_of(port: FakePort, kind: str, name: str) -> tuple[str, str]:
    """(status, reason) of an object's Ready condition."""
    for key, body in port.objects.items():
        if (key.kind, key.name) == (kind, name):
            for condition in body.get("status", {}).get("conditions", ()):
                if condition["type"] == "Ready":
                    return condition["status"], condition["reason"]
    return "", ""
