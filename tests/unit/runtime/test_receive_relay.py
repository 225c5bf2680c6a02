"""What the sidecar of a receiver forwards when one agent goes and the next comes."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
import zmq

from ganglion.runtime.endpoint_plane import InProcess
from ganglion.runtime.links import NO_SLOT, Frame, Link
from ganglion.runtime.relay import ReceiveRelay
from ganglion.wire import frames
from tests.support.dataplane import bench, identity
from tests.support.memory import noted
from tests.support.wirings import channel

GRANT = frames.encode_control(frames.WELCOME, {"messages": 100, "bytes": 1 << 20})


def _kind(frame: Frame) -> int:
    return frames.kind(frame.bytes if isinstance(frame, zmq.Frame) else frame)


class _Told(Link):
    """A link that keeps the kinds of what it is told."""

    def __init__(self, replica: str) -> None:
        super().__init__()
        self.peer = identity(replica)
        self.told: list[int] = []

    def send(self, frame: Frame) -> bool:
        self.told.append(_kind(frame))
        return True

    def send_slot(self, slot: bytes, frame: Frame) -> bool:
        assert slot != NO_SLOT
        self.told.append(_kind(frame))
        return True


def test_what_was_sent_before_a_revocation_came_there_is_not_forwarded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its sender takes it back and sends it again: the next agent would get it twice."""
    sizes = noted(monkeypatch)

    async def story() -> None:
        with bench() as world:
            location = InProcess(identity("dst-0", host="sidecar"), None, "tcp://127.0.0.1")
            relay = ReceiveRelay(world.reactor, world.context, channel("in", "work", "Pull", bind=True), location, tmp_path)
            sender, first, second = _Told("src-0"), _Told("dst-0"), _Told("dst-0")

            def send(number: int) -> None:
                relay._peer_frame(sender, frames.DATA, zmq.Frame(frames.encode_data(1, number, [b"x"])), NO_SLOT)

            try:
                relay._peer_up(sender)
                relay._app_up(first)
                relay._app_frame(first, frames.WELCOME, GRANT, NO_SLOT)
                send(0)
                assert first.told.count(frames.DATA) == 1
                # Lost twice before the sender has heard of the first time: it echoes each revocation.
                relay._app_down(first, True)
                relay._app_up(second)
                relay._app_frame(second, frames.WELCOME, GRANT, NO_SLOT)
                relay._app_down(second, True)
                assert sender.told.count(frames.REVOKE) == 2
                third = _Told("dst-0")
                relay._app_up(third)
                relay._app_frame(third, frames.WELCOME, GRANT, NO_SLOT)
                for echo in range(2):
                    send(1 + echo)
                    assert frames.DATA not in third.told, f"before echo {echo}"
                    relay._peer_frame(sender, frames.REVOKE, zmq.Frame(frames.encode_control(frames.REVOKE)), NO_SLOT)
                send(3)
                assert third.told.count(frames.DATA) == 1
                assert sizes == [(len(frames.encode_data(1, 0, [b"x"])), 1)] * 2, "of what was forwarded"
            finally:
                relay.close()

    asyncio.run(story())
