"""Processes and threads that this process has started: agents and name servers of `run_agent` and `run_nameserver`.

One per process, made when it is first needed: a thread with a loop, and a zygote that forks. When the program ends, it waits for what still
runs, as for child processes of `multiprocessing`; when an exception or Ctrl-C ends it, they are told to end. When it is killed, the zygote
ends them: nobody is left.
"""

from __future__ import annotations

import asyncio
import atexit
import base64
import contextlib
import json
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ganglion.imperative.ahead import ROLE, Ahead
from ganglion.imperative.errors import AgentStartError
from ganglion.imperative.leftovers import MIN_AGE_SECONDS, sweep
from ganglion.imperative.secret import join_secret
from ganglion.imperative.settings import config
from ganglion.imperative.values import dumps
from ganglion.local import folders
from ganglion.local.spawner import Program, Spawner
from ganglion.sdk.companions import end_with_agent

PRELOAD = ("ganglion.imperative.preload",)
START_SECONDS = 60.0
"""Bound of a start: the zygote's imports, the fork, and the agent's on_init."""
END_SECONDS = 6.0
"""After SIGTERM; what then still runs is killed."""

Report = dict[str, Any]

_ending = threading.Event()
"""The interpreter ends: from now on it waits for no thread, so none may begin that holds connections."""


class Child:
    """A process or thread that was started."""

    def __init__(self) -> None:
        self.id = ""
        self.life = b""
        """Of the agent that it runs, once known."""
        self.report: Report | None = None
        self.reported = threading.Event()
        self.ended = threading.Event()
        self.code = 0
        """How it has ended: its exit code, or the negative number of the signal that killed it."""
        self.on_end: Callable[[], None] | None = None
        self.given_up = False
        """Nobody waits for it any more: it is to end as soon as it can."""
        self.abandon: Callable[[], None] | None = None

    def tell(self, report: Report) -> None:
        """What it says of its start; the first word counts."""
        if self.report is None:
            self.report = report
            self.reported.set()

    def finish(self, code: int) -> None:
        """It has ended."""
        self.tell({"failed": f"the process ended with code {code} before it had started"})
        self.code = code
        self.ended.set()
        if self.on_end is not None and code != 0 and not _ending.is_set():
            # It talks to the name server, and this is the loop's thread. Not a daemon: at the program's end the interpreter waits for it,
            # and only then are connections closed, which must not happen under a thread that uses them.
            # Said, because the loop's thread is a daemon, and what it starts would be one too.
            threading.Thread(target=self.on_end, name="ganglion-farewell", daemon=False).start()

    def wait(self) -> Report:
        """What it said of its start.

        Raises:
            AgentStartError: it failed, or said nothing in time.
        """
        if not self.reported.wait(START_SECONDS):
            # It must not appear after its caller was told that it failed.
            self.given_up = True
            if self.abandon is not None:
                self.abandon()
            raise AgentStartError(f"it had not started after {START_SECONDS:g} s, and was ended; is on_init waiting for something?")
        assert self.report is not None
        if "failed" in self.report:
            raise AgentStartError(f"An error occurred while creating the daemon!\n===============\n{self.report['failed']}")
        return self.report


class Host:
    """See the module."""

    def __init__(self) -> None:
        self.pid = os.getpid()
        self._children: set[Child] = set()
        self._lock = threading.Lock()
        self._folder: folders.RunFolder | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._spawner: Spawner | None = None
        self._server: asyncio.Server | None = None
        self._ahead: Ahead | None = None
        self._sweep: asyncio.TimerHandle | None = None
        self._sweep_again = False
        self._closed = False
        atexit.register(self.at_exit)
        end_with_agent(self.close)

    # -- threads

    def adopt(self, child: Child) -> None:
        """Wait for it at the end."""
        with self._lock:
            self._children.add(child)

    def release(self, child: Child) -> None:
        """It has ended."""
        with self._lock:
            self._children.discard(child)

    # -- processes

    def spawn(self, role: str, payload: bytes) -> Child:
        """Fork a process that runs `ganglion.imperative.main`.

        Args:
            role: `agent` or `nameserver`.
            payload: what it is made of, encoded.
        Raises:
            AgentStartError: no process can be started.
        """
        self._ensure()
        assert self._loop is not None
        assert self._spawner is not None
        # Made here when it is missing, not by several children at once.
        join_secret()
        environ = dict(os.environ)
        context = {
            "environ": environ,
            "path": list(sys.path),
            "cwd": str(Path.cwd()),
            "report": str(self._socket),
            "config": dict(config),
        }
        surroundings, body = (base64.b64encode(part).decode("ascii") for part in (dumps(context), payload))
        child = Child()
        child.abandon = lambda: self.kill(child)
        self.adopt(child)
        key = self._expect(child)

        def program(role: str, body: str, key: str) -> Program:
            return Program(env=environ, entry="imperative", argv=(role, surroundings, body, key))

        for stream in (sys.stdout, sys.stderr):
            # What was written before must come before what the child writes.
            with contextlib.suppress(AttributeError, OSError, ValueError):
                stream.flush()

        def start() -> None:
            assert self._spawner is not None
            assert self._ahead is not None

            def ended(code: int) -> None:
                self.release(child)
                self._by_id.pop(child.id, None)
                self._expected.pop(key, None)
                child.finish(code)
                if code != 0:
                    self._sweep_soon()

            made = self._ahead.give(surroundings, body, key, ended) if role == "agent" else None
            child.id = made or self._spawner.spawn(program(role, body, key), 1, ended, 2)
            self._by_id[child.id] = child
            if role == "agent":
                another = _random_key()
                self._ahead.order(surroundings, program(ROLE, "", another), another)

        self._loop.call_soon_threadsafe(start)
        return child

    @property
    def _socket(self) -> Path:
        assert self._folder is not None
        return self._folder.path / "reports.sock"

    def _expect(self, child: Child) -> str:
        key = _random_key()
        self._expected[key] = child
        return key

    def _ensure(self) -> None:
        with self._lock:
            if self._thread is not None:
                return
            if self._closed:
                raise AgentStartError("this process is ending; nothing can be started any more")
            self._by_id: dict[str, Child] = {}
            self._expected: dict[str, Child] = {}
            self._folder = folders.RunFolder()
            self._loop = asyncio.new_event_loop()
            self._spawner = Spawner(PRELOAD)
            self._spawner.start()
            started = threading.Event()
            self._thread = threading.Thread(target=self._run, args=(started,), name="ganglion-host", daemon=True)
            self._thread.start()
        if not started.wait(START_SECONDS):
            raise AgentStartError("the thread that starts agents did not begin")

    def _run(self, started: threading.Event) -> None:
        assert self._loop is not None
        asyncio.set_event_loop(self._loop)

        async def begin() -> None:
            assert self._spawner is not None
            self._spawner.attach()
            self._ahead = Ahead(self._spawner)
            self._server = await asyncio.start_unix_server(self._hear, self._socket, limit=1 << 24)
            # Of programs that were killed with all their agents.
            self._sweep_soon()
            asyncio.get_running_loop().call_soon(folders.sweep)

        self._loop.run_until_complete(begin())
        started.set()
        self._loop.run_forever()

    async def _hear(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """A child's report: one line of JSON."""
        try:
            async with asyncio.timeout(START_SECONDS):
                line = await reader.readline()
            report = json.loads(line)
            key = str(report.get("key"))
            if report.get("ahead"):
                assert self._ahead is not None
                # Descriptors go with what it is sent; asyncio's streams cannot do that.
                self._ahead.arrived(key, socket.socket(fileno=os.dup(writer.get_extra_info("socket").fileno())))
                return
            child = self._expected.pop(key, None)
            if child is not None:
                child.tell(report)
        except (ValueError, OSError, TimeoutError):
            # It ended half-way: its end says the rest.
            pass
        finally:
            writer.close()

    def _sweep_soon(self) -> None:
        """Remove the ipc files that killed processes have left, once for all that are killed about now. The loop's thread."""
        if self._sweep is not None:
            # It may come before the files of the one that was killed now are old enough.
            self._sweep_again = True
        elif self._loop is not None:
            self._sweep = self._loop.call_later(2 * MIN_AGE_SECONDS, self._sweep_now)

    def _sweep_now(self) -> None:
        self._sweep = None
        sweep(Path(config["IPC_DIR"]))
        if self._sweep_again:
            self._sweep_again = False
            self._sweep_soon()

    def signal_all(self, number: int) -> None:
        """Signal every process."""
        if self._loop is None or self._spawner is None:
            return
        spawner = self._spawner

        def each() -> None:
            for name in list(self._by_id):
                spawner.signal(name, number)

        self._loop.call_soon_threadsafe(each)

    def kill(self, child: Child) -> None:
        """End one process at once."""
        if self._loop is not None and self._spawner is not None:
            spawner = self._spawner
            # Its id is given in the loop, maybe only now.
            self._loop.call_soon_threadsafe(lambda: spawner.signal(child.id, signal.SIGKILL))

    # -- the end of this process

    def alive(self) -> list[Child]:
        """What still runs."""
        with self._lock:
            return list(self._children)

    def at_exit(self) -> None:
        """Wait for what still runs, unless the program failed."""
        if os.getpid() != self.pid:
            return
        _ending.set()
        with contextlib.suppress(KeyboardInterrupt):
            if not hasattr(sys, "last_value"):
                while children := self.alive():
                    children[0].ended.wait(1.0)
        self.close()

    def close(self) -> None:
        """End what still runs, and everything of this object. Idempotent."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
        processes = [child for child in self.alive() if child.id]
        if processes:
            self.signal_all(signal.SIGTERM)
            deadline = time.monotonic() + END_SECONDS
            for child in processes:
                child.ended.wait(max(0.0, deadline - time.monotonic()))
        if self._loop is not None and self._thread is not None:
            loop = self._loop

            def end() -> None:
                assert self._spawner is not None
                if self._server is not None:
                    self._server.close()
                if self._ahead is not None:
                    self._ahead.close()
                self._spawner.close()
                loop.stop()

            loop.call_soon_threadsafe(end)
            self._thread.join(END_SECONDS)
            if not self._thread.is_alive():
                loop.close()
        if self._folder is not None:
            self._folder.remove()


def _random_key() -> str:
    return os.urandom(8).hex()


def end_by_force(life: bytes) -> None:
    """Kill the process of this agent's life, if this process has started it. Any thread."""
    if _host is not None and _host.pid == os.getpid():
        for child in _host.alive():
            if child.life == life:
                _host.kill(child)


_host: Host | None = None
_making = threading.Lock()


def host() -> Host:
    """The one of this process."""
    global _host  # noqa: PLW0603 - one per process
    with _making:
        if _host is None or _host.pid != os.getpid():
            _host = Host()
        return _host
