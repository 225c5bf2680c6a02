"""How inputs end that an agent feeds itself, through others or directly. Pure.

In a loop each agent would wait for the others to come to rest. So, once everything from outside the loop is at rest, an agent in it stops what
sends by itself (timers), and takes its inputs as ended when nothing has come for a while and what it sent is settled; messages that go
round for ever are cut off.
"""

from __future__ import annotations

QUIET_SECONDS = 1.0
LONGEST_SECONDS = 5.0
"""Messages that still go round then do so for ever."""


class LoopEnd:
    """Begun when the inputs from outside are at rest.

    Args:
        now: monotonic seconds.
    """

    def __init__(self, now: float) -> None:
        self._until = now + LONGEST_SECONDS
        self._quiet_since = now
        self._count = -1

    def quiet(self, now: float, *, count: int, settled: bool) -> bool:
        """Whether the loop has come to rest.

        Args:
            now: monotonic seconds.
            count: messages handed to handlers so far.
            settled: nothing is being handled, and nothing sent is unsettled.
        """
        if count != self._count or not settled:
            self._count = count
            self._quiet_since = now
        return now - self._quiet_since >= QUIET_SECONDS

    def endless(self, now: float) -> bool:
        """Whether the loop has had its time."""
        return now >= self._until
