"""How long a sidecar stays once it was told to end. Pure: time is an argument (monotonic seconds).

It outlives its agent: every bound is a little later than the one that the agent has for the same order.
"""

from __future__ import annotations

import math

from ganglion.wire.control import frozen_after

CLOSE_SECONDS = 2.0
"""Bound of the goodbye and of closing sockets, beyond the deadline."""
_MARGIN = 0.05
"""Share of a bound that is kept back, so that whoever gave it has an answer in time; an agent keeps more."""


class SidecarEnd:
    """See the module.

    Args:
        drain_seconds: bound of an agent's leaving.
        domain_seconds: bound of the domain's end, from the moment in which the pod is told to go as a part of it.
    """

    def __init__(self, drain_seconds: float, domain_seconds: float) -> None:
        self._drain = drain_seconds
        self._domain = max(drain_seconds, domain_seconds)
        self._drained_at = math.inf
        self._silence = math.inf
        self.deadline: float | None = None
        """None: not told to end."""
        self.domain_ends = False
        self.in_flow = False
        """Told of the domain's end, and not yet to leave."""
        self.stops = False
        """The process ends when nobody needs it any more; without it, it waits for the order to stop."""

    def shut_down(self, now: float, seconds: float) -> None:
        """The domain ends: with the flow for `seconds`, after which the agent leaves within its own bound."""
        self._silence = frozen_after(seconds)
        if not self.stops:
            # Drained before the domain's end was known, it was given less time than there is.
            self.deadline = None
        self.domain_ends = self.in_flow = self.stops = True
        self._end_by(min(now + seconds + self._drain, self._pod_end))

    def leave(self, now: float, seconds: float) -> None:
        """The replica goes within `seconds`."""
        self.in_flow = False
        self._end_by(now + seconds * (1 - _MARGIN))

    def drain(self, now: float, seconds: float) -> None:
        """The pod goes within `seconds`; in the domain's end the flow goes on while there is time."""
        self._drained_at = min(self._drained_at, now)
        self._end_by(self._pod_end if self.in_flow else now + min(seconds, self._drain) * (1 - _MARGIN))

    def end_now(self, now: float) -> None:
        """Nobody is left to be waited for."""
        self.stops = True
        self._end_by(now)

    def _end_by(self, deadline: float) -> None:
        # An earlier bound stays.
        self.deadline = deadline if self.deadline is None else min(self.deadline, deadline)

    @property
    def _pod_end(self) -> float:
        """Soon after it, who drains the pod kills it."""
        return self._drained_at + self._domain * (1 - _MARGIN)

    def flow_left(self, now: float) -> float:
        """Seconds for what is under way, before the agent has to leave."""
        left = self.left(now)
        return max(left / 2, left - self._drain)

    def left(self, now: float) -> float:
        """Seconds until the deadline."""
        return 0.0 if self.deadline is None else max(0.0, self.deadline - now)

    def over(self, now: float, silent: float) -> bool:
        """Whether waiting is over.

        Args:
            now: monotonic seconds.
            silent: for how long an agent that is there has not been heard. A frozen one holds messages that others could handle.
        """
        return self.deadline is not None and (now >= self.deadline or silent >= self._silence)
