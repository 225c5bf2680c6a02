"""A sender with links whose far ends keep what arrives."""

from __future__ import annotations

from collections import Counter

from ganglion.runtime.batches import Batch
from ganglion.runtime.plane import MessageId
from ganglion.runtime.sender import Sender
from ganglion.wire import frames
from ganglion.wire.frames import DONE

STREAM = 77


class Peer:
    """A link's far end: keeps what arrived and not yet answered."""

    def __init__(self) -> None:
        self.frames: list[bytes] = []

    def live(self, frame: bytes) -> list[int]:
        head = frames.data_head(frame)
        return [head.first + i for i in range(head.n) if not head.skip >> i & 1]


class Harness:
    def __init__(self) -> None:
        self.settled: list[Batch] = []
        self.acked: Counter[int] = Counter()
        self.dead: list[tuple[MessageId, bytes, str]] = []
        self.failed: list[int] = []
        self.sender = Sender(
            on_settled=self.settled.append,
            on_acked=lambda _stream, first, count, _code: self.acked.update(range(first, first + count)),
            on_dead=lambda id_, body, why: self.dead.append((id_, body, why)),
            on_failed=lambda _stream, seq: self.failed.append(seq),
        )
        self.peers: dict[str, Peer] = {}
        self.next = 0

    def link(self, name: str, messages: int = 256, size: int = 1 << 20) -> Peer:
        peer = self.peers[name] = Peer()
        self.sender.add_link(name, peer.frames.append)
        self.sender.grant(name, messages, size)
        return peer

    def offer(self, n: int, *, flags: int = 0, size: int = 2) -> int:
        first = self.next
        self.sender.offer(frames.encode_data(STREAM, first, [i.to_bytes(size, "little") for i in range(first, first + n)], flags=flags))
        self.next += n
        return first

    def done(self, name: str, first: int, count: int = 1, code: int = DONE) -> None:
        self.sender.ack(name, [(STREAM, first, count, code)])


def balanced(sender: Sender) -> bool:
    return sender.accepted == sender.acked + sender.in_flight + sender.dead_lettered + sender.dropped
