"""The Python stacks of a process, asked for from outside, whatever it does. It is not stopped.

A signal asks. It wakes the control thread, which writes the stacks of the others whatever those do; while there is no control thread, the
main one writes. If neither does, because an extension holds the interpreter lock, a second signal has the interpreter's fault handler
write what it sees, in C. Not before: it reads the stacks of running threads without any lock.

They write to a file in memory, which other processes of the same user find under /proc: nothing is left behind by a process that is killed.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import faulthandler
import os
import select
import signal
import sys
import threading
import time
import traceback
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any, Final

from ganglion.runtime.coroutines import STEPPER

SIGNAL: Final[int] = int(signal.SIGRTMAX) - 6 if sys.platform == "linux" else 0
"""A real-time signal: programs use SIGUSR1 and SIGUSR2 for themselves. 0: the platform has none."""
LAST_RESORT: Final[int] = SIGNAL - 1
NAME: Final = "ganglion-stacks"
BEGIN: Final = b"\x1e<stacks>\n"
END: Final = b"\x1e</stacks>\n"
MAX_FILE_BYTES: Final = 1 << 20
"""A file that has more is begun anew."""
MAX_FRAMES: Final = 100
MAX_TASKS: Final = 200
RAW_SECONDS: Final = 0.5
"""The fault handler answers at once, or never."""
AGAIN_SECONDS: Final = 0.5
"""The main thread may not notice a signal that comes between the interpreter's last look and a system call that waits: it gets another."""
_LOOK_MS = 20


class _Here:
    """This process."""

    file = -1
    loops: tuple[asyncio.AbstractEventLoop, ...] = ()
    watched = False


class StacksUnavailable(Exception):
    """The process cannot be asked, or does not answer; the text says why."""


# ---------------------------------------------------------------- in the process


def install(name: str = NAME, loops: Iterable[asyncio.AbstractEventLoop] = ()) -> None:
    """From now on this process can be asked. Main thread only; where the platform cannot do it, nothing happens.

    Args:
        name: of the file, by which the asking process knows that it is this one.
        loops: whose tasks are shown.
    """
    _Here.loops = tuple(loops)
    if not SIGNAL or _Here.file >= 0:
        return
    try:
        _Here.file = os.memfd_create(name)
    except OSError:
        # A kernel or sandbox without it: the agent is worth more than its stacks.
        return
    signal.signal(SIGNAL, _signalled)
    faulthandler.register(LAST_RESORT, file=_Here.file, all_threads=True)
    atexit.register(_withdraw)


def _withdraw() -> None:
    """The interpreter ends, and will take back its handlers: then a question that was sent before would kill the process."""
    signal.signal(SIGNAL, signal.SIG_IGN)


def watched(by_control_thread: bool) -> None:
    """Whether a control thread is woken by the signal and calls `answer`. Main thread only."""
    _Here.watched = by_control_thread
    if _Here.file >= 0:
        # Then the main thread need not notice: reads in libraries that expect no interruption go on.
        signal.siginterrupt(SIGNAL, not by_control_thread)


def _signalled(_number: int, frame: FrameType | None) -> None:
    if not _Here.watched:
        answer(frame)


def answer(interrupted: FrameType | None = None) -> None:
    """The signal has come: write.

    Args:
        interrupted: what this thread was doing; None: it is of no interest.
    """
    if _Here.file < 0:
        return
    with contextlib.suppress(OSError):
        if os.fstat(_Here.file).st_size > MAX_FILE_BYTES:
            os.ftruncate(_Here.file, 0)
            os.lseek(_Here.file, 0, os.SEEK_SET)
        os.write(_Here.file, BEGIN + describe(_Here.loops, interrupted).encode(errors="backslashreplace") + END)


def describe(loops: Iterable[asyncio.AbstractEventLoop] = (), interrupted: FrameType | None = None) -> str:
    """The stacks of all threads of this process, and of the tasks of these loops. Any thread.

    Args:
        interrupted: the frame to show of the calling thread; None: it is of no interest.
    Returns:
        Text for people; the last line of each stack is where it is now.
    """
    me = threading.get_ident()
    threads = {thread.ident: thread for thread in threading.enumerate()}
    frames = sys._current_frames()  # noqa: SLF001 - the documented way
    first = threading.main_thread().ident
    parts = []
    for ident, frame in sorted(frames.items(), key=lambda item: item[0] != first):
        thread = threads.get(ident)
        name = thread.name if thread is not None else f"{ident:#x} (not made by Python)"
        if ident == me and interrupted is None:
            parts.append(f"Thread {name}: writes this\n")
            continue
        if ident == me and interrupted is not None:
            frame = interrupted  # noqa: PLW2901 - below the signal handler
        parts.append(f"Thread {name}{', daemon' if thread is not None and thread.daemon else ''}:\n{_text(traceback.walk_stack(frame))}")
    parts += [text for loop in loops for text in _tasks(loop)]
    return "\n".join(parts)


def _text(frames: Iterable[tuple[FrameType, int]], *, inner_first: bool = True) -> str:
    summary = traceback.StackSummary.extract(iter(frames), limit=MAX_FRAMES)
    if inner_first:
        summary.reverse()
    return "".join(summary.format()) or "  (no Python frame)\n"


def _tasks(loop: asyncio.AbstractEventLoop) -> Iterator[str]:
    # Another thread's loop: the set may change while it is copied, which asyncio tries again.
    with contextlib.suppress(RuntimeError):
        tasks = sorted(asyncio.all_tasks(loop), key=lambda task: task.get_name())
        for task in tasks[:MAX_TASKS]:
            awaiting = list(_awaiting(task.get_coro()))
            if awaiting:
                yield f"Task {task.get_name()}, waits:\n{_text(awaiting, inner_first=False)}"
        if len(tasks) > MAX_TASKS:
            yield f"... and {len(tasks) - MAX_TASKS} more tasks\n"


def _awaiting(coroutine: Any) -> Iterator[tuple[FrameType, int]]:
    """Frames of a coroutine and of what it awaits. One that runs is on its thread's stack already."""
    while coroutine is not None:
        if getattr(coroutine, "cr_running", False):
            return
        frame = getattr(coroutine, "cr_frame", None) or getattr(coroutine, "gi_frame", None)
        if frame is None:
            return
        if frame.f_code is STEPPER:
            # It drives a handler's coroutine by hand.
            coroutine = frame.f_locals.get("coroutine")
            continue
        yield frame, frame.f_lineno
        coroutine = getattr(coroutine, "cr_await", None) or getattr(coroutine, "gi_yieldfrom", None)


# ---------------------------------------------------------------- from outside


def ask(pid: int, name: str = NAME, *, timeout: float = 2.0, last_resort: bool = True) -> str:
    """The stacks of another process of this user.

    Args:
        pid: of a process that has called `install` with this name.
        timeout: seconds for the process to describe itself; then the fault handler is asked.
        last_resort: whether it is, at the risk that the process crashes.
    Raises:
        StacksUnavailable: see there.
    """
    if not SIGNAL:
        raise StacksUnavailable(f"process {pid}: stacks can only be asked for on Linux")
    try:
        process = os.pidfd_open(pid)
    except OSError as error:
        raise StacksUnavailable(f"process {pid} has ended") from error
    try:
        # The process is held by its descriptor: the number cannot come to mean another one between these looks.
        file = _memory_file(pid, name)
        if file is None or not _catches(pid, SIGNAL):
            raise StacksUnavailable(f"process {pid} runs no agent of this SDK, or not yet; py-spy or gdb may help")
        with file.open("rb", buffering=0) as stream:
            return _exchange(process, pid, stream.fileno(), timeout, last_resort=last_resort)
    except PermissionError as error:
        raise StacksUnavailable(f"process {pid} is another user's") from error
    except (FileNotFoundError, ProcessLookupError) as error:
        raise StacksUnavailable(f"process {pid} has ended") from error
    finally:
        os.close(process)


def _exchange(process: int, pid: int, file: int, timeout: float, *, last_resort: bool) -> str:
    before = os.fstat(file).st_size
    signal.pidfd_send_signal(process, SIGNAL)
    again = time.monotonic() + AGAIN_SECONDS
    for seen in _growth(process, file, before, timeout):
        begin = seen.find(BEGIN)
        end = seen.find(END, begin) if begin >= 0 else -1
        if end >= 0:
            return seen[begin + len(BEGIN) : end].decode(errors="replace")
        if time.monotonic() >= again:
            if not _catches(pid, SIGNAL):
                # It has begun to end, or runs another program now.
                raise ProcessLookupError
            signal.pidfd_send_signal(process, SIGNAL)
            again += AGAIN_SECONDS
    before = os.fstat(file).st_size
    raw = b""
    if last_resort and _catches(pid, LAST_RESORT):
        signal.pidfd_send_signal(process, LAST_RESORT)
        *_, raw = (b"", *_growth(process, file, before, RAW_SECONDS))
    if raw.strip():
        text = raw.decode(errors="replace")
        return f"(it could not describe itself within {timeout:g} s; this is the fault handler's view, innermost call first)\n{text}"
    raise StacksUnavailable(f"process {pid} did not answer within {timeout:g} s; its state is {_status(pid, 'State')}")


def _growth(process: int, file: int, before: int, seconds: float) -> Iterator[bytes]:
    """What was written to the file, again and again until the time is over."""
    poller = select.poll()
    poller.register(process, select.POLLIN)
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if poller.poll(_LOOK_MS):
            raise ProcessLookupError
        size = os.fstat(file).st_size
        yield os.pread(file, size, before if size >= before else 0)


def _memory_file(pid: int, name: str) -> Path | None:
    for item in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            if str(item.readlink()).startswith(f"/memfd:{name} "):
                return item
    return None


def _catches(pid: int, number: int) -> bool:
    """Whether it has a handler: the signal would end any other process."""
    return bool(int(_status(pid, "SigCgt"), 16) >> (number - 1) & 1)


def _status(pid: int, field: str) -> str:
    for line in Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines():
        if line.startswith(f"{field}:"):
            return line.partition(":")[2].strip()
    raise FileNotFoundError(f"/proc/{pid}/status has no {field}")
