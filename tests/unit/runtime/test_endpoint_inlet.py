"""What an inlet counts as held when its sidecar goes and another one comes."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from ganglion.runtime.endpoint_inlet import EndpointInlet
from ganglion.runtime.links import Frame, Link
from ganglion.runtime.plane import InletSpec, MessageId
from ganglion.runtime.reactor import Reactor
from ganglion.wire import frames
from tests.support.memory import noted
from tests.support.wirings import channel

SLOT = b"\1\0\0\0"


class _Leg(Link):
    """A leg to a sidecar that keeps what it is told."""

    def __init__(self) -> None:
        super().__init__()
        self.slotted = True
        self.acks: list[frames.Range] = []

    def send(self, frame: Frame) -> bool:
        return True

    def send_slot(self, slot: bytes, frame: Frame) -> bool:
        assert slot == SLOT
        assert isinstance(frame, bytes)
        if frame[0] == frames.ACK:
            self.acks += frames.decode_ack(frame)
        return True


def _in_loop(test: Callable[[Reactor], Awaitable[None]]) -> None:
    async def run() -> None:
        reactor = Reactor(asyncio.get_running_loop())
        try:
            await test(reactor)
        finally:
            reactor.close()

    asyncio.run(run())


def test_what_a_lost_sidecar_brought_is_not_counted_against_the_next_one() -> None:
    async def story(reactor: Reactor) -> None:
        running: list[asyncio.Future[None]] = []

        def handler(_: object) -> asyncio.Future[None]:
            running.append(reactor.loop.create_future())
            return running[-1]

        inlet = EndpointInlet(reactor, channel("in", "work", "Pull", bind=False), InletSpec("in", bytes, handler))
        inlet.start()
        first, second = _Leg(), _Leg()
        inlet.link_up(first)
        inlet.link_frame(first, frames.DATA, frames.encode_data(1, 0, [b"old"]), SLOT)
        inlet.link_down(first, crashed=True)
        # A sidecar counts its slots from the beginning again.
        inlet.link_up(second)
        inlet.link_frame(second, frames.DATA, frames.encode_data(2, 0, [b"new"]), SLOT)
        old, new = running
        old.set_result(None)
        reactor.flush_soon()
        await asyncio.sleep(0)
        assert not inlet.idle, "the new message is still being handled"
        assert second.acks == []
        new.set_result(None)
        for _ in range(3):
            await asyncio.sleep(0)
        assert inlet.idle
        assert second.acks == [(2, 0, 1, frames.DONE)]
        inlet.close()

    _in_loop(story)


@pytest.mark.parametrize("flags", [0, frames.FLAG_REQUEST])
def test_a_message_is_current_at_the_inlet_it_came_on_only(flags: int) -> None:
    async def story(reactor: Reactor) -> None:
        seen: list[tuple[MessageId | None, MessageId | None]] = []

        def handler(_: object) -> None:
            seen.append((other.current, inlet.current))

        other = EndpointInlet(reactor, channel("other", "more", "Pull", bind=False), InletSpec("other", bytes, handler))
        inlet = EndpointInlet(reactor, channel("in", "work", "Pull", bind=False), InletSpec("in", bytes, handler))
        inlet.start()
        leg = _Leg()
        inlet.link_up(leg)
        inlet.link_frame(leg, frames.DATA, frames.encode_data(1, 7, [b"a", b"b"], flags=flags), SLOT)
        assert seen == [(None, MessageId(1, 7)), (None, MessageId(1, 8))]
        assert inlet.current is None
        inlet.close()
        other.close()

    _in_loop(story)


@pytest.mark.parametrize("flags", [0, frames.FLAG_REQUEST])
def test_sizes_of_what_is_received_are_noted(flags: int, monkeypatch: pytest.MonkeyPatch) -> None:
    found = noted(monkeypatch)

    async def story(reactor: Reactor) -> None:
        inlet = EndpointInlet(reactor, channel("in", "work", "Pull", bind=False), InletSpec("in", bytes, lambda _: None))
        inlet.start()
        leg = _Leg()
        inlet.link_up(leg)
        frame = frames.encode_data(1, 7, [b"a" * 40000, b"b"], flags=flags)
        inlet.link_frame(leg, frames.DATA, frame, SLOT)
        assert found == [(len(frame), 2)]
        inlet.close()

    _in_loop(story)
