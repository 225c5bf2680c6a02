"""Copies of templates as processes: what the operator does in a cluster, with the same plan."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from ganglion.api.names import LABEL_TEMPLATE
from ganglion.api.nameserver import Copy
from ganglion.local.desired import Desired
from ganglion.planner import plan_copies
from ganglion.wire import admin


class Copies:
    """Follows what the name server asks for. Runs in the supervisor's loop.

    Args:
        put: puts `desired` in force: the name server hears of new agents before they join.
        remove: drains an agent and forgets it.
        say: tells people.
    """

    def __init__(
        self, desired: Desired, put: Callable[[], Awaitable[None]], remove: Callable[[str], Awaitable[None]], say: Callable[[str], None]
    ) -> None:
        self._desired = desired
        self._put = put
        self._remove = remove
        self._say = say
        self._making: asyncio.Future[None] | None = None
        self._ending: dict[str, asyncio.Task[None]] = {}
        self._deleted: set[str] = set()
        self.refused: tuple[str, ...] = ()
        """Why something that is asked for is not made."""

    def deleted(self, name: str) -> None:
        """A user has deleted an agent: a copy is not made again for the same asking."""
        if self._desired.copies.pop(name, None) is not None:
            self._deleted.add(name)

    def follow(self, wanted: Sequence[admin.Copy]) -> None:
        """Make and end copies. Never blocks: the name server is asked again in a moment."""
        self._deleted &= {copy.name for copy in wanted}
        asked = [Copy(name=copy.name, template=copy.template) for copy in wanted if copy.name not in self._deleted]
        desired = self._desired
        agents = desired.bundle.agents
        plan = plan_copies(desired.name_server, asked, desired.copies, agents.get, agents.__contains__)
        if plan.refused != self.refused:
            for text in plan.refused:
                self._say(f"TemplateRefused: {text}")
            self.refused = plan.refused
        for name in plan.end:
            if name not in self._ending:
                self._ending[name] = asyncio.get_running_loop().create_task(self._end(name))
        if plan.make and (self._making is None or self._making.done()):
            bundle = desired.bundle
            for agent in plan.make:
                bundle.add(agent)
                desired.copies[agent.name] = str(agent.metadata.labels[LABEL_TEMPLATE])
            desired.set(bundle)
            self._making = asyncio.ensure_future(self._put())

    async def _end(self, name: str) -> None:
        try:
            await self._remove(name)
            self._desired.copies.pop(name, None)
        finally:
            self._ending.pop(name, None)

    async def close(self) -> None:
        """The domain ends: copies end with it, in order."""
        tasks: list[asyncio.Future[None]] = [*self._ending.values(), *([self._making] if self._making is not None else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
