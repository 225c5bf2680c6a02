"""Workers: one key at a time each, bounded in time, every failure through the queue's back-off."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from ganglion_operator.core.kinds import Key
from ganglion_operator.engine.context import Engine
from ganglion_operator.engine.executor import AgainError
from ganglion_operator.kube.errors import ApiError, ApiUnavailableError

logger = logging.getLogger(__name__)

WORKERS = 16
DEADLINE_SECONDS = 60.0
"""For one reconciliation: a handful of calls of at most 15 s each, or something is wrong."""
LOUD_AFTER = 5
"""Failures in a row after which they are warnings: the first few are the price of optimism."""


class Controller:
    """Runs `reconcile` for the keys of the engine's queue."""

    def __init__(self, engine: Engine, reconcile: Callable[[Key], Awaitable[float | None]], *, workers: int = WORKERS) -> None:
        self._engine = engine
        self._reconcile = reconcile
        self._workers = workers

    async def run(self) -> None:
        """Work until the queue is closed or the task is cancelled."""
        async with asyncio.TaskGroup() as group:
            for number in range(self._workers):
                group.create_task(self._work(), name=f"worker {number}")

    async def _work(self) -> None:
        metrics = self._engine.metrics
        while (key := await self._engine.queue.get()) is not None:
            started = self._engine.clock()
            with metrics.active_workers.track_inprogress():
                result = await self._one(key)
            metrics.reconciles.labels(key.kind, result).inc()
            metrics.reconcile_seconds.labels(key.kind).observe(self._engine.clock() - started)

    async def _one(self, key: Key) -> str:
        """One reconciliation; returns its result for the metrics. Never raises but for cancellation."""
        queue = self._engine.queue
        try:
            async with asyncio.timeout(DEADLINE_SECONDS):
                wait = await self._reconcile(key)
        except AgainError as error:
            self._retry(key, error, at_least=0.0)
            return "requeue"
        except ApiError as error:
            self._retry(key, error, at_least=error.retry_after or 0.0)
            return "requeue" if error.conflict else "error"
        except (ApiUnavailableError, TimeoutError) as error:
            self._retry(key, error, at_least=0.0)
            return "error"
        except Exception:
            # A defect must not end the worker: the others' objects still need it.
            delay = queue.failed(key)
            logger.exception("Reconciliation of %s failed; next attempt in %.1f s", key, delay)
            return "error"
        queue.done(key, wait)
        return "requeue_after" if wait is not None else "success"

    def _retry(self, key: Key, error: Exception, *, at_least: float) -> None:
        queue = self._engine.queue
        attempts = queue.lanes.failures(key) + 1
        delay = queue.failed(key, at_least=at_least)
        self._engine.metrics.retries.inc()
        level = logging.WARNING if attempts >= LOUD_AFTER else logging.DEBUG
        logger.log(
            level, "Reconciliation of %s failed %d times; next attempt in %.1f s: %s", key, attempts, delay, error or type(error).__name__
        )
