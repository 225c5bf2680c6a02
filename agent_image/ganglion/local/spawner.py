"""The supervisor's side of the zygote: start, signal and observe processes."""

from __future__ import annotations

import array
import asyncio
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ganglion.local.zygote import HEADER, PRELOAD

START_SECONDS = 60.0
"""Bound of the zygote's imports, on a machine that is busy and cold."""
STOP_SECONDS = 5.0


class SpawnerError(RuntimeError):
    """The zygote cannot be started or does not answer."""


@dataclass(frozen=True, slots=True)
class Program:
    """What to run.

    Attributes:
        env: the whole environment.
        entry: `agent`, `sidecar`, `nameserver` or `drain`: forked from the zygote.
        argv: arguments of the entry.
        command: a program of its own, with arguments, instead of an entry.
    """

    env: Mapping[str, str]
    entry: str = ""
    argv: Sequence[str] = ()
    command: Sequence[str] | None = None


Ended = Callable[[int], None]
"""Called once with the exit code; negative: the signal that ended the process."""


class Spawner:
    """Runs a zygote and keeps the table of its children. Restarts the zygote when it is killed.

    Used from one asyncio loop; `start`, then `attach`, then the rest. `ready` waits, everything else returns at once.

    Args:
        preload: modules that the zygote imports before it forks.
    """

    def __init__(self, preload: Sequence[str] = PRELOAD) -> None:
        self._preload = tuple(preload)
        self._inherited: Mapping[str, str] = {}
        """The zygote's environment."""
        self._process: subprocess.Popen[bytes] | None = None
        self._requests: socket.socket | None = None
        self._events = -1
        self._buffer = bytearray()
        self._outbox: deque[tuple[bytearray, tuple[int, ...]]] = deque()
        self._children: dict[str, Ended] = {}
        self._pids: dict[str, int] = {}
        self._next = 0
        self._ready: asyncio.Future[None] | None = None
        self._closed = False
        self._loop: asyncio.AbstractEventLoop | None = None

    def start(self) -> None:
        """Start the zygote without waiting for its imports. Needs no loop yet.

        Raises:
            SpawnerError: the interpreter cannot be started.
        """
        # A copy: each look into `os.environ` encodes and decodes.
        self._inherited = dict(os.environ)
        ours, theirs = socket.socketpair()
        read, write = os.pipe()
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "ganglion.local.zygote", str(theirs.fileno()), str(write), *self._preload],
                env=self._inherited,
                pass_fds=(theirs.fileno(), write),
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )
        except OSError as error:
            ours.close()
            os.close(read)
            raise SpawnerError(f"cannot start {sys.executable}: {error.strerror}") from error
        finally:
            theirs.close()
            os.close(write)
        ours.setblocking(False)
        os.set_blocking(read, False)
        self._requests, self._events = ours, read
        self._buffer.clear()

    def attach(self) -> None:
        """Listen to the zygote in the running loop. Requests may be made at once: they wait until its imports are done."""
        loop = asyncio.get_running_loop()
        self._loop = loop
        self._ready = loop.create_future()
        # Nobody may wait for it: an unread exception of a closed spawner is no news.
        self._ready.add_done_callback(lambda future: future.cancelled() or future.exception())
        loop.add_reader(self._events, self._on_events)

    async def ready(self) -> None:
        """Wait until everything is imported.

        Raises:
            SpawnerError: the zygote ended, or took longer than 60 s.
        """
        assert self._ready is not None
        try:
            async with asyncio.timeout(START_SECONDS):
                await asyncio.shield(self._ready)
        except TimeoutError as error:
            self.close()
            raise SpawnerError(f"the process that forks agents was not ready within {START_SECONDS:.0f} s") from error

    def spawn(self, program: Program, output: int, ended: Ended, errors: int | None = None) -> str:
        """Start a process; its stdout and stderr go to `output`, or stderr to `errors` (descriptors, which stay the caller's).

        Returns:
            the id for `signal` and `pid`.
        Raises:
            OSError: no descriptor is left; nothing was started and `ended` is not called.
        """
        self._next += 1
        name = str(self._next)
        if self._requests is None and not self._closed:
            # It ended while it started, and was not started again: what is asked of it now ends like what was asked before.
            asyncio.get_running_loop().call_soon(ended, -9)
            return name
        # What is different is enough.
        inherited = self._inherited
        changed = {key: value for key, value in program.env.items() if inherited.get(key) != value}
        request: dict[str, Any] = {"id": name, "env": changed, "unset": [key for key in inherited if key not in program.env]}
        if program.command is not None:
            request["command"] = list(program.command)
        else:
            request |= {"entry": program.entry, "argv": list(program.argv)}
        self._send(request, (output,) if errors is None else (output, errors))
        self._children[name] = ended
        return name

    def signal(self, name: str, number: int) -> None:
        """Signal the whole process group; nothing happens when the process has ended."""
        if name in self._children:
            self._send({"id": name, "signal": int(number)}, ())

    def pid(self, name: str) -> int | None:
        """Process id, once known."""
        return self._pids.get(name)

    def _send(self, request: dict[str, Any], descriptors: tuple[int, ...]) -> None:
        body = json.dumps(request).encode()
        # The caller may close its descriptors before the zygote takes the request.
        kept: tuple[int, ...] = ()
        try:
            for descriptor in descriptors:
                kept += (os.dup(descriptor),)
        except OSError:
            _close_all(kept)
            raise
        self._outbox.append((bytearray(HEADER.pack(len(body), len(kept)) + body), kept))
        if len(self._outbox) == 1:
            self._flush()

    def _flush(self) -> None:
        """Send what the socket takes; the loop calls again when it takes more."""
        try:
            while self._outbox and self._requests is not None:
                data, descriptors = self._outbox[0]
                if descriptors:
                    # They ride on the header alone, which the zygote reads alone.
                    rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))]
                    sent = self._requests.sendmsg([data[: HEADER.size]], rights)
                    self._outbox[0] = (data, ())
                    _close_all(descriptors)
                else:
                    sent = self._requests.send(data)
                del data[:sent]
                if not data:
                    self._outbox.popleft()
        except BlockingIOError:
            pass
        except OSError:
            # It is gone: its end, seen on the event pipe, ends every child and starts another.
            return
        if self._loop is not None and self._requests is not None:
            if self._outbox:
                self._loop.add_writer(self._requests, self._flush)
            else:
                self._loop.remove_writer(self._requests)

    def _on_events(self) -> None:
        try:
            chunk = os.read(self._events, 1 << 16)
        except BlockingIOError:
            return
        if not chunk:
            self._lost()
            return
        self._buffer += chunk
        *lines, rest = bytes(self._buffer).split(b"\n")
        self._buffer = bytearray(rest)
        for line in lines:
            self._event(json.loads(line))

    def _event(self, event: dict[str, Any]) -> None:
        if "ready" in event:
            if self._ready is not None and not self._ready.done():
                self._ready.set_result(None)
        elif "pid" in event:
            self._pids[event["id"]] = event["pid"]
        else:
            self._pids.pop(event["id"], None)
            ended = self._children.pop(event["id"], None)
            if ended is not None:
                ended(int(event["exit"]))

    def _lost(self) -> None:
        """The zygote has ended, and with it all children: start another before they are told, so that they can be started again."""
        started = self._ready is not None and self._ready.done()
        self._dispose()
        children, self._children = self._children, {}
        # The kernel has killed the children, but not what those had started.
        for pid in self._pids.values():
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(pid, signal.SIGKILL)
        self._pids.clear()
        if not self._closed and started:
            self.start()
            self.attach()
        elif self._ready is not None and not self._ready.done():
            self._ready.set_exception(SpawnerError("the process that forks agents ended while it started; its error is above"))
        for ended in children.values():
            ended(-9)

    def _dispose(self) -> None:
        if self._events >= 0:
            if self._loop is not None and not self._loop.is_closed():
                self._loop.remove_reader(self._events)
            os.close(self._events)
            self._events = -1
        if self._requests is not None:
            if self._loop is not None and not self._loop.is_closed():
                self._loop.remove_writer(self._requests)
            self._requests.close()
            self._requests = None
        for _, descriptors in self._outbox:
            _close_all(descriptors)
        self._outbox.clear()
        if self._process is not None:
            try:
                self._process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._process = None

    def close(self) -> None:
        """Kill what is left and end the zygote; idempotent."""
        self._closed = True
        self._children.clear()
        self._dispose()


def _close_all(descriptors: Sequence[int]) -> None:
    for descriptor in descriptors:
        os.close(descriptor)
