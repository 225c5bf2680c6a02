"""When a process that ended is started again: at once, then ever later, as a kubelet does with shorter times. Pure."""

from __future__ import annotations

from dataclasses import dataclass

FIRST_SECONDS = 0.25
"""Delay after the second failure in a row; doubles each time. A kubelet begins with 10 s: a person at a desk waits less gladly."""
LONGEST_SECONDS = 30.0
RESET_SECONDS = 10.0
"""A process that ran so long begins anew. A kubelet takes ten minutes; the ratio to the longest delay is about the same there."""


@dataclass(slots=True)
class Backoff:
    """Delays of one process. Times are seconds of one monotonic clock."""

    failures: int = 0
    """Failures in a row."""

    def ended(self, started: float, now: float) -> float:
        """Seconds to wait before the next start, of a process that ran from `started` to `now`."""
        if now - started >= RESET_SECONDS:
            self.failures = 0
        self.failures += 1
        if self.failures == 1:
            return 0.0
        return min(LONGEST_SECONDS, FIRST_SECONDS * float(2 ** min(self.failures - 2, 30)))
