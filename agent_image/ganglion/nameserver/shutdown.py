"""The end of a domain, in order: with the flow, then by leaving, then alone. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from ganglion.wire.control import Command, frozen_after

LAST_SECONDS = 5.0
"""What the name server keeps of the timeout for itself."""

Phase = Literal["Serving", "ShuttingDown", "Leaving", "Empty"]


class ShutdownPlan:
    """Begun once; time tells the rest.

    Args:
        now: monotonic seconds.
        timeout: seconds from the deletion until everything must be gone.
    """

    def __init__(self, now: float, timeout: float) -> None:
        self.leave_at = now + timeout / 2
        self.silence_seconds = frozen_after(timeout / 2)
        """A member that has said nothing for so long is let go."""
        self.end_at = now + max(timeout - LAST_SECONDS, timeout * 0.75)

    def shorten(self, now: float, timeout: float) -> None:
        """Asked again: an earlier end wins."""
        other = ShutdownPlan(now, timeout)
        self.leave_at = min(self.leave_at, other.leave_at)
        self.end_at = min(self.end_at, other.end_at)

    def phase(self, now: float, *, empty: bool) -> Phase:
        """Where we are. `Empty`: the name server may leave.

        Args:
            now: monotonic seconds.
            empty: no member is left, and nobody who was one can still come back.
        """
        if empty or now >= self.end_at:
            return "Empty"
        return "Leaving" if now >= self.leave_at else "ShuttingDown"

    def command(self, now: float, loops: Iterable[str] = ()) -> Command:
        """What a member must be told now.

        Args:
            now: monotonic seconds.
            loops: its channels that are part of a loop.
        """
        if now >= self.leave_at:
            return Command(kind="Leave", deadline_seconds=max(0.0, self.end_at - now), reason="the name server is being deleted")
        return Command(kind="Shutdown", deadline_seconds=self.leave_at - now, reason="the name server is being deleted", loops=tuple(loops))

    def next_change(self, now: float) -> float:
        """Monotonic time of the next phase."""
        return self.leave_at if now < self.leave_at else self.end_at
