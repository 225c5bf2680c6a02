"""A call that is under way."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Generator
from typing import Any

from ganglion.imperative import frames
from ganglion.imperative.connections import Connection, PeerLost, Reply
from ganglion.imperative.errors import CallTimeout, CommunicationError
from ganglion.imperative.failures import decode_error
from ganglion.imperative.trust import peer_loads


class WrongLife(CommunicationError):
    """Another life answers at this endpoint; the call was not executed."""


def outcome(reply: Reply, method: str) -> Any:
    """The result of a call that is answered; raises what it raised."""
    flags = reply.flags
    if flags == 0:
        return peer_loads()(reply.body)
    if reply.error is not None:
        raise reply.error
    if flags & frames.WRONG_LIFE:
        raise WrongLife(f"{method}(): another agent answers there")
    if flags & frames.NOT_RUNNING:
        raise RuntimeError("Agent must be running to safely execute methods!")
    if flags & frames.FAILED:
        raise decode_error(reply.body)
    return peer_loads()(reply.body)


class Future(Reply):
    """A call that is under way: `proxy.future.method(...)` gives one, at once.

    It belongs to the thread that made the call: only there may it be asked. Nothing needs to run meanwhile: replies are taken in when any
    future of that thread is asked, and while the thread's event loop runs when one of them is awaited.

    Raises (`result`, `exception` and `await`):
        CallTimeout: no reply within the call's time.
        CommunicationError: the agent is gone; whether it executed the call is unknown unless the text says so.
        RuntimeError: another thread asks.
    """

    __slots__ = ("_again", "_connection", "_method", "_thread")

    def __init__(self, connection: Connection, method: str, deadline: float, again: Callable[[], Future] | None) -> None:
        super().__init__(deadline)
        self._connection = connection
        self._method = method
        self._thread = threading.get_ident()
        self._again = again

    def __repr__(self) -> str:
        return f"<Future of {self._method}(), {'done' if self.settled else 'under way'}>"

    def _check(self) -> None:
        if threading.get_ident() != self._thread:
            raise RuntimeError(f"{self!r} belongs to the thread that made the call; ask it there, and pass on the result")

    def done(self) -> bool:
        """Whether the reply is there; does not wait."""
        self._check()
        return self.settled or self._connection.wait(self, 0.0)

    def result(self, timeout: float | None = None) -> Any:
        """What the method returned; raises what it raised.

        Args:
            timeout: seconds to wait now; None: until the call's own time is over. After a shorter one it can be asked again.
        """
        self._check()
        limit = self.deadline if timeout is None else min(self.deadline, time.monotonic() + timeout)
        if not self.settled and not self._connection.wait(self, limit):
            raise self._late(limit)
        try:
            return self._settle(limit)
        except Exception as error:  # noqa: BLE001 - raised again, whatever it is
            # The frames below are Ganglion's own.
            raise error.with_traceback(None) from error.__cause__

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """What the method raised, or None."""
        try:
            self.result(timeout)
        except CallTimeout:
            if not self.settled:
                raise
            return self.error
        except Exception as error:  # noqa: BLE001 - it is asked for
            return error
        return None

    def _late(self, limit: float) -> CallTimeout:
        if limit >= self.deadline:
            # A late reply finds nobody.
            self._connection.pending.pop(self.number, None)
        return CallTimeout(f"{self._method}(): no answer in time; give it more, or look what the agent does")

    def _settle(self, limit: float) -> Any:
        try:
            return outcome(self, self._method)
        except (PeerLost, WrongLife) as error:
            again, self._again = self._again, None
            if again is None or (isinstance(error, PeerLost) and error.sent):
                raise
            # Certainly not executed: the agent was restarted or has moved, so it is said once more.
            other = again()
            other.deadline = min(other.deadline, self.deadline)
            return other.result(max(0.0, limit - time.monotonic()))

    def __await__(self) -> Generator[Any, None, Any]:
        self._check()
        if not self.settled:
            loop = asyncio.get_running_loop()
            waiter = loop.create_future()
            self.waiters = [*(self.waiters or ()), waiter]
            self._connection.attach(loop)
            alarm = loop.call_later(max(0.0, self.deadline - time.monotonic()), self.wake)
            try:
                yield from waiter
            finally:
                alarm.cancel()
        if not self.settled:
            raise self._late(self.deadline)
        again = self._again
        try:
            self._again = None
            return self._settle(self.deadline)
        except (PeerLost, WrongLife) as error:
            if again is None or (isinstance(error, PeerLost) and error.sent):
                raise
            other = again()
            other.deadline = min(other.deadline, self.deadline)
            return (yield from other.__await__())
