"""The sender's half of at-least-once delivery and of requests: a pure state machine without sockets and clocks.

It keeps every batch until each of its messages is settled, knows which link holds it, spends the links' credit, and redelivers what a lost
link held. A batch is a DATA frame; it is never split and, unless it is redelivered, never copied. `accepted = acked + in_flight +
dead_lettered + dropped` holds between any two calls.

The same class serves an agent in process and a sidecar (a link per peer), and an SDK process behind a sidecar (one link: the sidecar).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable, Iterable, Iterator
from operator import attrgetter
from typing import Any

from ganglion.runtime.batches import Batch, Frame, HoldingLink, StreamIndex, Transmit, bits, buffer
from ganglion.runtime.plane import MessageId
from ganglion.wire import frames
from ganglion.wire.control import Ledger
from ganglion.wire.frames import DEAD, DONE, HANDLED, REJECTED, RELEASED, STARTED, DataHead

ATTEMPTS = 3
"""Charged attempts after which a message is dead-lettered (distributed schedulers allow a task as many lost workers)."""
HOPELESS = 10
"""Lost links after which a batch is suspect, and its message charged, though no handler was heard to begin."""


def _nothing(*_: Any) -> None:
    pass


_first = attrgetter("first")


class Sender:
    """Keeps batches until they are settled.

    Args:
        on_settled: called once per batch when all its messages are settled, whatever their fate.
        on_acked: (stream, first, count, DONE or DEAD) for every range that was settled by an acknowledgement or a dead letter.
        on_dead: (id, body, reason) of a message that is given up; it counts as dead-lettered.
        on_failed: (stream, sequence) of a request whose replier was lost; it counts as dropped.
    """

    def __init__(
        self,
        *,
        on_settled: Callable[[Batch], object] = _nothing,
        on_acked: Callable[[int, int, int, int], object] = _nothing,
        on_dead: Callable[[MessageId, bytes, str], object] = _nothing,
        on_failed: Callable[[int, int], object] = _nothing,
    ) -> None:
        self._on_settled = on_settled
        self._on_acked = on_acked
        self._on_dead = on_dead
        self._on_failed = on_failed
        self._links: dict[Hashable, HoldingLink] = {}
        self._streams: dict[int, StreamIndex] = {}
        self._pending: deque[Batch] = deque()
        self.accepted = 0
        self.acked = 0
        self.in_flight = 0
        self.dead_lettered = 0
        self.dropped = 0
        self.redelivered = 0

    # -- what the application or the ipc leg gives

    def offer(self, frame: Frame, head: DataHead | None = None, tokens: Any = None) -> bool:
        """Take responsibility for a batch.

        Args:
            frame: an encoded DATA frame; its skip mask says what was settled before.
            head: its header when the caller has decoded it already.
            tokens: kept with the batch for `on_settled`.
        Returns:
            False when the same batch is held already (a replay after a reconnect); nothing changes then.
        Raises:
            FrameError: not a DATA frame.
        """
        if head is None:
            head = frames.data_head(buffer(frame))
        index = self._streams.get(head.stream)
        if index is None:
            index = self._streams[head.stream] = StreamIndex()
        elif head.first in index.by_first:
            return False
        batch = Batch(frame, head, tokens)
        index.add(batch)
        live = head.n - head.skip.bit_count()
        self.accepted += live
        self.in_flight += live
        self._pending.append(batch)
        return True

    def report_again(self, head: DataHead) -> None:
        """Tell `on_acked` once more what is settled of a batch that is held: when it was told first, nobody may have been there to hear it."""
        index = self._streams.get(head.stream)
        batch = index.by_first.get(head.first) if index is not None else None
        if batch is None:
            return
        dead = 0
        for bit, attempts in (batch.attempts or {}).items():
            dead |= (attempts >= ATTEMPTS) << bit
        told = batch.done & ~head.skip
        self._report(batch, told & ~dead, DONE)
        self._report(batch, told & dead, DEAD)

    def drop(self, count: int) -> None:
        """Account for `count` messages that were accepted and thrown away at once (overflow: DropNewest)."""
        self.accepted += count
        self.dropped += count

    def cancel(self, stream: int, seq: int) -> bool:
        """Give up one request (its timeout passed). Returns False when it is settled already."""
        batch, bit = self._find(stream, seq)
        if batch is None or (batch.done | batch.cancelled) & bit:
            return False
        self.in_flight -= 1
        self.dropped += 1
        if batch.link is None:
            batch.done |= bit
            if batch.done == batch.full:
                self._settle(batch)
        else:
            batch.cancelled |= bit
        return True

    # -- what links say

    def add_link(self, key: Hashable, transmit: Transmit) -> None:
        """A link is up; it gets messages once `grant` was called."""
        self._links[key] = HoldingLink(key, transmit)

    def grant(self, key: Hashable, messages: int, size: int) -> None:
        """The receiver's window: at most so many unsettled messages and bytes (at least one batch whatever its size)."""
        link = self._links.get(key)
        if link is not None:
            link.window, link.window_bytes, link.draining = messages, size, False

    def drain(self, key: Hashable) -> None:
        """The receiver wants nothing new; what it holds it settles or hands back."""
        link = self._links.get(key)
        if link is not None:
            link.draining = True

    def ack(self, key: Hashable, ranges: Iterable[frames.Range]) -> None:
        """Apply (stream, first, count, code) ranges. Repeated, unknown and other links' ranges change nothing."""
        link = self._links.get(key)
        if link is None:
            return
        for stream, begin, length, code in ranges:
            index = self._streams.get(stream)
            if index is None:
                continue
            first, count = begin, length
            # Almost every range covers whole batches that nothing has happened to.
            while (
                code == DONE
                and (batch := index.by_first.get(first)) is not None
                and batch.n <= count
                and batch.link is link
                and not (batch.done | batch.returned | batch.cancelled)
            ):
                n = batch.n
                batch.done = batch.full
                self.acked += n
                self.in_flight -= n
                link.used -= n
                self._on_acked(stream, first, n, DONE)
                self._leave(link, batch)
                self._settle(batch)
                first, count = first + n, count - n
            if not count:
                continue
            for part in list(index.overlapping(first, count)):
                if part.link is link:
                    low, high = max(first - part.first, 0), min(first + count - part.first, part.n)
                    self._ack_mask(link, part, (1 << high) - (1 << low), code)

    def reply(self, key: Hashable, stream: int, seq: int, *, lost: bool = False) -> bool:
        """Settle one request by its reply, or by the news that its replier was lost. Returns whether anybody still waits for it."""
        batch, bit = self._find(stream, seq)
        if batch is None or batch.link is None or batch.link.key != key or batch.done & bit:
            return False
        waited = not batch.cancelled & bit
        if lost:
            self.cancel(stream, seq)
        self._ack_mask(batch.link, batch, bit, DONE)
        return waited

    def revoke(self, key: Hashable, *, charge: bool) -> None:
        """The link stays, but what it holds must go elsewhere; it gets no more until the next `grant`.

        Args:
            charge: its oldest message that no handler has finished is charged an attempt.
        """
        link = self._links.get(key)
        if link is not None:
            link.window = link.window_bytes = 0
            self._take_back(link, charge)

    def lost(self, key: Hashable, *, charge: bool) -> None:
        """The link is gone, see `revoke`."""
        link = self._links.pop(key, None)
        if link is not None:
            self._take_back(link, charge)

    def give_up(self, why: str, *, last: bool = False) -> None:
        """Dead-letter whatever no link holds: nobody will ever take it.

        Args:
            why: for people.
            last: only the batch that was offered last.
        """
        pending = self._pending
        if last:
            pending = deque((pending.pop(),)) if pending else pending
        else:
            self._pending = deque()
        for batch in pending:
            open_ = batch.full & ~batch.done
            for bit in bits(open_):
                self._bury(batch, bit, why)
            if open_:
                self._settle(batch)

    # -- what goes out

    def pump(self) -> None:
        """Put pending batches on links while there is credit."""
        pending = self._pending
        while pending:
            batch = pending[0]
            if batch.done == batch.full:
                pending.popleft()
                continue
            open_ = batch.full & ~batch.done
            if batch.suspect:
                open_ &= -open_
            live = open_.bit_count()
            link = self._best(batch, live)
            if link is None:
                return
            pending.popleft()
            if len(self._links) > 1:
                # Of links that are equally loaded, the one comes next that has waited longest.
                self._links[link.key] = self._links.pop(link.key)
            link.alone = batch.suspect
            # The others of a suspect's batch come back with it when it is settled.
            batch.returned = batch.full & ~batch.done & ~open_
            batch.sent += 1
            if batch.sent > 1:
                self.redelivered += live
                # Before its size is counted: the skip mask makes it longer.
                batch.frame = frames.redelivered(buffer(batch.frame), batch.done | batch.returned)
            link.used += live
            link.used_bytes += len(batch.frame)
            link.held[batch.stream, batch.first] = batch
            batch.link = link
            link.transmit(batch.frame)

    # -- what is known

    @property
    def at_rest(self) -> bool:
        """Nothing accepted is unsettled."""
        return self.in_flight == 0

    @property
    def links(self) -> int:
        """Links with a grant. Any thread."""
        # A copy is made in one step: the control thread reports while `pump` moves entries.
        return sum(1 for link in list(self._links.values()) if link.window)

    @property
    def pending(self) -> int:
        """Batches that wait for credit."""
        return len(self._pending)

    def ledger(self) -> Ledger:
        """Counts in messages."""
        return Ledger(self.accepted, self.acked, self.in_flight, self.dead_lettered, self.dropped, self.redelivered)

    def in_flight_of(self, stream: int) -> int:
        """Messages in flight of one stream."""
        index = self._streams.get(stream)
        return 0 if index is None else sum(b.n - (b.done | b.cancelled).bit_count() for b in index.by_first.values())

    def unsettled(self) -> Iterator[MessageId]:
        """Ids of all messages in flight, for diagnosis and for failing them at the end."""
        for stream, index in self._streams.items():
            for first in sorted(index.by_first):
                batch = index.by_first[first]
                for bit in bits(batch.full & ~batch.done & ~batch.cancelled):
                    yield MessageId(stream, first + bit)

    # -- inside

    def _find(self, stream: int, seq: int) -> tuple[Batch | None, int]:
        index = self._streams.get(stream)
        if index is not None:
            for batch in index.overlapping(seq, 1):
                return batch, 1 << (seq - batch.first)
        return None, 0

    def _best(self, batch: Batch, live: int) -> HoldingLink | None:
        """The link that holds least for its window, which is as large as its receiver is quick; of equals the larger window, then who waits longest."""
        best: HoldingLink | None = None
        fallback: HoldingLink | None = None
        size = len(batch.frame)
        for link in self._links.values():
            if not link.window or link.draining:
                continue
            # An idle link takes any batch: a window smaller than a batch must not stop the stream.
            if link.held and (link.window - link.used < live or link.used_bytes + size > link.window_bytes or batch.suspect or link.alone):
                continue
            if link.key == batch.avoid:
                fallback = link
            elif best is None or (link.used * best.window, best.window) < (best.used * link.window, link.window):
                best = link
        return best or fallback

    def _ack_mask(self, link: HoldingLink, batch: Batch, mask: int, code: int) -> None:
        new = mask & ~batch.done & ~batch.returned
        if not new or code > STARTED:
            return
        if code in (HANDLED, STARTED):
            batch.started |= new
            if code == HANDLED:
                batch.handled |= new
            return
        link.used -= new.bit_count()
        late = new & batch.cancelled
        batch.done |= late
        new &= ~late
        count = new.bit_count()
        if code in (DONE, DEAD):
            batch.done |= new
            self.in_flight -= count
            if code == DONE:
                self.acked += count
            else:
                self.dead_lettered += count
            self._report(batch, new, code)
        elif code in (REJECTED, RELEASED):
            batch.returned |= new
            if code == REJECTED:
                for bit in bits(new):
                    self._charge(batch, bit, "its handler raised")
        if batch.done | batch.returned == batch.full:
            self._leave(link, batch)
            if batch.done == batch.full:
                self._settle(batch)
            else:
                self._requeue((batch,), link.key)

    def _report(self, batch: Batch, mask: int, code: int) -> None:
        start = -1
        for bit in range(batch.n + 1):
            if mask >> bit & 1:
                if start < 0:
                    start = bit
            elif start >= 0:
                self._on_acked(batch.stream, batch.first + start, bit - start, code)
                start = -1

    def _charge(self, batch: Batch, bit: int, why: str) -> None:
        attempts = batch.attempts = batch.attempts or {}
        attempts[bit] = attempts.get(bit, 0) + 1
        if attempts[bit] >= ATTEMPTS:
            self._bury(batch, bit, f"{why}, {attempts[bit]} attempts")

    def _bury(self, batch: Batch, bit: int, why: str) -> None:
        mask = 1 << bit
        batch.returned &= ~mask
        batch.done |= mask
        self.in_flight -= 1
        self.dead_lettered += 1
        self._on_dead(MessageId(batch.stream, batch.first + bit), batch.body(bit), why)
        self._on_acked(batch.stream, batch.first + bit, 1, DEAD)

    def _leave(self, link: HoldingLink, batch: Batch) -> None:
        del link.held[batch.stream, batch.first]
        link.used_bytes -= len(batch.frame)
        batch.link = None

    def _settle(self, batch: Batch) -> None:
        index = self._streams[batch.stream]
        index.remove(batch)
        if not index.by_first:
            del self._streams[batch.stream]
        self._on_settled(batch)

    def _take_back(self, link: HoldingLink, charge: bool) -> None:
        held = list(link.held.values())
        link.held.clear()
        link.used = link.used_bytes = 0
        again = []
        if charge:
            self._charge_one(held)
        for batch in held:
            batch.link = None
            batch.done |= batch.cancelled
            batch.cancelled = 0
            lost = batch.full & ~batch.done & ~batch.returned
            if batch.request:
                batch.done |= lost
                self.in_flight -= lost.bit_count()
                self.dropped += lost.bit_count()
                for bit in bits(lost):
                    self._on_failed(batch.stream, batch.first + bit)
            batch.started = batch.handled = 0
            if batch.done == batch.full:
                self._settle(batch)
            else:
                again.append(batch)
        self._requeue(again, link.key)

    def _charge_one(self, held: list[Batch]) -> None:
        """Charge the message that was probably being handled when the process was lost.

        Of a redelivery it is known which was begun. Of a first delivery the oldest is taken: a message is charged at most once without
        proof, so that processes which are killed for other reasons never use up its attempts.

        What a dying process said last is often lost with it, and then a message that was done is taken for the culprit. So before the last
        charge its batch becomes suspect: each of its messages has a link for itself once.
        """
        oldest: tuple[Batch, int] | None = None
        for batch in held:
            if batch.request:
                continue
            batch.crashes += 1
            open_ = batch.full & ~(batch.done | batch.returned | batch.handled)
            if batch.sent > 1 and not (batch.suspect and batch.crashes > HOPELESS):
                open_ &= batch.started
            batch.suspect |= batch.crashes >= HOPELESS
            if open_ and (oldest is None or batch.sent > 1 >= oldest[0].sent):
                oldest = batch, (open_ & -open_).bit_length() - 1
        if oldest is None:
            return
        batch, bit = oldest
        if not batch.suspect and (batch.attempts or {}).get(bit, 0) >= ATTEMPTS - 1:
            batch.suspect = True
        else:
            self._charge(batch, bit, "the process that handled it was lost")

    def _requeue(self, batches: Iterable[Batch], avoid: Hashable) -> None:
        again = list(batches)
        for batch in again:
            batch.returned = 0
            batch.avoid = avoid
        # Batches come back one by one and in any order; the next receiver shall get them in that of their messages.
        pending = self._pending
        while pending and pending[0].sent:
            again.append(pending.popleft())
        again.sort(key=_first)
        pending.extendleft(reversed(again))
