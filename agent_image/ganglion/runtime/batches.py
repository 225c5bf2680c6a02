"""What a sender keeps: batches, the links that hold them, and an index that finds them. Pure."""

from __future__ import annotations

from bisect import bisect_right, insort
from collections.abc import Callable, Hashable, Iterator
from typing import Any

import zmq

from ganglion.wire import frames
from ganglion.wire.frames import DataHead

Frame = bytes | zmq.Frame
"""A relay keeps batches where libzmq has them; they are copied only to be redelivered."""
Transmit = Callable[[Any], object]


class Batch:
    """Messages first..first+n-1 of a stream. Bit i of every mask is message first+i."""

    __slots__ = (
        "attempts",
        "avoid",
        "cancelled",
        "crashes",
        "done",
        "first",
        "frame",
        "full",
        "handled",
        "link",
        "n",
        "request",
        "returned",
        "sent",
        "started",
        "stream",
        "suspect",
        "tokens",
    )

    def __init__(self, frame: Frame, head: DataHead, tokens: Any) -> None:
        self.frame = frame
        self.stream = head.stream
        self.first = head.first
        self.n = head.n
        self.full = (1 << head.n) - 1
        self.done = head.skip
        """Settled."""
        self.returned = 0
        """Handed back by the link that holds the batch; redelivered when that link is through with the rest."""
        self.handled = 0
        """The handler returned; only what it sent is awaited."""
        self.started = 0
        """The handler was begun (known of redeliveries only)."""
        self.cancelled = 0
        """Requests whose timeout passed: settled, but the link's credit is spent until it answers."""
        self.request = bool(head.flags & frames.FLAG_REQUEST)
        self.attempts: dict[int, int] | None = None
        self.crashes = 0
        """Links that held it and were lost with a charge."""
        self.suspect = False
        """Its messages are sent one at a time to links that hold nothing else: the last charge needs proof."""
        self.link: HoldingLink | None = None
        self.avoid: Hashable = None
        self.sent = 0
        """Times put on a link."""
        self.tokens = tokens

    def body(self, index: int) -> bytes:
        """Body of message first+index; empty when nobody can tell the bodies of the batch apart."""
        try:
            return bytes(frames.decode_data(buffer(self.frame)).body(index))
        except frames.FrameError:
            return b""


def buffer(frame: Frame) -> bytes | memoryview:
    """The bytes of a frame, not copied."""
    return frame if isinstance(frame, bytes) else frame.buffer


class HoldingLink:
    """A link, its credit, and what it holds."""

    __slots__ = ("alone", "draining", "held", "key", "transmit", "used", "used_bytes", "window", "window_bytes")

    def __init__(self, key: Hashable, transmit: Transmit) -> None:
        self.key = key
        self.transmit = transmit
        self.window = 0
        self.window_bytes = 0
        self.used = 0
        self.used_bytes = 0
        self.draining = False
        self.alone = False
        """What it holds is suspect: nothing is added."""
        self.held: dict[tuple[int, int], Batch] = {}
        """In the order of sending."""


class StreamIndex:
    """Unsettled batches of one stream, found by any sequence in them."""

    __slots__ = ("by_first", "firsts", "head")

    def __init__(self) -> None:
        self.by_first: dict[int, Batch] = {}
        self.firsts: list[int] = []
        self.head = 0

    def add(self, batch: Batch) -> None:
        """Index a batch; most come in order."""
        self.by_first[batch.first] = batch
        if not self.firsts or self.firsts[-1] < batch.first:
            self.firsts.append(batch.first)
        else:
            insort(self.firsts, batch.first, lo=0)
            self.head = 0

    def remove(self, batch: Batch) -> None:
        """Forget a batch that is settled."""
        del self.by_first[batch.first]
        firsts, head, size = self.firsts, self.head, len(self.firsts)
        while head < size and firsts[head] not in self.by_first:
            head += 1
        if size > 2 * len(self.by_first) + 1024:
            # One old batch that stays must not keep the entries of all that came and went after it.
            self.firsts = sorted(self.by_first)
            head = 0
        self.head = head

    def overlapping(self, first: int, count: int) -> Iterator[Batch]:
        """Batches with any of the messages first..first+count-1."""
        position = max(self.head, bisect_right(self.firsts, first) - 1)
        end = first + count
        while position < len(self.firsts) and self.firsts[position] < end:
            batch = self.by_first.get(self.firsts[position])
            if batch is not None and batch.first + batch.n > first:
                yield batch
            position += 1


def bits(mask: int) -> Iterator[int]:
    """Positions of the bits that are set, lowest first."""
    while mask:
        low = mask & -mask
        yield low.bit_length() - 1
        mask ^= low
