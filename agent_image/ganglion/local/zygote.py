"""The process that forks all others of a domain.

It has imported what agents and sidecars need, has one thread and no ZeroMQ context, and forks a child for each request. Children are
in sessions of their own (a terminal's Ctrl-C does not reach them). Whoever ends first, nobody is left: when the supervisor goes, its
socket closes and the zygote kills every child's group; when the zygote goes, the kernel kills its children.

Requests come on a stream socket: 8 bytes (length of the body, number of file descriptors; little endian u32) that carry the
descriptors, then a JSON body. Events go to a pipe as JSON lines: {"id", "pid"} and {"id", "exit"}.
"""

from __future__ import annotations

import array
import contextlib
import ctypes
import errno
import gc
import importlib
import io
import json
import os
import select
import signal
import socket
import struct
import sys
from collections.abc import Callable, Sequence
from typing import Any

HEADER = struct.Struct("<II")
MAX_BODY_BYTES = 64 * 1024 * 1024
"""256 variables of 32 KiB, and then some."""
PRELOAD = ("ganglion.sdk.agent", "ganglion.local.preload")
ENTRIES = {
    "agent": "ganglion.sdk.main",
    "sidecar": "ganglion.runtime.sidecar",
    "nameserver": "ganglion.nameserver",
    "drain": "ganglion.cli.drain",
    "imperative": "ganglion.imperative.main",
}
"""Process kinds and the modules whose `main(argv) -> int` they run."""
EXIT_NOT_FOUND = 127
"""A shell's exit code for a program that is not there."""
EXIT_NOT_EXECUTABLE = 126
_PR_SET_PDEATHSIG = 1

Job = Callable[[], int]


if sys.platform == "linux":
    # Looked up once, here: each child would load ctypes again, which is a third of what its fork costs.
    _prctl = ctypes.CDLL(None, use_errno=True).prctl


def _die_with_parent(parent: int) -> None:
    """Have this process killed when the zygote ends."""
    if sys.platform == "linux":
        _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        # The zygote may have ended between the fork and the call above.
        if os.getppid() != parent:
            os._exit(1)
        return
    import select as selectors
    import threading

    def watch() -> None:
        queue = selectors.kqueue()
        event = selectors.kevent(parent, selectors.KQ_FILTER_PROC, selectors.KQ_EV_ADD, selectors.KQ_NOTE_EXIT)
        with contextlib.suppress(ProcessLookupError):
            queue.control([event], 1, None)
        os._exit(1)

    threading.Thread(target=watch, name="parent-watch", daemon=True).start()


def receive_request(connection: socket.socket) -> tuple[dict[str, Any], list[int]] | None:
    """One request; None at the end of the stream. The header is read alone, so that descriptors cannot mix with the next request's."""
    descriptors = array.array("i")
    header = b""
    while len(header) < HEADER.size:
        chunk, ancillary, _, _ = connection.recvmsg(HEADER.size - len(header), socket.CMSG_SPACE(4 * descriptors.itemsize))
        for level, kind, data in ancillary:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                descriptors.frombytes(data[: len(data) - len(data) % descriptors.itemsize])
        if not chunk:
            return None
        header += chunk
    length, _ = HEADER.unpack(header)
    if length > MAX_BODY_BYTES:
        return None
    body = bytearray()
    while len(body) < length:
        chunk = connection.recv(min(length - len(body), 1 << 20))
        if not chunk:
            return None
        body += chunk
    return json.loads(body), list(descriptors)


class Zygote:
    """State of the forking process."""

    def __init__(self, connection: socket.socket, events: int) -> None:
        self._connection = connection
        self._events = events
        self._children: dict[int, str] = {}
        self._outbox = bytearray()
        self._wake_read, self._wake_write = os.pipe()
        os.set_blocking(events, False)
        os.set_blocking(self._wake_read, False)
        os.set_blocking(self._wake_write, False)

    def preload(self, modules: Sequence[str]) -> Job | None:
        """Import modules, but fork what is asked for meanwhile: the name server, which loads its own while others load here.

        Returns:
            the job in a child, None in the zygote.
        """
        signal.set_wakeup_fd(self._wake_write)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        for module in modules:
            while select.select([self._connection], [], [], 0)[0]:
                request = receive_request(self._connection)
                if request is None:
                    break
                job = self._handle(*request)
                if job is not None:
                    return job
            importlib.import_module(module)
        return None

    def serve(self) -> Job | None:
        """Fork and reap until the supervisor closes its socket. Returns the job in a child, None in the zygote."""
        self._reap()
        self._emit({"ready": os.getpid()})
        while True:
            poller = select.poll()
            poller.register(self._connection, select.POLLIN)
            poller.register(self._wake_read, select.POLLIN)
            if self._outbox:
                poller.register(self._events, select.POLLOUT)
            ready = dict(poller.poll())
            if self._wake_read in ready:
                with contextlib.suppress(BlockingIOError):
                    os.read(self._wake_read, 4096)
                self._reap()
            if self._events in ready:
                self._flush()
            if self._connection.fileno() in ready:
                request = receive_request(self._connection)
                if request is None:
                    self._kill_all()
                    return None
                job = self._handle(*request)
                if job is not None:
                    return job

    def _handle(self, request: dict[str, Any], descriptors: list[int]) -> Job | None:
        if "signal" in request:
            # Only children that are not reaped yet are signalled: their process ids cannot have been given to others.
            for pid, name in self._children.items():
                if name == request["id"]:
                    _signal_group(pid, int(request["signal"]))
            return None
        parent = os.getpid()
        try:
            pid = os.fork()
        except OSError as error:
            text = f"cannot start a process: {error.strerror}; raise the limit of processes (ulimit -u), or run fewer agents\n"
            # Where it would have printed; whoever reads there is told of the end below, and must not be waited for.
            poller = select.poll()
            poller.register(descriptors[-1], select.POLLOUT)
            with contextlib.suppress(OSError):
                if poller.poll(0):
                    os.write(descriptors[-1], text.encode())
            self._close(descriptors)
            self._emit({"id": request["id"], "exit": 1})
            return None
        if pid == 0:
            return self._in_child(parent, request, descriptors)
        self._close(descriptors)
        self._children[pid] = request["id"]
        self._emit({"id": request["id"], "pid": pid})
        return None

    def _in_child(self, parent: int, request: dict[str, Any], descriptors: list[int]) -> Job:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        os.setsid()
        _die_with_parent(parent)
        self._connection.detach()
        null = os.open(os.devnull, os.O_RDONLY)
        os.dup2(null, 0)
        os.dup2(descriptors[0], 1)
        os.dup2(descriptors[-1], 2)
        os.closerange(3, _highest_descriptor() + 1)
        for name in request["unset"]:
            os.environ.pop(name, None)
        os.environ.update(request["env"])
        # The streams were made for the zygote's stdout; a pipe would hold back what an agent prints.
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, io.TextIOWrapper):
                stream.reconfigure(line_buffering=True)
        command = request.get("command")
        if command is not None:
            return lambda: _execute(command)
        module, argv = ENTRIES[request["entry"]], list(request["argv"])
        sys.argv = [f"ganglion {request['entry']}", *argv]
        return lambda: _run(module, argv)

    def _reap(self) -> None:
        while (ended := self._next_ended(os.WNOHANG)) is not None:
            pid, code = ended
            name = self._children.pop(pid, None)
            if name is not None:
                self._emit({"id": name, "exit": code})

    def _next_ended(self, flags: int) -> tuple[int, int] | None:
        """Reap one child: (process id, exit code; negative: signal). None when there is none (or, with WNOHANG, none has ended)."""
        try:
            found = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOWAIT | flags)
            if found is None or found.si_pid == 0:
                return None
            # What the child itself started goes with it, as a container's processes do. The child is not reaped yet, so its
            # process id, which is its group's id, cannot have been given to others.
            _signal_group(found.si_pid, signal.SIGKILL)
            _, status = os.waitpid(found.si_pid, 0)
        except ChildProcessError:
            return None
        return found.si_pid, os.waitstatus_to_exitcode(status)

    def _kill_all(self) -> None:
        for pid in self._children:
            _signal_group(pid, signal.SIGKILL)
        while self._children and (ended := self._next_ended(0)) is not None:
            self._children.pop(ended[0], None)

    def _emit(self, event: dict[str, Any]) -> None:
        self._outbox += json.dumps(event).encode() + b"\n"
        self._flush()

    def _flush(self) -> None:
        try:
            while self._outbox:
                written = os.write(self._events, self._outbox)
                del self._outbox[:written]
        except BlockingIOError:
            return
        except BrokenPipeError:
            # The supervisor has gone; its socket closes too and ends the loop.
            self._outbox.clear()

    @staticmethod
    def _close(descriptors: list[int]) -> None:
        for descriptor in descriptors:
            os.close(descriptor)


def _signal_group(pid: int, number: int) -> None:
    """Signal the group of a child that is not reaped yet."""
    try:
        os.killpg(pid, number)
    except ProcessLookupError:
        # Between fork and setsid the child has no group of its own.
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
    except PermissionError:
        # A group of nothing but zombies, on macOS.
        return


def _highest_descriptor() -> int:
    for folder in ("/proc/self/fd", "/dev/fd"):
        with contextlib.suppress(OSError):
            return max(map(int, os.listdir(folder)))  # noqa: PTH208 - in every child, and pathlib costs it a hundred page faults
    return 1024


def _execute(command: list[str]) -> int:
    try:
        os.execvpe(command[0], command, dict(os.environ))  # noqa: S606 - the user's program, without a shell
    except FileNotFoundError:
        print(f"{command[0]}: no such program; see spec.container.command", file=sys.stderr)  # noqa: T201
        return EXIT_NOT_FOUND
    except OSError as error:
        print(f"{command[0]}: {error.strerror}; see spec.container.command", file=sys.stderr)  # noqa: T201
        return EXIT_NOT_EXECUTABLE if error.errno in (errno.EACCES, errno.ENOEXEC) else 1


def _run(module: str, argv: list[str]) -> int:
    return int(importlib.import_module(module).main(argv) or 0)


def main() -> int:
    """Entry of `python -m ganglion.local.zygote REQUEST_FD EVENT_FD MODULE...`: the modules are imported before the first fork."""
    connection = socket.socket(fileno=int(sys.argv[1]))
    events = int(sys.argv[2])
    for descriptor in (connection.fileno(), events):
        os.set_inheritable(descriptor, False)
    zygote = Zygote(connection, events)
    job = zygote.preload(sys.argv[3:])
    if job is None:
        # What is loaded now is shared with every child; the collector must not touch (and so copy) it.
        gc.collect()
        gc.freeze()
        job = zygote.serve()
    if job is not None:
        return job()
    connection.close()
    # Who was killed cannot remove its folder; when this process was killed too, the next start does. Of no use while there is an owner.
    from ganglion.local.folders import sweep

    sweep()
    return 0


if __name__ == "__main__":
    sys.exit(main())
