"""What an agent's process has started beside its data plane, for its end. The agents that a program made register here; the SDK knows none."""

from __future__ import annotations

import logging
from collections.abc import Callable

log = logging.getLogger(__name__)

_ends: list[Callable[[], object]] = []


def end_with_agent(end: Callable[[], object]) -> None:
    """Have something ended when the agent of this process has ended; in a process without one nothing comes of it."""
    _ends.append(end)


def end_companions() -> None:
    """End them, last come first. Each has a bound of its own."""
    while _ends:
        try:
            _ends.pop()()
        except Exception:
            # The others are to end all the same.
            log.exception("something that the agent had started did not end")
