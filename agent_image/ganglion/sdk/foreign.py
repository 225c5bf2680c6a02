"""Sends from other threads: queued onto the main loop, because a socket belongs to one thread."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from typing import Any

from ganglion.runtime.errors import ChannelClosed, SendTimeout

MAX_WAITING = 1024
"""Threads' sends that may wait for the loop at once."""


class _Job:
    __slots__ = ("call", "done", "error", "lock", "result", "state")

    def __init__(self, call: Callable[[], Any]) -> None:
        self.call = call
        self.done = threading.Event()
        self.lock = threading.Lock()
        self.state = "waiting"
        self.result: Any = None
        self.error: BaseException | None = None


class ForeignCalls:
    """Runs calls of other threads in the loop's thread, and gives them the result.

    Args:
        loop: the main loop.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._room = threading.BoundedSemaphore(MAX_WAITING)
        self._closed = threading.Event()

    def call(self, function: Callable[[], Any], timeout: float | None) -> Any:
        """Run `function` in the main loop and wait for it.

        Args:
            function: runs in the loop's thread; what it raises is raised here.
            timeout: seconds to wait for the loop to begin; None: until it does or the agent ends.
        Raises:
            SendTimeout: `timeout` passed before the call began; it will not run.
            ChannelClosed: the agent has ended.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        while not self._room.acquire(timeout=0.25 if deadline is None else max(0.0, min(0.25, deadline - time.monotonic()))):
            self._check(deadline, timeout)
        try:
            job = _Job(function)
            try:
                self._loop.call_soon_threadsafe(self._run, job)
            except RuntimeError as error:
                raise ChannelClosed("the agent has ended") from error
            while not job.done.wait(0.25 if deadline is None else max(0.0, min(0.25, deadline - time.monotonic()))):
                with job.lock:
                    if job.state != "waiting":
                        # It began in time: its own timeout bounds it from here on.
                        continue
                    self._check_job(job, deadline, timeout)
        finally:
            self._room.release()
        if job.error is not None:
            raise job.error
        return job.result

    def close(self) -> None:
        """Refuse what has not begun."""
        self._closed.set()

    def _check(self, deadline: float | None, timeout: float | None) -> None:
        if self._closed.is_set():
            raise ChannelClosed("the agent has ended")
        if deadline is not None and time.monotonic() >= deadline:
            raise SendTimeout(f"the agent's loop was busy for {timeout} s; nothing was sent")

    def _check_job(self, job: _Job, deadline: float | None, timeout: float | None) -> None:
        try:
            self._check(deadline, timeout)
        except BaseException:
            job.state = "given up"
            raise

    def _run(self, job: _Job) -> None:
        with job.lock:
            if job.state != "waiting":
                return
            job.state = "running"
        try:
            job.result = job.call()
        except BaseException as error:  # noqa: BLE001 - it is the calling thread's to handle
            job.error = error
        job.done.set()
