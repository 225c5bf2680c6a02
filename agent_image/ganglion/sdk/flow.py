"""What an agent would wait for in vain while its domain ends with the flow: loops, and receivers that have all left."""

from __future__ import annotations

import logging
from collections.abc import Iterable

from ganglion.runtime.receivers import Receivers
from ganglion.sdk.core import Core
from ganglion.sdk.lifecycle import Lifecycle
from ganglion.sdk.loops import LoopEnd
from ganglion.wire.control import Peer

log = logging.getLogger(__name__)

CUT_SECONDS = 0.5
"""What runs in handlers gets so long when waiting for more is in vain."""


class Flow:
    """See the module. Main thread; times are monotonic seconds.

    Args:
        core: of the agent.
        lifecycle: cut short when waiting is in vain.
    """

    def __init__(self, core: Core, lifecycle: Lifecycle) -> None:
        self._core = core
        self._lifecycle = lifecycle
        self._receivers = Receivers(core.channels.wirings.values())
        self._loop_end: LoopEnd | None = None

    def directory(self, peers: Iterable[Peer], now: float) -> None:
        """Take the current directory."""
        self._receivers.directory(peers, now)

    def look(self, now: float) -> None:
        """Cut the end short if it waits in vain. Call it often while the agent ends, also while a handler blocks in a send."""
        if not self._lifecycle.may_cut:
            return
        gone = self._receivers.gone(now)
        lost = sorted(gone.intersection(self._core.channels.unsettled())) if gone else []
        if lost:
            log.warning("channel %r: nobody is left who could take what was sent; leaving", lost[0])
            self._lifecycle.cut_short(now, "no receivers are left", seconds=CUT_SECONDS)
        streams = self._core.streams
        if streams.loops and self._lifecycle.in_flow and streams.outside_at_rest:
            self._look_at_loops(now)

    def _look_at_loops(self, now: float) -> None:
        core = self._core
        if self._loop_end is None:
            self._loop_end = LoopEnd(now)
            # Without inputs from outside its loop this agent is a source, and sources stop.
            core.timers.close()
        settled = core.channels.idle and core.channels.at_rest and not core.timers.busy
        if self._loop_end.quiet(now, count=core.channels.delivered, settled=settled):
            core.streams.loops_ended = True
        elif self._loop_end.endless(now):
            log.warning(
                "channels %s: messages go round in a loop; leaving",
                ", ".join(sorted(repr(core.channels.called(alias)) for alias in core.streams.loops)),
            )
            self._lifecycle.cut_short(now, "messages go round in a loop", seconds=CUT_SECONDS)
