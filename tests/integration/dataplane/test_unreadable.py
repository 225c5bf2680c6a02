"""Batches that their receiver cannot read: what they hold is settled in the end, and the channel goes on."""

from __future__ import annotations

import asyncio
import struct
from functools import partial

import pytest

from ganglion.runtime.links import Link
from ganglion.runtime.plane import Reply
from ganglion.wire import frames
from tests.support.aio import eventually
from tests.support.dataplane import bench
from tests.support.wirings import channel


def _spoiled(stream: int, flags: int = 0) -> bytes:
    """A batch of two messages whose header can be read and whose bodies cannot: the first claims to be longer than the frame."""
    frame = bytearray(frames.encode_data(stream, 7, [b"one", b"two"], flags=flags))
    struct.pack_into("<I", frame, frames.DATA_HEADER_BYTES, 5000)
    return bytes(frame)


@pytest.mark.parametrize("push_binds", [True, False], ids=["push-binds", "pull-binds"])
def test_its_messages_become_dead_letters(push_binds: bool) -> None:
    async def story() -> None:
        with bench() as world:
            sink = world.member("dst-0", channel("in", "work", "Pull", bind=not push_binds))
            source = world.member("src-0", channel("out", "work", "Push", bind=push_binds))
            inlet = world.inlet(sink, "in")
            outlet = source.plane.outlet("out")
            world.wire()
            await eventually(lambda: outlet.wired == 1)
            outlet._sender.offer(_spoiled(99), tokens=(2, (), 0.0))
            for number in range(300):
                outlet.send(str(number).encode())
            await eventually(lambda: outlet.at_rest)
            ledger = outlet.ledger()
            assert (ledger.accepted, ledger.acked, ledger.dead_lettered) == (302, 300, 2)
            assert sorted(sink.got, key=int) == [str(number) for number in range(300)]
            assert inlet.idle

    asyncio.run(story())


def test_a_request_that_cannot_be_read_is_answered_with_an_error() -> None:
    async def story() -> None:
        with bench() as world:
            replier = world.member("rep-0", channel("rep", "ask", "Rep", bind=True))
            requester = world.member("req-0", channel("req", "ask", "Req", bind=False))
            inlet = world.inlet(replier, "rep", str.upper, encode=str.encode)
            outlet = requester.plane.outlet("req")
            world.wire()
            await eventually(lambda: outlet.wired == 1)
            answers: dict[int, Reply] = {}
            for seq in (7, 8):
                outlet._waiting[seq] = partial(answers.__setitem__, seq)
            outlet._sender.offer(_spoiled(outlet.stream, frames.FLAG_REQUEST), tokens=(2, (), 0.0))
            outlet.flush()
            await eventually(lambda: len(answers) == 2)
            assert "cannot be read" in str(answers[7].error)
            assert inlet.idle
            assert outlet.at_rest

    asyncio.run(story())


@pytest.mark.parametrize("push_binds", [True, False], ids=["push-binds", "pull-binds"])
def test_what_a_peer_refused_is_sent_again(push_binds: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    async def story() -> None:
        with bench() as world:
            sink = world.member("dst-0", channel("in", "work", "Pull", bind=not push_binds))
            source = world.member("src-0", channel("out", "work", "Push", bind=push_binds))
            inlet = world.inlet(sink, "in")
            outlet = source.plane.outlet("out")
            world.wire()
            await eventually(lambda: outlet.wired == 1)
            take = inlet.link_frame

            def refuse(link: Link, kind: int, frame: bytes, slot: bytes) -> None:
                monkeypatch.setattr(inlet, "link_frame", take)
                link.send(frames.encode_control(frames.REFUSE, {"code": "BadFrame", "text": "what is this?"}))

            monkeypatch.setattr(inlet, "link_frame", refuse)
            outlet.send(b"one")
            await eventually(lambda: outlet.at_rest)
            assert sink.got == ["one"]
            assert outlet.ledger().redelivered == 1

    asyncio.run(story())
