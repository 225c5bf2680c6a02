"""The operator process: configuration, leader election, engine, watches, and an end within the grace of a pod."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import os
import signal
import threading
from collections.abc import Coroutine, Sequence
from types import FrameType
from typing import Any, TypeVar

from ganglion.api.structure import allow_deep_json
from ganglion_operator import config, logs, memory
from ganglion_operator.config import Config
from ganglion_operator.core.kinds import CONFIGMAP, WATCHED, Body, Kind
from ganglion_operator.engine.context import Engine
from ganglion_operator.engine.controller import Controller
from ganglion_operator.engine.health import Health
from ganglion_operator.engine.reconcile import Reconciler
from ganglion_operator.engine.resync import RETRY_SECONDS, Resync, wait_for_definitions
from ganglion_operator.http import HealthServer
from ganglion_operator.kube.access import current_access, load_configuration
from ganglion_operator.kube.client import KubernetesClient
from ganglion_operator.kube.errors import ApiError, ApiUnavailableError
from ganglion_operator.kube.leader import LeaderLease, LeaseLostError
from ganglion_operator.metrics import Metrics
from ganglion_operator.wiring import Watches

logger = logging.getLogger(__name__)

COMPONENT = "ganglion-operator"
GRACE_SECONDS = 10.0
"""From the first signal to the end of the process, whatever it is doing."""
SLIM_SECONDS = 300.0
T = TypeVar("T")


class Stop:
    """The wish to end, raised by a signal."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self.event = asyncio.Event()

    def install(self) -> None:
        """Take the process's signals. Python's own handlers run although the loop is busy, and start the last resort."""
        for number in (signal.SIGTERM, signal.SIGINT):
            # asyncio's handlers (kopf installs some) would only be heard by a loop that turns.
            with contextlib.suppress(ValueError, RuntimeError):
                self._loop.remove_signal_handler(number)
            signal.signal(number, self._heard)

    def _heard(self, number: int, _: FrameType | None) -> None:
        if not self.event.is_set():
            last = threading.Timer(GRACE_SECONDS, os._exit, args=(1,))
            last.daemon = True
            last.start()
        self._loop.call_soon_threadsafe(self.event.set)

    async def unless(self, work: Coroutine[Any, Any, T]) -> T | None:
        """The result of `work`, or None when the signal comes first."""
        task = asyncio.ensure_future(work)
        heard = asyncio.ensure_future(self.event.wait())
        try:
            await asyncio.wait({task, heard}, return_when=asyncio.FIRST_COMPLETED)
            return task.result() if task.done() else None
        finally:
            await _end([task, heard])


async def _end(tasks: Sequence[asyncio.Future[Any]]) -> None:
    """Cancel what still runs and wait for it; results are of no interest any more."""
    for task in tasks:
        task.cancel()
    if tasks:
        await asyncio.wait(tasks)
    for task in tasks:
        if not task.cancelled():
            task.exception()


class Operator:
    """One operator process after its configuration is known."""

    def __init__(self, settings: Config, stop: Stop) -> None:
        self._config = settings
        self._stop = stop
        self._metrics = Metrics()
        self._health: Health | None = None
        self._synced = False
        self._leading = not settings.leader_elect

    def live(self) -> str | None:
        """Why the kubelet should restart the process."""
        return self._health.problem() if self._health is not None else None

    def ready(self) -> str | None:
        """Why the process does not do its job. A process that waits for the Lease does."""
        return "the first list is not complete" if self._leading and not self._synced else None

    async def run(self) -> int:
        """Work until told to stop; returns the exit status."""
        configuration = await load_configuration()
        client = KubernetesClient(configuration, self._metrics, component=COMPONENT, instance=self._config.identity)
        lease = LeaderLease(client, self._config.namespace, self._config.lease_name, self._config.identity)
        health = HealthServer(self._config.health_host, self._config.health_port, self._metrics, live=self.live, ready=self.ready)
        async with contextlib.AsyncExitStack() as stack:
            stack.push_async_callback(client.close)
            await stack.enter_async_context(health)
            logger.info("Answering on port %d", health.port, extra={"port": health.port})
            if self._config.leader_elect:
                stack.push_async_callback(lease.release)
                await self._stop.unless(lease.acquire())
                if self._stop.event.is_set():
                    return 0
                self._leading = True
            self._metrics.leader.set(1)
            engine = Engine(client, self._config.pods, self._metrics)
            resync = Resync(engine, self._config.namespaces, interval=self._config.resync_seconds)
            watches = Watches(self._sink(engine), lambda: current_access(configuration), self._config.namespaces, relisted=resync.soon)
            keep = asyncio.ensure_future(lease.keep()) if self._config.leader_elect else None
            try:
                return await self._work(engine, resync, watches, keep)
            except LeaseLostError as error:
                logger.error("Not leading any more: %s", error)  # noqa: TRY400 - the cause is the whole story
                return 1
            finally:
                self._metrics.leader.set(0)
                if keep is not None:
                    await _end([keep])

    def _sink(self, engine: Engine) -> Any:
        def sink(kind: Kind, body: Body, deleted: bool, initial: bool) -> None:
            if kind is CONFIGMAP and self._health is not None:
                self._health.heard(body)
            if engine.event(kind, body, deleted=deleted, initial=initial) is not None:
                self._metrics.events.labels(kind.kind).inc()

        return sink

    async def _work(self, engine: Engine, resync: Resync, watches: Watches, keep: asyncio.Future[None] | None) -> int:
        first = asyncio.ensure_future(self._first(engine, resync))
        heard = asyncio.ensure_future(self._stop.event.wait())
        guards = [task for task in (heard, keep) if task is not None]
        tasks: list[asyncio.Future[Any]] = [first, heard]
        watching: asyncio.Future[None] | None = None
        try:
            await asyncio.wait([first, *guards], return_when=asyncio.FIRST_COMPLETED)
            if not first.done():
                return _verdict(guards)
            first.result()
            self._synced = True
            health = self._health = Health(engine, resync, self._config.canary_namespace, self._config.identity)
            self._mirror(engine, health)
            controller = Controller(engine, Reconciler(engine), workers=self._config.workers)
            tasks += [asyncio.ensure_future(part) for part in (controller.run(), resync.run(), health.run(), self._slim())]
            watching = asyncio.ensure_future(watches.run(self._stop.install))
            logger.info("Serving %s", ", ".join(self._config.namespaces) if self._config.namespaces else "all namespaces")
            await asyncio.wait([*tasks[2:], watching, *guards], return_when=asyncio.FIRST_COMPLETED)
            return _verdict([*guards, watching, *tasks[2:]])
        finally:
            engine.queue.close()
            # Workers first: nothing is written after the Lease is given up.
            await _end(tasks)
            if watching is not None:
                watches.stop()
                # kopf cancels every task that is younger than its own: by now only its own are left.
                await asyncio.wait([watching], timeout=GRACE_SECONDS / 2)
                await _end([watching])

    async def _slim(self) -> None:
        """Give memory back when the burst of the start is over, and now and then."""
        for seconds in itertools.chain((10.0, 30.0), itertools.repeat(SLIM_SECONDS)):
            await asyncio.sleep(seconds)
            memory.release()

    async def _first(self, engine: Engine, resync: Resync) -> None:
        """The first complete list; the API server may be late."""
        scope = self._config.namespaces[0] if self._config.namespaces else None
        while True:
            try:
                await wait_for_definitions(engine, scope)
                await resync.first()
            except (ApiError, ApiUnavailableError) as error:
                logger.warning("The first list failed; next attempt in %.0f s: %s", RETRY_SECONDS, error)
                await asyncio.sleep(RETRY_SECONDS)
            else:
                return

    def _mirror(self, engine: Engine, health: Health) -> None:
        """Gauges that follow the engine's state."""

        def refresh() -> None:
            metrics = self._metrics
            metrics.queue_depth.set(len(engine.queue.lanes))
            metrics.queue_delayed.set(engine.queue.lanes.delayed)
            metrics.loop_lag.set(health.lag)
            metrics.canary_age.set(health.silence)
            for kind in WATCHED:
                metrics.objects.labels(kind.kind).set(engine.store.count(kind))

        self._metrics.before_scrape(refresh)


def _verdict(tasks: Sequence[asyncio.Future[Any]]) -> int:
    """Exit status for the first task that ended; the first one waits for the signal."""
    if tasks[0].done():
        return 0
    ended = next(task for task in tasks if task.done())
    ended.result()
    logger.error("A part of the operator ended by itself")
    return 1


async def _main(settings: Config) -> int:
    stop = Stop(asyncio.get_running_loop())
    stop.install()
    return await Operator(settings, stop).run()


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the operator; returns its exit status."""
    allow_deep_json()
    settings = config.parse(arguments)
    logs.configure(settings.log_format, settings.log_level)
    try:
        return asyncio.run(_main(settings))
    except Exception:
        logger.exception("The operator ended")
        return 1
