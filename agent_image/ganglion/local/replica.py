"""One replica: an agent process, and the sidecar beside it, from start to end."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import signal
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from ganglion.local import environment, limits
from ganglion.local.bundle import Bundle
from ganglion.local.child import EXIT_CONFIGURATION, Child, State
from ganglion.local.environment import Options, Seat
from ganglion.local.logs import LogPipe
from ganglion.local.spawner import Program, Spawner
from ganglion.planner import pod_grace

SIDECAR_STOP_SECONDS = 5.0
"""A sidecar whose agent has gone has only its own sockets to close."""
ORPHAN_SECONDS = 1.0
"""An SDK process that has said goodbye to its sidecar needs no more to end by itself."""
NOT_STARTED = "CreateContainerError"
"""Reason when this machine cannot start a process; of a condition in a cluster, when a node cannot."""
EXIT_FAILED = 1
"""Of an SDK process, also when it ended itself because its time was over."""
_TERMINATION_BYTES = 4096
"""A kubelet reads as much of a termination message."""


class Phase(Enum):
    """Where the replica is."""

    RUNNING = "Running"
    DRAINING = "Draining"
    SUCCEEDED = "Succeeded"
    FAILED = "Failed"
    GONE = "Gone"


@dataclass(frozen=True, slots=True)
class Problem:
    """The worst trouble of a replica: a condition's reason and message."""

    reason: str
    message: str


@dataclass(frozen=True)
class Host:
    """What a replica needs of its supervisor.

    Attributes:
        logs: folder of the log files.
        line: `line(replica, source, text)` for each line printed; source is `agent` or `runtime`.
        changed: called after every change of a replica.
        bundle: the manifests as they are now.
    """

    spawner: Spawner
    options: Options
    logs: Path
    line: Callable[[str, str, str], None]
    changed: Callable[[], None]
    bundle: Callable[[], Bundle]


class Replica:
    """Starts when `start` is called; ends by itself (`run: Once`), by `drain`, or with its domain.

    Args:
        seat: names and paths.
        intent: hash of what the user wants of it.
        may_retry: `run: Once`: asked after each failure.
    Raises:
        OSError: this machine has no room for its files; nothing stays.
    """

    def __init__(self, host: Host, seat: Seat, intent: str, may_retry: Callable[[], bool]) -> None:
        self._host = host
        self._may_retry = may_retry
        self.seat = seat
        self.intent = intent
        self.name = seat.replica
        self.phase = Phase.RUNNING
        self.problem: Problem | None = None
        self.ready = False
        """The name server counts it as Ready; set from outside."""
        self.domain_ends = False
        """The whole domain shuts down: nothing is started again."""
        self._ran_at_the_end = False
        self.sidecar: Child | None = None
        with contextlib.ExitStack() as undo:
            seat.run.mkdir(mode=0o700, parents=True)
            undo.callback(shutil.rmtree, seat.run, ignore_errors=True)
            if seat.agent.spec.data_plane == "Sidecar":
                log = self._log("runtime")
                undo.callback(log.close)
                self.sidecar = Child(host.spawner, self._sidecar_program, log, self._restart_sidecar, self._sidecar_changed)
            self.agent = Child(host.spawner, self._agent_program, self._log("agent"), self._restart_agent, self._agent_changed)
            undo.pop_all()
        self.finished = asyncio.Event()
        """Both processes have ended for good."""
        self._ending: asyncio.Task[None] | None = None

    # ------------------------------------------------------------------ what runs

    def _log(self, source: str) -> LogPipe:
        suffix = "" if source == "agent" else f".{source}"
        return LogPipe(self._host.logs / f"{self.name}{suffix}.log", lambda text: self._host.line(self.name, source, text))

    def _sidecar_program(self) -> Program:
        limits.keep_spare()
        return Program(environment.for_sidecar(self.seat, self._host.options), entry="sidecar")

    def _agent_program(self) -> Program:
        limits.keep_spare()
        env = environment.for_agent(self.seat, self._host.options, self._host.bundle())
        container = self.seat.agent.spec.container
        if container is None:
            return Program(env, entry="agent")
        command = [environment.expand(item, env) for item in (*(container.command or ()), *(container.args or ()))]
        return Program(env, command=command)

    def start(self) -> None:
        """Start both processes at once: the agent waits for its sidecar's sockets by itself."""
        if self.sidecar is not None:
            self.sidecar.start()
        self.agent.start()

    @property
    def restarts(self) -> int:
        """Restarts of both processes."""
        return self.agent.restarts + (self.sidecar.restarts if self.sidecar is not None else 0)

    @property
    def runs(self) -> bool:
        """Whether every process of it is running."""
        return self.agent.state is State.RUNNING and (self.sidecar is None or self.sidecar.state is State.RUNNING)

    @property
    def was_killed(self) -> bool:
        """Whether one of its processes had to be ended by SIGKILL."""
        codes = (self.agent.exit_code, self.sidecar.exit_code if self.sidecar is not None else None)
        return not self.finished.is_set() or -signal.SIGKILL in codes

    @property
    def failed_at_the_end(self) -> str:
        """Why the agent did not end in order with its domain, e.g. because a handler did not return and its time was over; else empty.

        A program that speaks plain ZeroMQ may end with any code.
        """
        agent = self.agent
        if not self._ran_at_the_end or self.was_killed or self.seat.agent.spec.container is not None or agent.exit_code != EXIT_FAILED:
            return ""
        return f"{self.name}: exit code {agent.exit_code}" + (f"; it said: {agent.log.last_line[:300]}" if agent.log.last_line else "")

    # ------------------------------------------------------------------ when a process ends

    @property
    def _once(self) -> bool:
        return self.seat.agent.spec.run == "Once"

    def _restart_sidecar(self, code: int) -> bool:
        if self.domain_ends or self.agent.state is State.ENDED:
            return False
        if code == EXIT_CONFIGURATION:
            self._blame(Problem("ConfigurationError", f"sidecar: {self.sidecar.log.last_line if self.sidecar is not None else ''}"))
        elif self.sidecar is not None and self.sidecar.not_started:
            self._blame(Problem(NOT_STARTED, f"{self.name}: the sidecar {self.sidecar.not_started}"))
        return True

    def _restart_agent(self, code: int) -> bool:
        self.problem = self._explain(code)
        if self.domain_ends or (self._once and code == 0):
            return False
        # One that has no room waits for it; that says nothing of its work.
        return not self._once or bool(self.agent.not_started) or self._may_retry()

    def _explain(self, code: int) -> Problem | None:
        last = self._termination_message() or self.agent.log.last_line
        if code == 0:
            return None
        if self.agent.not_started:
            return Problem(NOT_STARTED, f"{self.name}: the agent process {self.agent.not_started}")
        if code == EXIT_CONFIGURATION:
            return Problem("ConfigurationError", last or "exit code 78")
        if code < 0:
            return Problem("Killed", f"the agent process was ended by {_signal_name(-code)}")
        return Problem("Error", f"the agent process ended with exit code {code}" + (f"; it said: {last[:300]}" if last else ""))

    def _termination_message(self) -> str:
        with contextlib.suppress(OSError):
            return self.seat.termination_log.read_text(encoding="utf-8", errors="replace")[:_TERMINATION_BYTES].strip()
        return ""

    def _blame(self, problem: Problem) -> None:
        self.problem = problem
        self._host.changed()

    def _sidecar_changed(self) -> None:
        sidecar = self.sidecar
        if sidecar is not None and sidecar.state is State.ENDED and self.agent.state is not State.ENDED and self.domain_ends:
            self.agent.expect_end()
            if self._ending is None:
                self._ending = asyncio.get_running_loop().create_task(self._end_orphan(sidecar.exit_code))
        self._conclude()
        self._host.changed()

    async def _end_orphan(self, sidecar_code: int | None) -> None:
        """End an agent whose sidecar has left with the domain.

        A program that speaks plain ZeroMQ hears of the end by SIGTERM. An SDK process has left before its sidecar; unless it came too late
        to meet it, or is frozen.
        """
        if self.seat.agent.spec.container is None and sidecar_code == 0:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(ORPHAN_SECONDS):
                    await self.agent.ended.wait()
        await self.agent.stop(self.grace)

    @property
    def grace(self) -> float:
        """Seconds after which whatever has not left by itself is killed."""
        server = next(iter(self._host.bundle().name_servers.values()))
        return float(pod_grace(self.seat.agent, server))

    def _agent_changed(self) -> None:
        agent = self.agent
        if agent.state is State.RUNNING:
            with contextlib.suppress(FileNotFoundError):
                self.seat.termination_log.unlink()
        if agent.state is State.ENDED and self.phase is Phase.RUNNING:
            if self._once and not agent.stopping:
                self.phase = Phase.SUCCEEDED if agent.exit_code == 0 else Phase.FAILED
            self._end_sidecar()
        self._conclude()
        self._host.changed()

    def _end_sidecar(self) -> None:
        """As a kubelet does: a native sidecar is told to stop when the agent has gone."""
        sidecar = self.sidecar
        if sidecar is not None and sidecar.state is not State.ENDED and self._ending is None:
            self._ending = asyncio.get_running_loop().create_task(sidecar.stop(SIDECAR_STOP_SECONDS))

    def _conclude(self) -> None:
        if self.finished.is_set() or self.agent.state is not State.ENDED:
            return
        if self.sidecar is not None and self.sidecar.state is not State.ENDED:
            return
        if self.phase in (Phase.RUNNING, Phase.DRAINING):
            self.phase = Phase.GONE
        self.finished.set()
        shutil.rmtree(self.seat.run, ignore_errors=True)

    # ------------------------------------------------------------------ leaving

    def end_with_domain(self) -> None:
        """The domain ends: nothing is started again, and nobody would start what waits for its back-off now."""
        self.domain_ends = True
        self._ran_at_the_end = self.agent.state is State.RUNNING
        for child in (self.agent, self.sidecar):
            if child is not None and child.state is State.WAITING:
                child.expect_end()

    async def drain(self, grace: float) -> None:
        """Leave politely: the sidecar hands back what the agent has not begun, the agent finishes and stops, then the sidecar.

        Args:
            grace: seconds until whatever still runs is killed.
        """
        if self.finished.is_set():
            return
        if self.phase is Phase.RUNNING:
            self.phase = Phase.DRAINING
        self._host.changed()
        loop = asyncio.get_running_loop()
        deadline = loop.time() + grace
        if self.sidecar is not None and self.sidecar.state is State.RUNNING and self.agent.state is State.RUNNING:
            self._ask_to_drain(grace)
        await self.agent.stop(grace)
        if self.sidecar is not None:
            await self.sidecar.stop(max(1.0, min(SIDECAR_STOP_SECONDS, deadline - loop.time())))
        await self._settled()

    def _ask_to_drain(self, grace: float) -> None:
        """The pod's preStop hook, which runs while the agent is told to stop."""
        assert self.sidecar is not None
        env = {**environment.for_sidecar(self.seat, self._host.options)}
        program = Program(env, entry="drain", argv=(f"--timeout={grace:.1f}",))
        # Without a descriptor for it, the agent is told to stop all the same.
        with contextlib.suppress(OSError):
            self._host.spawner.spawn(program, self.sidecar.log.write_end, lambda _code: None)

    async def kill(self) -> None:
        """End both processes at once."""
        await asyncio.gather(self.agent.kill(), *([self.sidecar.kill()] if self.sidecar is not None else []))
        await self._settled()

    async def _settled(self) -> None:
        if self._ending is not None:
            await self._ending
        self._conclude()


def _signal_name(number: int) -> str:
    with contextlib.suppress(ValueError):
        return signal.Signals(number).name
    # Most of the real-time signals have no name.
    return f"signal {number}"
