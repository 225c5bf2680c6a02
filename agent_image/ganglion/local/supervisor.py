"""Runs one domain on this machine, from the first process to the last."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import uuid
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from ganglion.local import farewell, status
from ganglion.local.attendant import Attendant
from ganglion.local.bundle import Bundle
from ganglion.local.child import EXIT_CONFIGURATION
from ganglion.local.commands import Commands
from ganglion.local.copies import Copies
from ganglion.local.desired import Desired
from ganglion.local.environment import Options
from ganglion.local.group import Counts, Group
from ganglion.local.protocol import SOCKET, CommandServer
from ganglion.local.replica import Host, Problem
from ganglion.local.sparing import Sparing
from ganglion.local.spawner import Spawner
from ganglion.local.state import StateDirectory
from ganglion.planner import NameServerObserved

EXIT_OK = 0
EXIT_FAILURE = 1
EXIT_INTERRUPTED = 128 + signal.SIGINT
EXIT_TERMINATED = 128 + signal.SIGTERM
LEAVE_MARGIN_SECONDS = 5.0
"""The name server leaves so long before the end of `shutdown.timeoutSeconds`; what still runs then is stopped by signals."""
STOP_SECONDS = 3.0
"""Between SIGTERM and SIGKILL of what outlived the ordered shutdown."""


class Audience(Protocol):
    """Whoever watches the domain."""

    def line(self, replica: str, source: str, text: str) -> None:
        """A process printed a line; source is `agent`, `runtime` or `nameserver`."""
        ...

    def say(self, text: str, *, level: str = "info") -> None:
        """Something happened; level is `info`, `warning` or `error`."""
        ...

    def refresh(self) -> None:
        """Counts or states have changed."""
        ...


class Supervisor:
    """One domain.

    Args:
        bundle: judged without faults, with exactly one NameServer.
        state: the domain's state directory, acquired.
        stay: keep running when all `run: Once` agents are done or an agent cannot start (a detached domain).
    """

    def __init__(
        self, bundle: Bundle, state: StateDirectory, spawner: Spawner, options: Options, audience: Audience, *, stay: bool
    ) -> None:
        self._state = state
        self._spawner = spawner
        self._audience = audience
        self._sparing = Sparing(audience.line, lambda text: audience.say(text, level="warning"), audience.say)
        self._stay = stay
        self._groups: dict[str, Group] = {}
        self._changed = asyncio.Event()
        self._attendant = Attendant(
            state.run, spawner, options=options, logs=state.logs, line=self._sparing.line, changed=self._changed.set
        )
        uid = str(uuid.uuid4())
        self.desired = Desired(bundle, self._attendant.prepare(next(iter(bundle.name_servers.values())), uid), uid, state.run)
        self._host = Host(spawner, options, state.logs, self._sparing.line, self._changed.set, lambda: self.desired.bundle)
        self._ending: str | None = None
        self._started = False
        self._exit_code: int | None = None
        self._asked_to_end = asyncio.Event()
        self._forced = asyncio.Event()
        self.ended = asyncio.Event()
        """The shutdown is over: every agent has gone."""
        self.killed: list[str] = []
        """Replicas that the shutdown had to kill."""
        self.failed: list[str] = []
        """Agents that ended themselves by force or failed while the domain ended: why."""
        self._waiting = ""
        self._copies = Copies(self.desired, self._put_copies, self._remove, lambda text: audience.say(text, level="warning"))
        self._server = CommandServer(state.run / SOCKET, Commands(self).handle)
        self._told: dict[str, str] = {}

    # ------------------------------------------------------------------ the whole life

    async def run(self) -> int:
        """Until the domain has ended. Returns the exit code of `ganglion up`.

        Raises:
            ganglion.local.spawner.SpawnerError: no process can be started.
        """
        loop = asyncio.get_running_loop()
        for number, code in ((signal.SIGINT, EXIT_INTERRUPTED), (signal.SIGTERM, EXIT_TERMINATED)):
            loop.add_signal_handler(number, self._on_signal, signal.Signals(number).name, code)
        try:
            self._spawner.attach()
            self._attendant.start()
            await self._server.start()
            self._state.announce()
            await self._until(asyncio.gather(self._spawner.ready(), self._attendant.declare(self.domain())))
            if self._attendant.status is not None and not self._asked_to_end.is_set():
                self._reconcile()
            self._started = True
            await self._watch()
            await self._shut_down()
        finally:
            for number in (signal.SIGINT, signal.SIGTERM):
                loop.remove_signal_handler(number)
            await self._server.close()
            await self._attendant.close()
            self._spawner.close()
            self._sparing.flush(final=True)
        return self._exit_code or (EXIT_FAILURE if self.killed or self.failed else EXIT_OK)

    def _on_signal(self, name: str, code: int) -> None:
        if self._asked_to_end.is_set():
            self._audience.say(f"{name} again: ending everything at once", level="warning")
            self._forced.set()
            return
        self.end(f"{name}: shutting down in order; once more ends everything at once", code)

    def end(self, reason: str, code: int) -> None:
        """Begin the ordered shutdown; the first caller decides the exit code."""
        if self._asked_to_end.is_set():
            return
        self._ending, self._exit_code = reason, code
        self._audience.say(reason)
        self._asked_to_end.set()
        self._changed.set()

    async def _until(self, work: Any) -> None:
        """Wait for `work`, or for the end."""
        task = asyncio.ensure_future(work)
        ending = asyncio.ensure_future(self._asked_to_end.wait())
        try:
            await asyncio.wait((task, ending), return_when=asyncio.FIRST_COMPLETED)
            if task.done():
                task.result()
        finally:
            for item in (task, ending):
                item.cancel()
            await asyncio.gather(task, ending, return_exceptions=True)

    async def _watch(self) -> None:
        """Follow what happens until something asks for the end."""
        attending = asyncio.ensure_future(self._attendant.attend(self.domain))
        try:
            while not self._asked_to_end.is_set():
                await self._changed.wait()
                self._changed.clear()
                if attending.done():
                    attending.result()
                self._observe()
                for group in self._groups.values():
                    group.step()
                self._judge()
                self._audience.refresh()
        finally:
            attending.cancel()
            await asyncio.gather(attending, return_exceptions=True)

    # ------------------------------------------------------------------ intent

    def domain(self) -> Any:
        """What the name server should know now."""
        groups = self._groups
        troubles = {name: _trouble(groups[name]) for name in self.desired.copies if name in groups}
        return self.desired.domain({name: group.succeeded for name, group in groups.items()}, troubles)

    def _reconcile(self) -> None:
        for name, agent in self.desired.bundle.agents.items():
            group = self._groups.get(name)
            if group is None:
                group = self._groups[name] = Group(self._host, agent, self.desired.seat)
            group.set(agent, self.desired.plans[name])
        self._changed.set()

    async def put(self, bundle: Bundle, *, retry: bool = True) -> None:
        """Put other manifests in force, judged by the caller. The name server hears of new agents before they join.

        Args:
            retry: start at once what waits for its back-off, because the change may help it.
        """
        self.desired.set(bundle)
        await self.declare()
        for group in self._groups.values() if retry else ():
            group.retry()
        self._reconcile()

    async def declare(self) -> None:
        """Tell the name server what is declared now."""
        await self._attendant.declare(self.domain())

    async def _put_copies(self) -> None:
        await self.declare()
        if not self._asked_to_end.is_set():
            self._reconcile()

    async def remove_agent(self, name: str) -> None:
        """Drain an agent that a user has deleted, and forget it."""
        self._copies.deleted(name)
        await self._remove(name)

    async def _remove(self, name: str) -> None:
        group = self._groups.get(name)
        if group is None:
            return
        await group.remove()
        self._groups.pop(name, None)
        bundle = self.desired.bundle
        bundle.agents.pop(name, None)
        self.desired.set(bundle)
        await self.declare()
        self._reconcile()

    # ------------------------------------------------------------------ what is seen

    def _observe(self) -> None:
        answer = self._attendant.status
        if answer is None:
            return
        members = {member.replica: member for member in answer.members}
        counts = {count.name: count for count in answer.agents}
        for name, group in self._groups.items():
            count = counts.get(name)
            group.counts = Counts(count.joined, count.wired) if count is not None else Counts()
            for replica in group.replicas.values():
                member = members.get(replica.name)
                replica.ready = replica.runs and member is not None and member.phase == "Ready"
                if replica.ready:
                    replica.problem = None
        for notice in self._attendant.new_notices():
            self._sparing.notice(notice.replica, notice.reason, notice.channel, notice.message)
        self._sparing.flush()
        self._copies.follow(answer.copies)

    def _judge(self) -> None:
        """Tell of troubles, and end the domain when its work is done or cannot be done."""
        for group in self._groups.values():
            trouble = group.problem
            text = f"Agent/{group.agent.name}: {trouble.reason}: {trouble.message}" if trouble is not None else ""
            if text and self._told.get(group.agent.name) != text:
                self._audience.say(text, level="error" if trouble is not None and trouble.reason == "ConfigurationError" else "warning")
            self._told[group.agent.name] = text
        server = self._attendant.problem
        if server is not None:
            self.end(f"NameServer/{self.desired.name_server.name}: {server.reason}: {server.message}", EXIT_CONFIGURATION)
        if self._stay:
            return
        # Copies are programs' own: who has asked for one is told how it ends.
        groups = [group for name, group in self._groups.items() if name not in self.desired.copies]
        wrong = next((group for group in groups if group.misconfigured is not None), None)
        if wrong is not None:
            self.end(f"Agent/{wrong.agent.name} cannot start; shutting down", EXIT_CONFIGURATION)
        once = [group for group in groups if group.agent.spec.run == "Once"]
        failed = next((group for group in once if group.gave_up), None)
        if failed is not None:
            self.end(f"Agent/{failed.agent.name} failed {failed.failures} times; shutting down", EXIT_FAILURE)
        elif once and all(group.finished for group in once):
            self.end("every agent that runs once has finished; shutting down", EXIT_OK)

    def snapshot(self) -> dict[str, Any]:
        """Everything that `ganglion get` and the live table show."""
        answer = self._attendant.status
        problem = self._attendant.problem
        trouble = (problem.reason, problem.message) if isinstance(problem, Problem) else None
        seen = NameServerObserved(answer is not None, trouble, refused=self._copies.refused)
        status.refresh(self.desired, self._groups, seen, self._attendant.last)
        members = {member.replica: member for member in answer.members} if answer is not None else {}
        bundle = self.desired.bundle
        objects = [*bundle.name_servers.values(), *bundle.channels.values(), *bundle.agents.values()]
        replicas = [replica for group in self._groups.values() for _, replica in sorted(group.replicas.items())]
        return {
            "domain": self._state.domain,
            "started": self._started,
            "ending": self._ending,
            "waiting": self._waiting,
            "nameServer": status.server_row(self._attendant.child, answer is not None),
            "objects": [item.to_dict() for item in objects],
            "replicas": [status.replica_row(replica, members.get(replica.name)) for replica in replicas],
            "logs": str(self._state.logs),
        }

    # ------------------------------------------------------------------ the end

    async def _shut_down(self) -> None:
        """The ordered shutdown with the flow: agents first, the name server last, all within `shutdown.timeoutSeconds`."""
        timeout = float(self.desired.name_server.spec.shutdown.timeout_seconds)
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout
        groups = list(self._groups.values())
        there = [replica for group in groups for replica in group.replicas.values() if not replica.finished.is_set()]
        for group in groups:
            group.close()
        await self._copies.close()
        polite = await self._attendant.shut_down(timeout)
        waiting = [asyncio.ensure_future(group.wait()) for group in groups]
        observing = asyncio.ensure_future(self._attendant.observe())
        telling = asyncio.ensure_future(farewell.tell(there, deadline, self._tell_waiting))
        try:
            if polite:
                await self._gone(waiting, max(0.0, timeout - LEAVE_MARGIN_SECONDS))
            leftover = [replica for replica in there if not replica.finished.is_set()]
            if leftover and not self._forced.is_set():
                leaving = asyncio.gather(*(replica.drain(max(STOP_SECONDS, deadline - loop.time())) for replica in leftover))
                await self._gone([asyncio.ensure_future(leaving)], max(STOP_SECONDS, deadline - loop.time()))
            await asyncio.gather(*(group.kill() for group in groups))
            self.killed = [replica.name for replica in there if replica.was_killed]
            self.failed = [why for replica in there if (why := replica.failed_at_the_end)]
        finally:
            observing.cancel()
            telling.cancel()
            for task in waiting:
                task.cancel()
            await asyncio.gather(*waiting, observing, telling, return_exceptions=True)
        self._waiting = ""
        await self._attendant.stop(0.0 if self._forced.is_set() else LEAVE_MARGIN_SECONDS)
        if self.killed:
            self._audience.say(f"killed because they did not end in time: {', '.join(self.killed)}", level="warning")
        for why in self.failed:
            self._audience.say(f"did not end in order: {why}", level="warning")
        self._audience.refresh()
        self.ended.set()

    def _tell_waiting(self, text: str) -> None:
        self._waiting = text
        self._audience.say(text)

    async def _gone(self, tasks: Sequence[asyncio.Future[Any]], seconds: float) -> None:
        """Wait for the tasks, for a second Ctrl-C, or until the time is over."""
        if not tasks:
            return
        everything = asyncio.ensure_future(asyncio.wait(tasks))
        forced = asyncio.ensure_future(self._forced.wait())
        try:
            await asyncio.wait((everything, forced), timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for item in (everything, forced):
                item.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.gather(everything, forced, return_exceptions=True)

    @property
    def complete(self) -> bool:
        """Whether no `run: Once` agent has work left."""
        return all(
            group.finished for name, group in self._groups.items() if group.agent.spec.run == "Once" and name not in self.desired.copies
        )

    @property
    def groups(self) -> Mapping[str, Group]:
        """Agents by name."""
        return self._groups

    @property
    def ending(self) -> bool:
        """Whether the shutdown has begun."""
        return self._asked_to_end.is_set()


def _trouble(group: Group) -> tuple[str, bool]:
    """(why a copy is not ready, whether it is over)."""
    problem = group.problem
    over = group.finished or group.gave_up or group.misconfigured is not None
    return f"{problem.reason}: {problem.message}" if problem is not None else "", over
