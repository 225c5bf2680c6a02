"""Full lists: the first one before anything is decided, and one every few minutes that heals what a watch has missed."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections.abc import Sequence

from ganglion_operator.core.kinds import CUSTOM, NAMESERVER, WATCHED, Body, Kind
from ganglion_operator.core.trim import trim
from ganglion_operator.engine.context import Engine
from ganglion_operator.kube.errors import ApiError, ApiUnavailableError

logger = logging.getLogger(__name__)

INTERVAL_SECONDS = 300.0
RETRY_SECONDS = 5.0
GATHER_SECONDS = 1.0
SETTLE_SECONDS = 10.0
"""What a watch may be late by."""
TOKEN_KEYS_SECONDS = 15.0
"""Between two attempts to read the token signer's keys while there are none: every name server waits for them."""


class Resync:
    """Keeps the store true, whatever happens to the watches.

    Args:
        namespaces: namespaces that are served; None for all of them.
        interval: seconds between full lists.
        settle: seconds that a watch may be late by.
    """

    def __init__(
        self, engine: Engine, namespaces: Sequence[str] | None, *, interval: float = INTERVAL_SECONDS, settle: float = SETTLE_SECONDS
    ) -> None:
        self._engine = engine
        self._scopes: Sequence[str | None] = namespaces if namespaces is not None else [None]
        self._interval = interval
        self._settle = settle
        self.healed_rounds = 0
        """Rounds in a row in which something old had been missed: a watch is broken although it looks alive."""
        self.last: float | None = None
        """When the last complete round ended (seconds of the engine's clock)."""
        self._wanted = asyncio.Event()

    def soon(self) -> None:
        """A watch lost its place and began with a list: what was deleted in between is told by a full list only."""
        self._wanted.set()

    async def first(self) -> None:
        """Fill the store; returns when everything is known.

        Raises:
            ApiError: the definitions are not installed, or a permission is missing.
            ApiUnavailableError: no answer.
        """
        await self._token_keys()
        for kind in WATCHED:
            for scope in self._scopes:
                await self._list(kind, scope, initial=True)
        self.last = self._engine.clock()

    async def run(self) -> None:
        """List again and again until cancelled."""
        while True:
            lost = await self._until_due()
            try:
                await self.round(lost=lost)
            except (ApiError, ApiUnavailableError, TimeoutError) as error:
                logger.warning("Resync failed; next attempt in %.0f s: %s", RETRY_SECONDS if lost else self._interval, error)
                if lost:
                    await asyncio.sleep(RETRY_SECONDS)
                    self._wanted.set()

    async def _until_due(self) -> bool:
        """Return when a round is due: True when a watch lost its place."""
        # Spread over time, so that the parts of a cluster do not list together after a common outage.
        due = self._engine.clock() + self._interval * (0.9 + 0.2 * random.random())  # noqa: S311 - not for security
        while self._engine.token_keys is None and self._engine.clock() + TOKEN_KEYS_SECONDS < due:
            if await self._lost(TOKEN_KEYS_SECONDS):
                return True
            with contextlib.suppress(ApiUnavailableError):
                await self._token_keys()
        return await self._lost(due - self._engine.clock())

    async def _lost(self, seconds: float) -> bool:
        """Wait; True as soon as a watch lost its place. What cuts one watch cuts others: they are given a moment to tell."""
        try:
            async with asyncio.timeout(max(0.0, seconds)):
                await self._wanted.wait()
        except TimeoutError:
            return False
        await asyncio.sleep(GATHER_SECONDS)
        self._wanted.clear()
        return True

    async def round(self, *, lost: bool = False) -> int:
        """One full list of everything; returns how many differences it found that a watch should have told.

        Args:
            lost: a watch is known to have missed something: heal at once, and blame none.
        """
        missed = 0
        await self._token_keys()
        for kind in WATCHED:
            for scope in self._scopes:
                missed += await self._list(kind, scope, initial=False, lost=lost)
        # What is not watched is looked up again by its owner's next pass.
        for entry in self._engine.store.all(NAMESERVER):
            self._engine.queue.add(entry.key, initial=True)
        if not lost:
            self.healed_rounds = self.healed_rounds + 1 if missed else 0
        self.last = self._engine.clock()
        return missed

    async def _list(self, kind: Kind, scope: str | None, *, initial: bool, lost: bool = False) -> int:
        pages: list[Body] = []
        version = 0
        async for page in self._engine.port.list(kind, scope):
            # What the store keeps is a fraction of what the API sends: page by page, so that whole lists are never in memory.
            pages += [trim(kind, body) for body in page.items]
            version = page.version or version
        if not initial and not lost and self._engine.store.differs(kind, scope, pages, version):
            # A list may be ahead of a watch that works: only what stays different was missed.
            await asyncio.sleep(self._settle)
        changes = self._engine.store.replace(kind, scope, pages, version)
        for change in changes:
            self._engine.changed(change, initial=initial)
        if initial:
            return 0
        missed = len(changes)
        if missed:
            self._engine.metrics.healed.labels(kind.kind).inc(missed)
            logger.warning("Resync found %d differences in %s that no watch had told", missed, kind.plural)
        return missed

    async def _token_keys(self) -> None:
        """Read the token signer's keys; a change reaches every name server."""
        try:
            keys = await self._engine.port.token_keys()
        except ApiError as error:
            if self._engine.token_keys is None:
                logger.error("The API server's token keys cannot be read; name servers wait for them: %s", error)  # noqa: TRY400
            return
        if keys != self._engine.token_keys:
            self._engine.token_keys = keys
            for entry in self._engine.store.all(NAMESERVER):
                self._engine.queue.add(entry.key)


async def wait_for_definitions(engine: Engine, scope: str | None) -> None:
    """Return when the API server knows the three kinds: the chart may install them at the same time."""
    told = False
    while True:
        try:
            for kind in CUSTOM:
                async for _ in engine.port.list(kind, scope):
                    break
        except ApiError as error:
            if not error.not_found:
                raise
            if not told:
                logger.warning("Waiting for the CustomResourceDefinitions of ganglion.dev: %s", error)
                told = True
        else:
            return
        await asyncio.sleep(RETRY_SECONDS)
