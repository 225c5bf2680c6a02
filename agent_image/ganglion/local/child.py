"""One process that is kept running, as a kubelet keeps a container."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Callable
from enum import Enum

from ganglion.local.backoff import Backoff
from ganglion.local.logs import LogPipe
from ganglion.local.spawner import Program, Spawner

EXIT_FAILURE = 1
EXIT_CONFIGURATION = 78
CONFIGURATION_SECONDS = 1.0
"""Shortest wait after that exit code: nothing heals it but a change."""
KILL_SECONDS = 5.0
"""After SIGKILL the kernel needs a moment; a process that it cannot end (stuck in a device) is left behind."""


class State(Enum):
    """Where the process is."""

    NEW = "New"
    RUNNING = "Running"
    WAITING = "Waiting"
    """Ended, and will be started again after its back-off."""
    ENDED = "Ended"


class Child:
    """A process and its restarts.

    Args:
        program: asked before each start.
        log: where its output goes; closed at the end.
        restart: `restart(exit code) -> bool`, asked after each end unless a stop was asked for.
        changed: called after every change of state.
    """

    def __init__(
        self,
        spawner: Spawner,
        program: Callable[[], Program],
        log: LogPipe,
        restart: Callable[[int], bool],
        changed: Callable[[], None],
    ) -> None:
        self._spawner = spawner
        self._program = program
        self._restart = restart
        self._changed = changed
        self._backoff = Backoff()
        self._name: str | None = None
        self._started = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._loop = asyncio.get_running_loop()
        self.log = log
        self.state = State.NEW
        self.starts = 0
        self.exit_code: int | None = None
        self.not_started = ""
        """Why this machine could not start it the last time it tried."""
        self.stopping = False
        self.retry_seconds = 0.0
        """Length of the present back-off."""
        self.ended = asyncio.Event()

    @property
    def pid(self) -> int | None:
        """Process id while it runs."""
        return self._spawner.pid(self._name) if self._name is not None else None

    @property
    def restarts(self) -> int:
        """Starts beyond the first."""
        return max(0, self.starts - 1)

    def start(self) -> None:
        """Start the process now, unless it runs."""
        if self.state in (State.RUNNING, State.ENDED) or self.stopping:
            return
        if self._timer is not None:
            # Two processes would be two lives of one replica at a time, and fence each other.
            self._timer.cancel()
            self._timer = None
        self.starts += 1
        self._started = self._loop.time()
        self.state = State.RUNNING
        self.not_started = ""
        try:
            self._name = self._spawner.spawn(self._program(), self.log.write_end, self._on_end)
        except OSError as error:
            self.not_started = f"cannot be started: {error.strerror}"
            # Not from here: whoever starts it does not expect its end before this returns.
            self._loop.call_soon(self._on_no_start)
        self._changed()

    def _on_no_start(self) -> None:
        # Somebody may have asked for its end meanwhile, which needs no waiting.
        if self.state is not State.ENDED:
            self._on_end(EXIT_FAILURE)

    def _on_end(self, code: int) -> None:
        self._name = None
        self.exit_code = code
        self.log.drain()
        if self.stopping or not self._restart(code):
            self._finish()
            return
        delay = self._backoff.ended(self._started, self._loop.time())
        if code == EXIT_CONFIGURATION:
            delay = max(delay, CONFIGURATION_SECONDS)
        self.retry_seconds = delay
        self.state = State.WAITING
        self._timer = self._loop.call_later(delay, self.start)
        self._changed()

    def _finish(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self.state = State.ENDED
        self.log.close()
        self.ended.set()
        self._changed()

    def signal(self, number: int) -> None:
        """Signal the process group, if it runs."""
        if self._name is not None:
            self._spawner.signal(self._name, number)

    def expect_end(self) -> None:
        """Do not start it again; when it waits for its next start, it has ended."""
        self.stopping = True
        if self._name is None and self.state is not State.ENDED:
            self._finish()

    async def stop(self, grace: float) -> None:
        """SIGTERM, and SIGKILL when it has not ended in time.

        Args:
            grace: seconds.
        """
        self.expect_end()
        self.signal(signal.SIGTERM)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(grace):
                await self.ended.wait()
            return
        await self.kill()

    async def kill(self) -> None:
        """SIGKILL, and wait for the end."""
        self.expect_end()
        self.signal(signal.SIGKILL)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(KILL_SECONDS):
                await self.ended.wait()
        if self.state is not State.ENDED:
            self._name = None
            self._finish()
