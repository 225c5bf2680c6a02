"""A process that is forked ahead of the agent that it will run. A program that makes agents one after the other so waits for half of a start:
the next one's fork and first steps happen on another CPU, while the last one still begins.

`Ahead` is the program's side, `wait_for_agent` that of the process. It waits on its connection to `reports.sock`; what comes there is a
request as the zygote takes it, with descriptors for stdout and stderr. It is used only where its surroundings (environment, path, folder,
configuration) are those that the agent is to have; when the connection ends, it ends.
"""

from __future__ import annotations

import array
import asyncio
import base64
import contextlib
import json
import os
import socket
from collections.abc import Callable

from ganglion.local.spawner import Program, Spawner
from ganglion.local.zygote import HEADER, receive_request

ROLE = "ahead"
KEEP_SECONDS = 2.0
"""It waits so long, and none is made unless two agents were asked for within this time."""
HELLO_SECONDS = 5.0


class _Process:
    """One that waits for its agent, or for the connection on which it will."""

    def __init__(self, key: str, surroundings: str) -> None:
        self.key = key
        self.surroundings = surroundings
        self.id = ""
        self.connection: socket.socket | None = None
        self.request: bytes | None = None
        """What it is to run, once that is known."""
        self.ended: Callable[[int], None] | None = None
        """Of its agent's start."""
        self.unwanted = False


class Ahead:
    """See the module. Used in one asyncio loop.

    Args:
        spawner: forks it.
    """

    def __init__(self, spawner: Spawner) -> None:
        self._spawner = spawner
        self._loop = asyncio.get_running_loop()
        self._waiting: _Process | None = None
        self._expected: dict[str, _Process] = {}
        self._sending: set[asyncio.Task[None]] = set()
        self._last = -KEEP_SECONDS
        self._timer: asyncio.TimerHandle | None = None
        self._closed = False

    def give(self, surroundings: str, payload: str, key: str, ended: Callable[[int], None]) -> str | None:
        """Have the waiting process run an agent.

        Args:
            surroundings: the agent's; another process than one with just these is not used.
            payload, key: see `main`.
            ended: called once with its exit code, unless None is returned.
        Returns:
            Its id at the spawner; None when there is none.
        """
        process, self._waiting = self._waiting, None
        if process is None:
            return None
        if process.surroundings != surroundings:
            self._dismiss(process)
            return None
        process.request = json.dumps({"payload": payload, "key": key}).encode()
        if process.connection is not None and not self._send(process):
            self._dismiss(process)
            return None
        process.ended = ended
        return process.id

    def order(self, surroundings: str, program: Program, key: str) -> None:
        """An agent was asked for: when another one was just before, have a process ready for the next."""
        now = self._loop.time()
        again, self._last = now - self._last <= KEEP_SECONDS, now
        if not again or self._waiting is not None or self._closed:
            return
        process = self._waiting = self._expected[key] = _Process(key, surroundings)
        process.id = self._spawner.spawn(program, 1, lambda code: self._on_end(process, code), 2)
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_later(KEEP_SECONDS, self.dismiss)

    def arrived(self, key: str, connection: socket.socket) -> None:
        """A process waits on this connection."""
        process = self._expected.pop(key, None)
        if process is None or process.unwanted:
            connection.close()
            return
        connection.setblocking(False)
        process.connection = connection
        if process.request is not None and not self._send(process):
            # It has ended, which its agent's start will be told.
            connection.close()

    def _send(self, process: _Process) -> bool:
        """Hand over its agent. False when it has ended meanwhile."""
        connection, body = process.connection, process.request
        assert connection is not None
        assert body is not None
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", (1, 2)))]
        try:
            connection.sendmsg([HEADER.pack(len(body), 2)], rights)
        except OSError:
            return False
        task = self._loop.create_task(self._send_body(connection, body))
        self._sending.add(task)
        task.add_done_callback(self._sending.discard)
        return True

    async def _send_body(self, connection: socket.socket, body: bytes) -> None:
        try:
            # It has ended when this fails, and its end is told.
            with contextlib.suppress(OSError):
                await self._loop.sock_sendall(connection, body)
        finally:
            connection.close()

    def dismiss(self) -> None:
        """Have the one that waits end."""
        process, self._waiting = self._waiting, None
        if process is not None:
            self._dismiss(process)

    @staticmethod
    def _dismiss(process: _Process) -> None:
        process.unwanted = True
        if process.connection is not None:
            process.connection.close()

    def _on_end(self, process: _Process, code: int) -> None:
        self._expected.pop(process.key, None)
        if process.ended is not None:
            process.ended(code)
        elif self._waiting is process:
            self.dismiss()

    def close(self) -> None:
        """No more from now on; idempotent. Those that are being told their agent end with the spawner."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        self.dismiss()
        for task in self._sending:
            task.cancel()


def wait_for_agent(path: str, key: str) -> tuple[bytes, str] | None:
    """Wait until this process is told which agent it is; from then on its stdout and stderr are those of that agent.

    Args:
        path: of the program's socket.
        key: by which the program knows this process.
    Returns:
        (payload, key) as of `main`; None when it is not needed any more: the program ends that wait, and the zygote this process.
    """
    with socket.socket(socket.AF_UNIX) as connection:
        try:
            connection.settimeout(HELLO_SECONDS)
            connection.connect(path)
            connection.sendall(json.dumps({"key": key, "ahead": True}).encode() + b"\n")
            connection.settimeout(None)
            received = receive_request(connection)
        except OSError:
            # The program has gone.
            return None
    if received is None:
        return None
    request, descriptors = received
    for target, descriptor in zip((1, 2), descriptors, strict=True):
        os.dup2(descriptor, target)
        os.close(descriptor)
    return base64.b64decode(request["payload"]), str(request["key"])
