"""The replicas of one agent: brought to what the plan says, a few at a time, each through its drain."""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import Callable
from dataclasses import dataclass

from ganglion.api import Agent
from ganglion.local import limits
from ganglion.local.child import EXIT_CONFIGURATION, State
from ganglion.local.environment import Seat
from ganglion.local.replica import NOT_STARTED, Host, Phase, Problem, Replica
from ganglion.planner import AgentObserved, AgentPlan

MAX_UNAVAILABLE = 0.25
"""Share of the replicas that a changed intent may take out at once, as the operator does it."""


@dataclass(frozen=True, slots=True)
class Counts:
    """What the name server counts of one agent."""

    joined: int = 0
    wired: int = 0


class Group:
    """One agent's replicas.

    Args:
        seat: makes the place of a new replica: `seat(agent, index, plan)`.
    """

    def __init__(self, host: Host, agent: Agent, seat: Callable[[Agent, int, AgentPlan], Seat]) -> None:
        self._host = host
        self._seat = seat
        self._drains: dict[str, asyncio.Task[None]] = {}
        self._closing = False
        self.agent = agent
        self.plan: AgentPlan | None = None
        self.replicas: dict[int, Replica] = {}
        self.failures = 0
        """`run: Once`: failures so far, of all replicas together."""
        self.removed = False
        self._blocked: Problem | None = None
        """Why a replica that is wanted has no place on this machine now."""
        self.counts = Counts()

    # ------------------------------------------------------------------ intent

    def set(self, agent: Agent, plan: AgentPlan) -> None:
        """What should run from now on. A plan without wiring changes nothing that runs."""
        self.agent = agent
        self.plan = plan
        self.step()

    def retry(self) -> None:
        """Start at once what waits for its back-off: the user has changed something."""
        for replica in self.replicas.values():
            for child in (replica.agent, replica.sidecar):
                if child is not None and child.state is State.WAITING:
                    child.start()

    @property
    def desired(self) -> int:
        """Replicas wanted now."""
        return 0 if self.removed or self.plan is None else self.plan.replicas

    def step(self) -> None:
        """Do what can be done now; called after every change of anything."""
        if self.plan is None or self._closing:
            return
        for index, replica in list(self.replicas.items()):
            if replica.finished.is_set() and replica.phase is Phase.GONE:
                del self.replicas[index]
        for index, replica in self.replicas.items():
            if index >= self.desired and replica.phase is Phase.RUNNING:
                self._drain(replica)
        self._blocked = None
        if self.plan.wiring is None or self.plan.intent is None or self.removed:
            return
        missing = [index for index in range(self.desired) if index not in self.replicas]
        self._blocked = next((problem for index in missing if (problem := self._start(index, self.plan)) is not None), None)
        if self.agent.spec.run == "Always":
            self._roll(self.plan.intent)

    def _start(self, index: int, plan: AgentPlan) -> Problem | None:
        """Start a replica; why this machine has no place for it, which is asked again with the next step: several times a second."""
        assert plan.intent is not None
        try:
            limits.keep_spare(limits.SPARE_DESCRIPTORS + limits.descriptors(self.agent))
            replica = Replica(self._host, self._seat(self.agent, index, plan), plan.intent, self._may_retry)
        except OSError as error:
            where = f"{error.filename}: " if error.filename else ""
            return Problem(NOT_STARTED, f"{self.agent.name}-{index}: cannot be started: {where}{error.strerror}")
        self.replicas[index] = replica
        replica.start()
        return None

    def _roll(self, intent: str) -> None:
        old = [item for item in self.replicas.values() if item.intent != intent and item.phase is Phase.RUNNING]
        if not old:
            return
        unavailable = sum(1 for item in self.replicas.values() if not item.ready)
        room = max(1, math.floor(self.desired * MAX_UNAVAILABLE)) - unavailable
        # What does not work now is replaced first and takes no room: it is unavailable already.
        for replica in sorted(old, key=lambda item: item.ready):
            if replica.ready and room <= 0:
                return
            room -= 1 if replica.ready else 0
            self._drain(replica)

    def _drain(self, replica: Replica) -> None:
        async def leave() -> None:
            await replica.drain(replica.grace)
            self._drains.pop(replica.name, None)
            self.step()
            self._host.changed()

        if replica.name not in self._drains:
            self._drains[replica.name] = asyncio.get_running_loop().create_task(leave())

    def _may_retry(self) -> bool:
        self.failures += 1
        return self.failures <= self.agent.spec.backoff_limit

    # ------------------------------------------------------------------ outcome

    @property
    def succeeded(self) -> int:
        """`run: Once`: replicas that finished with exit code 0."""
        return sum(1 for item in self.replicas.values() if item.phase is Phase.SUCCEEDED)

    @property
    def gave_up(self) -> bool:
        """`run: Once`: a replica has failed for good."""
        return any(item.phase is Phase.FAILED for item in self.replicas.values())

    @property
    def finished(self) -> bool:
        """`run: Once`: every wanted replica has succeeded."""
        return self.agent.spec.run == "Once" and not self.agent.spec.suspend and self.succeeded >= self.agent.spec.replicas

    @property
    def problem(self) -> Problem | None:
        """The worst trouble of a replica that does not run well now."""
        found = [item.problem for item in self.replicas.values() if item.problem is not None and not item.ready]
        found += [self._blocked] if self._blocked is not None else []
        return next((item for item in found if item.reason == "ConfigurationError"), found[0] if found else None)

    @property
    def misconfigured(self) -> Problem | None:
        """A replica that ended with exit code 78 and is not running now."""
        for replica in self.replicas.values():
            child = replica.agent
            if child.exit_code == EXIT_CONFIGURATION and child.state is not State.RUNNING:
                return replica.problem
        return None

    def observed(self) -> AgentObserved:
        """What the planner's status is made from."""
        live = [item for item in self.replicas.values() if not item.finished.is_set()]
        intent = self.plan.intent if self.plan is not None else None
        current = [item for item in live if item.intent == intent and item.phase is Phase.RUNNING]
        trouble = self.problem
        changed = self.agent.spec.run == "Once" and any(item.intent != intent for item in self.replicas.values()) and intent is not None
        return AgentObserved(
            replicas=len(live),
            ready=sum(1 for item in live if item.ready),
            updated=len(current),
            succeeded=self.succeeded,
            failed=self.failures,
            finished=self.finished,
            gave_up=self.gave_up,
            problem=(trouble.reason, trouble.message) if trouble is not None else None,
            joined=self.counts.joined,
            wired=self.counts.wired,
            spec_change_ignored="the agent has started and runs once; delete it and start it again" if changed else None,
        )

    # ------------------------------------------------------------------ the end

    def close(self) -> None:
        """The domain ends: nothing is started or rolled any more, and what ends stays so."""
        self._closing = True
        for replica in self.replicas.values():
            replica.end_with_domain()

    async def remove(self) -> None:
        """Drain every replica; the agent was deleted."""
        self.removed = True
        self.step()
        await asyncio.gather(*list(self._drains.values()))

    async def wait(self) -> None:
        """Until every replica has ended."""
        await asyncio.gather(*(item.finished.wait() for item in self.replicas.values()))

    async def leave(self, grace: float) -> None:
        """Drain what still runs, all at once."""
        await asyncio.gather(*(item.drain(grace) for item in self.replicas.values()))
        await self._drained()

    async def kill(self) -> None:
        """End what still runs at once."""
        await asyncio.gather(*(item.kill() for item in self.replicas.values()))
        await self._drained()

    async def _drained(self) -> None:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.gather(*list(self._drains.values()))
