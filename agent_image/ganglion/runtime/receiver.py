"""The receiver's half: credit per link, and finished messages turned into acknowledged ranges. Pure.

Adjacent ranges of one link are coalesced until `take` collects them, so that a run of messages costs one range whatever its length.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator

from ganglion.wire import frames
from ganglion.wire.frames import HANDLED, STARTED

WINDOW_BYTES = 4 * 1024 * 1024
"""Bytes that each link may hold unacknowledged; 16 large batches in flight fill a fast network."""
FLUSH_MESSAGES = 128
"""Finished messages that are acknowledged while more input waits, so that its sender never runs dry."""
FIRST_WINDOW = 128
"""Granted until it is known how long messages take."""
LEAST_WINDOW = 8
OVERLAPPING_WINDOW = 512
"""For handlers that go on while others begin (coroutines, loops of `recv`): the time until the first wait tells nothing."""
HELD_SECONDS = 0.05
"""A window holds about so much work: enough to hide the way to the sender, little enough that other receivers get their share."""


class _Link:
    __slots__ = ("held", "ranges")

    def __init__(self) -> None:
        self.held = 0
        self.ranges: list[tuple[int, int, int, int]] = []


class Receiver:
    """Acknowledgements of one inlet.

    Args:
        window: most messages that each link is granted.
        window_bytes: bytes that each link is granted.
    """

    def __init__(self, window: int, window_bytes: int = WINDOW_BYTES) -> None:
        self.most = window
        self.window = min(window, FIRST_WINDOW)
        """Messages that each link is granted now."""
        self.window_bytes = window_bytes
        self._cost: float | None = None
        """Seconds per message, smoothed."""
        self._links: dict[Hashable, _Link] = {}
        self._dirty: dict[Hashable, _Link] = {}
        self.held = 0
        """Messages received and not finished."""
        self.waiting = 0
        """Finished messages whose range was not taken yet."""

    def grant_fields(self) -> dict[str, int]:
        """Fields of the WELCOME that grants the window."""
        return {"messages": self.window, "bytes": self.window_bytes}

    def took(self, count: int, seconds: float) -> bool:
        """Handlers of `count` messages took so long. Returns whether the window changed: grant it anew."""
        cost = seconds / count
        self._cost = cost = cost if self._cost is None else 0.75 * self._cost + 0.25 * cost
        wanted = self.most if cost * self.most <= HELD_SECONDS else min(self.most, max(LEAST_WINDOW, int(HELD_SECONDS / cost)))
        # By halves and doubles only: every change is a frame to every sender.
        if not (wanted == self.most or wanted >= 2 * self.window or 2 * wanted <= self.window):
            return False
        return self._set(wanted)

    def overlaps(self) -> bool:
        """Handlers go on after they returned. Returns whether the window changed: grant it anew."""
        return self._set(min(self.most, OVERLAPPING_WINDOW))

    def _set(self, window: int) -> bool:
        changed, self.window = window != self.window, window
        return changed

    def add_link(self, key: Hashable) -> None:
        """A link is up."""
        self._links.setdefault(key, _Link())

    def received(self, key: Hashable, count: int) -> bool:
        """Count messages that arrived on a link. Returns False for an unknown link: its messages were redelivered elsewhere, drop them."""
        link = self._links.get(key)
        if link is None:
            return False
        link.held += count
        self.held += count
        return True

    def finished(self, key: Hashable, stream: int, first: int, count: int, code: int) -> None:
        """Messages first..first+count-1 are through. Nothing happens when their link was lost meanwhile."""
        link = self._links.get(key)
        if link is None:
            return
        if code not in (HANDLED, STARTED):
            link.held -= count
            self.held -= count
        ranges = link.ranges
        if ranges:
            last = ranges[-1]
            if last[0] == stream and last[3] == code and last[1] + last[2] == first:
                ranges[-1] = (stream, last[1], last[2] + count, code)
                self.waiting += count
                return
        else:
            self._dirty[key] = link
        ranges.append((stream, first, count, code))
        self.waiting += count

    def answered(self, key: Hashable) -> bool:
        """One request was answered by a REPLY frame instead of a range. False: its link was lost meanwhile."""
        link = self._links.get(key)
        if link is None:
            return False
        link.held -= 1
        self.held -= 1
        return True

    def take(self) -> Iterator[tuple[Hashable, bytes]]:
        """(link, ACK frame) for everything finished since the last call."""
        dirty, self._dirty = self._dirty, {}
        self.waiting = 0
        for key, link in dirty.items():
            ranges, link.ranges = link.ranges, []
            yield key, frames.encode_ack(ranges)

    def lost(self, key: Hashable) -> None:
        """A link is gone: what it held is somebody else's now."""
        link = self._links.pop(key, None)
        if link is not None:
            self._dirty.pop(key, None)
            self.held -= link.held
            self.waiting -= sum(count for _, _, count, _ in link.ranges)

    def known(self, key: Hashable) -> bool:
        """Whether the link is up."""
        return key in self._links

    @property
    def links(self) -> tuple[Hashable, ...]:
        """Links that are up."""
        return tuple(self._links)
