"""The start barrier: hold the first messages until enough receivers are wired. Pure; every outlet asks it."""

from __future__ import annotations

from ganglion.wiring import BarrierWiring


class BarrierGate:
    """Opens once per process, and stays open.

    Args:
        barrier: None: open from the start.
    """

    def __init__(self, barrier: BarrierWiring | None) -> None:
        self.open = barrier is None
        self.timed_out = False
        """It opened although too few receivers were wired."""
        self._peers = barrier.peers if barrier is not None else 0
        self._timeout = barrier.timeout_seconds if barrier is not None else 0.0
        self._deadline: float | None = None

    def passes(self, wired: int, now: float) -> bool:
        """Whether messages may go now.

        Args:
            wired: receivers that are wired.
            now: monotonic seconds. The first call starts the timeout.
        """
        if self.open:
            return True
        if self._deadline is None:
            self._deadline = now + self._timeout
        self.timed_out = wired < self._peers and now >= self._deadline
        self.open = wired >= self._peers or self.timed_out
        return self.open

    def describe(self, wired: int) -> str:
        """One line for people; empty when there is nothing to say."""
        if self.timed_out:
            return f"the barrier opened after {self._timeout:g} s with fewer than {self._peers} receivers wired"
        if not self.open and self._deadline is not None:
            return f"the barrier waits for receivers: {wired} of {self._peers} wired"
        return ""
