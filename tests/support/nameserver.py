"""A real name server process and real members for tests."""

from __future__ import annotations

import asyncio
import os
import secrets
import signal
import subprocess
import sys
import threading
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Self

from ganglion.nameserver.admin import AdminClient
from ganglion.nameserver.registry import LEASE_SECONDS
from ganglion.runtime.control import ControlListener, ControlThread, NameServerUplink
from ganglion.runtime.sockets import CurveKeys
from ganglion.wire.admin import DeclaredAgent, DeclaredChannel, Domain
from ganglion.wire.control import ChannelReport, ChannelState, Command, Incarnation, Part, Peer, Refuse, Report
from tests.support.ports import free_port
from tests.support.wait import wait_for


def pipeline(replicas: int = 1, workers: int = 1) -> Domain:
    """`source` pushes on `lines`, `worker` pulls."""
    return Domain(
        agents={
            "source": DeclaredAgent(name="source", replicas=replicas, run="Once", roles={"lines": ["Push"]}),
            "worker": DeclaredAgent(name="worker", replicas=workers, roles={"lines": ["Pull"]}),
        },
        channels={"lines": DeclaredChannel(name="lines", pattern="PushPull")},
    )


class NameServerProcess:
    """`python -m ganglion.nameserver` with an admin socket; keeps its keys and port over restarts.

    Args:
        directory: short path; gets keys, secret, log and admin socket.
        extra: environment on top.
    """

    def __init__(self, directory: Path, *, security: str = "Curve", extra: Mapping[str, str] | None = None) -> None:
        self.directory = directory
        self.keys = CurveKeys.generate()
        self.secret_file = directory / "secret"
        self.secret_file.write_text(secrets.token_hex(16))
        keys = directory / "keys"
        keys.mkdir()
        (keys / "public").write_text(self.keys.public)
        (keys / "secret").write_text(self.keys.secret)
        self.admin_path = directory / "admin.sock"
        self.environment = {
            **os.environ,
            "GANGLION_NAMESERVER": "demo",
            "GANGLION_NAMESPACE": "default",
            "GANGLION_NAMESERVER_UID": "ns-uid",
            "GANGLION_SECURITY": security,
            "GANGLION_KEY_DIR": str(keys),
            "GANGLION_JOIN_SECRET_FILE": str(self.secret_file),
            "GANGLION_ADMIN_SOCKET": str(self.admin_path),
            # A port of its own: one that the kernel chose could be somebody else's when a killed name server comes back.
            "GANGLION_JOIN_ADDRESS": f"tcp://127.0.0.1:{free_port()}",
            **(extra or {}),
        }
        self.endpoint = ""
        self.log = directory / "nameserver.log"
        self._process: subprocess.Popen[bytes] | None = None
        self._client: AdminClient | None = None

    def start(self, domain: Domain | None = None) -> Self:
        """Start it (again) and declare a domain."""
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "ganglion.nameserver"], env=self.environment, stdout=log, stderr=subprocess.STDOUT
            )
        try:
            self.endpoint = self.admin.status(timeout=30).endpoint
        except BaseException:
            print(self.log.read_text())
            raise
        if domain is not None:
            self.admin.set_domain(domain)
        return self

    def start_bound(self) -> Self:
        """Start it (again) without an admin socket."""
        self.endpoint = self.environment["GANGLION_JOIN_ADDRESS"]
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "ganglion.nameserver"], env=self.environment, stdout=log, stderr=subprocess.STDOUT
            )
        return self

    @property
    def admin(self) -> AdminClient:
        if self._client is None:
            self._client = AdminClient(self.admin_path)
        return self._client

    @property
    def process(self) -> subprocess.Popen[bytes]:
        assert self._process is not None
        return self._process

    def kill(self) -> None:
        """SIGKILL."""
        self.process.kill()
        self.process.wait()

    def close(self) -> None:
        """SIGTERM, and SIGKILL and an error when it does not end in time."""
        if self._client is not None:
            self._client.close()
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            try:
                # While the domain ends it waits for its members: for the lease of one that was killed, too.
                self._process.wait(LEASE_SECONDS + 10)
            except subprocess.TimeoutExpired:
                self.kill()
                raise


class LoopThread:
    """An asyncio loop in a thread, as the main loop of members in a test."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever)
        self._thread.start()

    def close(self) -> None:
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join()
        self.loop.close()


class Heard:
    """A listener that remembers."""

    def __init__(self) -> None:
        self.epochs: list[str] = []
        self.peers: Mapping[str, Peer] = {}
        self.channels: Mapping[str, ChannelState] = {}
        self.directories = 0
        self.smallest = 0
        """Fewest peers in any directory since it was last set."""
        self.commands: list[Command] = []
        self.refusals: list[Refuse] = []
        self.lost = 0
        self.levels: list[str] = []
        self.listener = ControlListener(
            on_joined=self.epochs.append,
            on_directory=self._directory,
            on_command=self.commands.append,
            on_fatal=self.refusals.append,
            on_log_level=self.levels.append,
            on_lost=self._lost,
        )

    def _directory(self, peers: Mapping[str, Peer], channels: Mapping[str, ChannelState]) -> None:
        self.peers, self.channels = peers, channels
        self.directories += 1
        self.smallest = min(self.smallest, len(peers))

    def _lost(self) -> None:
        self.lost += 1


class TestMember:
    """A replica with a control thread and no data plane.

    Args:
        parts: alias → (channel, role).
        uid, start: its incarnation.
    """

    __test__ = False

    def __init__(
        self,
        server: NameServerProcess,
        loop: asyncio.AbstractEventLoop,
        replica: str,
        parts: Mapping[str, tuple[str, str]],
        *,
        uid: str | None = None,
        start: int = 1,
        server_key: str | None = None,
        token_file: Path | None = None,
        curve: bool = True,
        host: str = "127.0.0.1",
        keys: CurveKeys | None = None,
    ) -> None:
        self.keys = keys or CurveKeys.generate()
        self.heard = Heard()
        self.report = Report(phase="Ready", channels={alias: ChannelReport() for alias in parts})
        self.loop = loop
        agent = replica.rsplit("-", 1)[0]
        self.control = ControlThread(
            NameServerUplink(
                endpoint=server.endpoint,
                server_key=(server_key or server.keys.public) if curve else "",
                keys=self.keys if curve else None,
                agent=agent,
                replica=replica,
                incarnation=Incarnation(uid=uid or str(uuid.uuid4()), start=start, issued=1000 + start),
                host=host,
                token_file=token_file or server.secret_file,
                parts={alias: Part(channel, role) for alias, (channel, role) in parts.items()},
            ),
            loop=loop,
            report=lambda: self.report,
            listener=self.heard.listener,
        )
        self.control.start()

    def say(self, report: Report) -> None:
        """Report this from now on, at once."""
        self.report = report
        self.control.poke()

    def joined(self, timeout: float = 20.0) -> Self:
        """Wait for the first directory."""
        wait_for(lambda: self.heard.directories, timeout=timeout, what="first directory")
        return self

    def bye(self, *, completed: bool = False, within: float = 5.0) -> bool:
        return asyncio.run_coroutine_threadsafe(self.control.bye(completed, within), self.loop).result(within + 5)

    def close(self) -> None:
        self.control.stop()


@contextmanager
def members(server: NameServerProcess) -> Iterator[Members]:
    """A factory of members that closes them all."""
    factory = Members(server)
    try:
        yield factory
    finally:
        factory.close()


class Members:
    """See `members`."""

    def __init__(self, server: NameServerProcess) -> None:
        self.server = server
        self.thread = LoopThread()
        self._made: list[TestMember] = []

    def __call__(self, replica: str, parts: Mapping[str, tuple[str, str]], **other: object) -> TestMember:
        member = TestMember(self.server, self.thread.loop, replica, parts, **other)  # type: ignore[arg-type]
        self._made.append(member)
        return member

    def close(self) -> None:
        for member in self._made:
            member.close()
        self.thread.close()
