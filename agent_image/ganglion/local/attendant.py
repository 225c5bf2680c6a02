"""The name server's process, and the supervisor's conversation with it over the admin socket."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

from ganglion.api import NameServer
from ganglion.local import environment
from ganglion.local.admin import AdminError, AdminLink
from ganglion.local.child import EXIT_CONFIGURATION, Child, State
from ganglion.local.environment import HOST, Options
from ganglion.local.logs import LogPipe
from ganglion.local.replica import Problem
from ganglion.local.spawner import Program, Spawner
from ganglion.planner import NameServerAddress
from ganglion.runtime.sockets import CurveKeys
from ganglion.wire.admin import Domain, PostedNotice, Status

POLL_SECONDS = 0.25
"""How often counts are asked for; also the longest time until a restarted name server knows the domain again."""
STARTING_POLL_SECONDS = 0.05
"""While replicas are awaited: a person watches."""
START_SECONDS = 30.0
JOIN_SECRET = "join-secret"  # noqa: S105 - a file name
"""File in the run directory that every member proves itself with."""
_ADMIN_SOCKET = "admin.sock"


class Attendant:
    """Keeps the name server running and informed.

    Args:
        run: the run directory; holds its keys (0600), the join secret and the admin socket.
        changed: called when there are new counts, or the process changed.
    """

    def __init__(
        self,
        run: Path,
        spawner: Spawner,
        *,
        options: Options,
        logs: Path,
        line: Callable[[str, str, str], None],
        changed: Callable[[], None],
    ) -> None:
        self._run = run
        self._spawner = spawner
        self._options = options
        self._logs = logs
        self._line = line
        self._changed = changed
        self._env: dict[str, str] = {}
        self._link = AdminLink(run / _ADMIN_SOCKET)
        self._declared: tuple[int, Domain] | None = None
        self._seen_notices = 0
        self._notices: list[PostedNotice] = []
        self._nudge = asyncio.Event()
        self._name = ""
        self.status: Status | None = None
        """The name server's last answer; None while it does not run."""
        self.last: Status | None = None
        """The same, also after its end."""
        self._child: Child | None = None

    # ------------------------------------------------------------------ process

    def prepare(self, server: NameServer, uid: str) -> NameServerAddress:
        """Make keys and secret, and choose the port. Returns where agents join.

        Args:
            uid: of the NameServer, as the wiring documents have it.
        """
        self._name = server.name
        _write_private(self._run / JOIN_SECRET, secrets.token_hex(32))
        endpoint = f"tcp://{HOST}:{_free_port()}"
        self._env = {
            **environment.base(self._options, self._options.runtime_level),
            "GANGLION_NAMESERVER": server.name,
            "GANGLION_NAMESPACE": server.namespace,
            "GANGLION_NAMESERVER_UID": uid,
            "GANGLION_JOIN_ADDRESS": endpoint,
            "GANGLION_JOIN_SECRET_FILE": str(self._run / JOIN_SECRET),
            "GANGLION_SECURITY": server.spec.security,
            "GANGLION_ADMIN_SOCKET": str(self._run / _ADMIN_SOCKET),
            "GANGLION_SHUTDOWN_TIMEOUT_SECONDS": str(server.spec.shutdown.timeout_seconds),
        }
        if server.spec.security == "None":
            return NameServerAddress(endpoint, "")
        keys = CurveKeys.generate()
        folder = self._run / "keys"
        folder.mkdir(mode=0o700)
        _write_private(folder / "secret", keys.secret)
        _write_private(folder / "public", keys.public)
        self._env["GANGLION_KEY_DIR"] = str(folder)
        if server.spec.ad_hoc == "Allowed":
            self._env |= {"GANGLION_AD_HOC_ADDRESS": f"tcp://{HOST}:{_free_port()}", "GANGLION_REMOTE_CODE": server.spec.remote_code}
        return NameServerAddress(endpoint, keys.public)

    def start(self) -> None:
        """Start the name server, and keep it running."""
        log = LogPipe(self._logs / f"{self._name}.nameserver.log", lambda text: self._line(self._name, "nameserver", text))
        self._child = Child(self._spawner, self._program, log, lambda _code: True, self._on_change)
        self._child.start()

    def _program(self) -> Program:
        return Program(self._env, entry="nameserver")

    @property
    def child(self) -> Child | None:
        """The process; None before the start."""
        return self._child

    def _on_change(self) -> None:
        if self._child is not None and self._child.state is not State.RUNNING:
            self.status = None
        self._nudge.set()
        self._changed()

    @property
    def problem(self) -> Problem | None:
        """Why the name server cannot run at all."""
        child = self._child
        if child is not None and child.exit_code == EXIT_CONFIGURATION:
            return Problem("ConfigurationError", child.log.last_line)
        return None

    # ------------------------------------------------------------------ conversation

    async def declare(self, domain: Domain) -> None:
        """Tell the name server what is declared; returns when it knows, or after 30 s."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + START_SECONDS
        while loop.time() < deadline and self.problem is None:
            try:
                await self._exchange(domain)
            except AdminError:
                await self._pause()
            else:
                return

    async def attend(self, domain: Callable[[], Domain]) -> None:
        """Repeat what is declared after every change and every restart, and fetch the counts. Never returns."""
        while True:
            declared = domain()
            with contextlib.suppress(AdminError):
                await self._exchange(declared)
            await self._pause(POLL_SECONDS if self._complete(declared) else STARTING_POLL_SECONDS)

    async def observe(self) -> None:
        """Fetch the counts only: the shutdown has begun. Never returns."""
        while True:
            with contextlib.suppress(AdminError):
                self._take(await self._link.status(self._seen_notices))
            await self._pause()

    def _complete(self, domain: Domain) -> bool:
        """Whether every declared replica is there and ready, or has completed."""
        if self.status is None:
            return False
        wanted = sum(agent.replicas - agent.completed for agent in domain.agents.values())
        return sum(1 for member in self.status.members if member.phase != "Starting") >= wanted

    async def _pause(self, seconds: float = STARTING_POLL_SECONDS) -> None:
        self._nudge.clear()
        with contextlib.suppress(TimeoutError):
            # Not wait_for: before Python 3.12 it swallows a cancellation that comes together with the nudge.
            async with asyncio.timeout(seconds):
                await self._nudge.wait()

    async def _exchange(self, domain: Domain) -> None:
        # A restarted name server knows nothing: the number of its start is part of what was said.
        saying = (self._child.starts if self._child is not None else 0, domain)
        if saying != self._declared:
            await self._link.set_domain(domain)
            self._declared = saying
        self._take(await self._link.status(self._seen_notices))

    def _take(self, status: Status) -> None:
        if self.status is not None and self.status.epoch != status.epoch:
            self._seen_notices = 0
        self.status = self.last = status
        for notice in status.notices:
            if notice.number > self._seen_notices:
                self._seen_notices = notice.number
                self._notices.append(notice)
        self._changed()

    def new_notices(self) -> Iterator[PostedNotice]:
        """What people should see, once."""
        notices, self._notices = self._notices, []
        yield from notices

    async def shut_down(self, seconds: float) -> bool:
        """Begin the ordered shutdown of the domain. False: there is nobody to lead it.

        Args:
            seconds: until everything must be gone.
        """
        child = self._child
        if child is None or child.state is State.ENDED:
            return False
        # It leaves last and is not started again; a killed one would come back without a domain to shut down.
        try:
            await self._link.shut_down(seconds)
        except AdminError:
            return False
        finally:
            child.expect_end()
        return True

    async def stop(self, grace: float) -> None:
        """Wait for the name server to leave by itself, then end it.

        Args:
            grace: seconds.
        """
        if self._child is None:
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(grace):
                await self._child.ended.wait()
        await self._child.stop(1.0)

    async def close(self) -> None:
        """End the process, close the socket; idempotent."""
        if self._child is not None and self._child.state is not State.ENDED:
            await self._child.kill()
        self._link.close()


def _write_private(path: Path, text: str) -> None:
    path.touch(mode=0o600)
    path.write_text(text, encoding="utf-8")


def _free_port() -> int:
    """A free loopback port below the range that the kernel gives to outgoing connections, so that a restart finds it free."""
    lowest = 32768
    with contextlib.suppress(OSError, ValueError):
        lowest = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text(encoding="ascii").split()[0])
    span = max(lowest - 15000, 1000)
    for _ in range(200):
        port = 15000 + secrets.randbelow(span)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind((HOST, port))
            return port
    raise OSError("no free port on 127.0.0.1 between 15000 and 32768")
