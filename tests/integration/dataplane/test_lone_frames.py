"""A port that is used to lone frames does not try for another, and still takes every frame that comes, without the help of a tick."""

from __future__ import annotations

import asyncio
import itertools
from pathlib import Path
from typing import Any

import pytest

from ganglion.runtime.bound_port import BoundPort
from ganglion.runtime.connected_port import ConnectedPort
from ganglion.runtime.connections import DesiredPeer
from ganglion.runtime.links import Link
from ganglion.runtime.loop import DataLoop
from ganglion.runtime.reactor import Reactor
from ganglion.runtime.sockets import ipc_endpoint, make_context
from ganglion.wire import frames
from tests.support.aio import eventually
from tests.support.dataplane import identity

_LIMIT = 1 << 16
_BURSTS = tuple(itertools.islice(itertools.cycle((1, 1, 1, 2, 1, 3, 1, 1, 70, 1)), 200))
"""Frames that come together; 70 are more than a turn's budget."""


class _Player:
    """Throws a burst when the last one has come back, or throws back whatever comes."""

    def __init__(self, reactor: Reactor, *, serves: bool) -> None:
        self.reactor, self.serves = reactor, serves
        self.bursts = iter(_BURSTS if serves else ())
        self.away = self.caught = 0
        self.link: Link | None = None

    def link_up(self, link: Link) -> None:
        self.link = link

    def link_frame(self, link: Link, kind: int, frame: Any, _slot: bytes) -> None:
        assert kind == frames.DATA
        self.caught += 1
        if not self.serves:
            link.send(bytes(frame.buffer) if not isinstance(frame, bytes) else frame)
        else:
            self.away -= 1
            if not self.away:
                self.throw()

    def link_down(self, link: Link, *, crashed: bool) -> None:
        raise AssertionError("nobody leaves")

    def throw(self) -> None:
        assert self.link is not None
        self.away = next(self.bursts, 0)
        for number in range(self.away):
            self.link.send(frames.encode_data(1, number, [b"ball"]))
        self.reactor.flush_soon()


@pytest.mark.parametrize("zero_copy", [False, True])
@pytest.mark.parametrize("server", ["connector", "binder"])
def test_bursts_and_lone_frames_come_through_without_a_tick(tmp_path: Path, server: str, zero_copy: bool) -> None:
    async def story() -> None:
        context, loop = make_context(), asyncio.get_running_loop()
        # Each end has a reactor of its own: what one sends comes while the other waits, not in the middle of its turn.
        ends = [Reactor(loop, tick_seconds=3600.0) for _ in range(2)]
        players = [_Player(reactor, serves=server == side) for reactor, side in zip(ends, ("binder", "connector"), strict=True)]
        path = tmp_path / "leg.sock"
        who = identity("a-0")
        binder = BoundPort(
            ends[0], context, players[0], who, endpoint=path, max_frame_bytes=_LIMIT, anybody=True, zero_copy=zero_copy, pumped=True
        )
        connector = ConnectedPort(ends[1], context, players[1], identity("b-0"), max_frame_bytes=_LIMIT, zero_copy=zero_copy, pumped=True)
        connector.set_peers({"a-0": DesiredPeer("a-0", "a", who.incarnation, "", ipc_endpoint(path))})
        try:
            await eventually(lambda: all(player.link is not None for player in players))
            next(player for player in players if player.serves).throw()
            await eventually(lambda: all(player.caught == sum(_BURSTS) for player in players), timeout=20.0)
        finally:
            connector.close()
            binder.close()
            for reactor in ends:
                reactor.close()
            context.term()

    with asyncio.Runner(loop_factory=DataLoop) as runner:
        runner.run(story())
