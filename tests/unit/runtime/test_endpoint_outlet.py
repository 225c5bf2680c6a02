"""What an outlet writes into its batches."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import pytest

from ganglion.runtime import endpoint_outlet
from ganglion.runtime.endpoint_outlet import EndpointOutlet
from ganglion.runtime.endpoint_plane import max_frame_bytes
from ganglion.runtime.links import Frame, Link
from ganglion.runtime.reactor import Reactor
from ganglion.wire import frames
from tests.support.wirings import channel


class _Receiver(Link):
    """A link that keeps what it is sent."""

    def __init__(self) -> None:
        super().__init__()
        self.frames: list[bytes] = []

    def send(self, frame: Frame) -> bool:
        self.frames.append(frame if isinstance(frame, bytes) else frame.bytes)
        return True


@pytest.mark.parametrize("timeout", [3.0, 300.0])
@pytest.mark.parametrize("others", [[], [30.0], [3000.0]])
def test_a_request_says_how_long_its_sender_waits(timeout: float, others: list[float]) -> None:
    async def story() -> None:
        reactor = Reactor(asyncio.get_running_loop())
        outlet = EndpointOutlet(reactor, channel("ask", "work", "Req", bind=False))
        receiver = _Receiver()
        try:
            outlet.link_up(receiver)
            outlet.link_frame(receiver, frames.WELCOME, frames.encode_control(frames.WELCOME, {"messages": 8, "bytes": 1 << 20}), b"")
            for other in others:
                outlet.request(b"another", timeout=other, on_reply=lambda _reply: None)
                outlet.flush()
            receiver.frames.clear()
            before = time.time()
            outlet.request(b"?", timeout=timeout, on_reply=lambda _reply: None)
            outlet.flush()
            after = time.time()
        finally:
            outlet.close(0.0)
            reactor.close()
        (frame,) = receiver.frames
        deadline = frames.decode_data(frame).ext["deadline"] / 1000
        assert before + timeout - 0.001 <= deadline <= after + timeout

    asyncio.run(story())


def test_a_reply_cannot_come_before_its_request_is_known() -> None:
    """The first of a burst leaves at once; input that waits then must not be read before the callback is noted."""

    async def story() -> None:
        reactor = Reactor(asyncio.get_running_loop())
        outlet = EndpointOutlet(reactor, channel("ask", "work", "Req", bind=False))
        receiver = _Receiver()
        replies: list[bytes] = []

        def answer_at_once() -> None:
            sent = frames.decode_data(receiver.frames[-1])
            outlet.link_frame(receiver, frames.REPLY, frames.encode_reply(sent.head.stream, sent.head.first, b"!"), b"")

        try:
            outlet.link_up(receiver)
            outlet.link_frame(receiver, frames.WELCOME, frames.encode_control(frames.WELCOME, {"messages": 8, "bytes": 1 << 20}), b"")
            reactor.serve = answer_at_once  # type: ignore[method-assign]
            outlet.request(b"?", timeout=5.0, on_reply=lambda reply: replies.append(bytes(reply.body or b"")))
            if not outlet.at_rest:
                answer_at_once()
        finally:
            outlet.close(0.0)
            reactor.close()
        assert replies == [b"!"]

    asyncio.run(story())


def test_batches_grow_while_they_are_settled_quickly_and_shrink_when_they_are_not(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [1000.0]
    monkeypatch.setattr(endpoint_outlet, "_monotonic", lambda: clock[0])

    async def story() -> None:
        reactor = Reactor(asyncio.get_running_loop())
        outlet = EndpointOutlet(reactor, channel("out", "work", "Push", bind=False))
        receiver = _Receiver()
        reactor.dispatching = True  # as inside a handler: batches leave when they are full

        def batch(seconds: float) -> int:
            """Size of the next full batch, which is settled after so long."""
            before = len(receiver.frames)
            while len(receiver.frames) == before:
                outlet.send(b"x")
            head = frames.data_head(receiver.frames[-1])
            clock[0] += seconds
            done = frames.encode_ack([(head.stream, head.first, head.n, frames.DONE)])
            outlet.link_frame(receiver, frames.ACK, done, b"")
            return head.n

        try:
            outlet.link_up(receiver)
            outlet.link_frame(receiver, frames.WELCOME, frames.encode_control(frames.WELCOME, {"messages": 1024, "bytes": 1 << 20}), b"")
            # The next batch has begun to grow when one is settled.
            assert [batch(0.001) for _ in range(10)] == [16, 16, 32, 32, 64, 64, 128, 128, 256, 256]
            assert [batch(1.0) for _ in range(9)] == [256, 256, 128, 64, 32, 16, 8, 4, 4]
            assert [batch(0.001) for _ in range(4)] == [4, 4, 8, 8]
            assert [batch(0.1) for _ in range(3)] == [16, 16, 16]
        finally:
            outlet.close(0.0)
            reactor.close()

    asyncio.run(story())


@pytest.mark.parametrize(("seconds", "lone"), [(0.01, False), (1.0, True)])
def test_after_a_wait_for_room_messages_travel_in_batches_unless_they_take_long(
    monkeypatch: pytest.MonkeyPatch, seconds: float, lone: bool
) -> None:
    """A function that blocks the loop, and a receiver that settles all it sent whenever it waits."""
    clock = [1000.0]
    monkeypatch.setattr(endpoint_outlet, "_monotonic", lambda: clock[0])

    async def story() -> None:
        reactor = Reactor(asyncio.get_running_loop())
        outlet = EndpointOutlet(reactor, channel("out", "work", "Push", bind=False))
        receiver = _Receiver()
        settled = 0

        def settle(until: Callable[[], bool], _deadline: float | None) -> bool:
            nonlocal settled
            clock[0] += seconds
            outlet.flush()
            for frame in receiver.frames[settled:]:
                head = frames.data_head(frame)
                outlet.link_frame(receiver, frames.ACK, frames.encode_ack([(head.stream, head.first, head.n, frames.DONE)]), b"")
            settled = len(receiver.frames)
            return until()

        monkeypatch.setattr(reactor, "pump", settle)
        try:
            outlet.link_up(receiver)
            outlet.link_frame(receiver, frames.WELCOME, frames.encode_control(frames.WELCOME, {"messages": 1024, "bytes": 1 << 20}), b"")
            for _ in range(1024):
                outlet.send(b"x")
            begun = len(receiver.frames)
            for _ in range(4096):
                outlet.send(b"x")
            assert (1 in {frames.data_head(frame).n for frame in receiver.frames[begun:]}) is lone
        finally:
            outlet.close(0.0)
            reactor.close()

    asyncio.run(story())


def test_injected_messages_make_batches_that_can_be_received() -> None:
    """Dead letters are injected inside acknowledgements, perhaps many in one turn, and beside what a handler sends."""

    async def story() -> None:
        reactor = Reactor(asyncio.get_running_loop())
        wired = channel("out", "work", "Push", bind=False)
        outlet = EndpointOutlet(reactor, wired)
        receiver = _Receiver()
        try:
            outlet.link_up(receiver)
            outlet.link_frame(receiver, frames.WELCOME, frames.encode_control(frames.WELCOME, {"messages": 1024, "bytes": 1 << 30}), b"")
            # As within one turn of the reactor: nothing is flushed meanwhile.
            reactor.dispatching = True
            for _ in range(16):
                outlet.inject(b"dead")
            for _ in range(300):
                outlet.send(b"alive")
            large = bytes(wired.max_message_bytes)
            for _ in range(3):
                outlet.inject(large)
            reactor.dispatching = False
            outlet.flush()
            assert sum(frames.data_head(frame).n for frame in receiver.frames) == 319
            assert max(map(len, receiver.frames)) <= max_frame_bytes(wired)
        finally:
            reactor.dispatching = False
            outlet.close(0.0)
            reactor.close()

    asyncio.run(story())
