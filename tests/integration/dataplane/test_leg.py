"""The leg between an agent and its sidecar breaks while both live (a process that was frozen for some seconds)."""

from __future__ import annotations

import asyncio
import math
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from ganglion.runtime.arena import LARGE_BYTES
from ganglion.runtime.connected_port import ConnectedPort
from ganglion.runtime.endpoint_plane import BehindSidecar, InProcess
from ganglion.runtime.errors import RequestTimeout
from ganglion.runtime.plane import Reply
from ganglion.runtime.relay import SendRelay
from tests.support.aio import eventually
from tests.support.dataplane import bench, identity
from tests.support.memory import noted
from tests.support.wirings import channel


def test_what_is_acknowledged_while_the_leg_is_broken_is_not_forgotten(tmp_path: Path) -> None:
    async def story() -> None:
        with bench() as world:
            loop = asyncio.get_running_loop()
            running: dict[str, asyncio.Future[None]] = {}

            def handler(body: str) -> asyncio.Future[None]:
                running[body] = loop.create_future()
                return running[body]

            sink = world.member("dst-0", channel("in", "work", "Pull", bind=True))
            world.inlet(sink, "in", handler)
            out = channel("out", "work", "Push", bind=False)
            location = InProcess(identity("src-0", host="sidecar"), None, "tcp://127.0.0.1")
            relay = SendRelay(world.reactor, world.context, out, location, tmp_path)
            relay.port.set_peers({"dst-0": sink.as_peer("in")})
            source = world.member("src-0", out, location=BehindSidecar(tmp_path, "src-0"))
            sink.plane.apply({"in": {"src-0": source.as_peer("out")}})
            outlet = source.plane.outlet("out")
            try:
                await eventually(lambda: outlet.wired == 1)
                for body in (b"a", b"b"):
                    # One batch: a lone `send` would leave at once.
                    outlet.inject(body)
                await eventually(lambda: len(running) == 2)
                _break(outlet.port, retry=math.inf)
                await eventually(lambda: not relay.attached)
                running["a"].set_result(None)
                await eventually(lambda: relay.ledger().acked == 1)
                _break(outlet.port, retry=0.0)
                await eventually(lambda: relay.attached and outlet.ledger().redelivered > 0, timeout=5.0)
                running["b"].set_result(None)
                await eventually(lambda: outlet.at_rest, timeout=5.0)
                assert outlet.ledger().acked == 2
            finally:
                relay.close()

    asyncio.run(story())


def _taken_or_waits(relay: SendRelay, before: int) -> bool:
    return relay.ledger().accepted > before or relay._granted == 0


def _break(port: Any, retry: float) -> None:
    """Cut the leg; it is made again at monotonic time `retry`."""
    assert isinstance(port, ConnectedPort)
    for connection in list(port._connections.values()):
        port._lost(connection, "cut by a test")
    port._retry["sidecar"] = (retry, 0.05)


def test_an_agent_that_crashes_again_and_again_waits_instead_of_being_refused(tmp_path: Path) -> None:
    """Nobody receives: what its former lives sent stays with the sidecar."""

    async def story() -> None:
        with bench() as world:
            sink = world.member("dst-0", channel("in", "work", "Pull", bind=True))
            out = channel("out", "work", "Push", bind=False, high_water_mark=2)
            relay = SendRelay(
                world.reactor, world.context, out, InProcess(identity("src-0", host="sidecar"), None, "tcp://127.0.0.1"), tmp_path
            )
            try:
                sent = 0
                for life in range(12):
                    source = world.member("src-0", out, location=BehindSidecar(tmp_path, "src-0"), start=life)
                    outlet = source.plane.outlet("out")
                    before = relay.ledger().accepted
                    outlet.inject(f"{life}".encode())
                    outlet.flush()
                    await eventually(partial(_taken_or_waits, relay, before))
                    assert relay._leg.refused == 0
                    sent = relay.ledger().accepted
                    if relay._granted == 0:
                        break
                    world.close("src-0")
                    await eventually(lambda: not relay.attached)
                assert relay._granted == 0
                assert sent <= 4 * out.high_water_mark
                world.inlet(sink, "in")
                relay.port.set_peers({"dst-0": sink.as_peer("in")})
                sink.plane.apply({"in": {"src-0": world.members["src-0"].as_peer("out")}})
                await eventually(lambda: outlet.at_rest and relay.at_rest)
                assert relay._leg.refused == 0
                assert relay._granted == 2
            finally:
                relay.close()

    asyncio.run(story())


def test_a_sidecar_sends_no_dead_letter_that_its_channel_does_not_allow(tmp_path: Path) -> None:
    async def story() -> None:
        with bench() as world:
            morgue = world.member("morgue-0", channel("letters", "morgue", "Pull", bind=True, max_message_bytes=1024))
            world.inlet(morgue, "letters")
            location = InProcess(identity("src-0", host="sidecar"), None, "tcp://127.0.0.1")
            dead = channel("dead", "morgue", "Push", bind=False, max_message_bytes=1024)
            relay = SendRelay(world.reactor, world.context, dead, location, tmp_path)
            source = world.member("src-0", dead, location=BehindSidecar(tmp_path, "src-0"))
            try:
                relay.port.set_peers({"morgue-0": morgue.as_peer("letters")})
                morgue.plane.apply({"letters": {"src-0": source.as_peer("dead")}})
                relay.inject(b"x" * 1_000_000)
                relay.inject(b"small")
                await eventually(lambda: relay.at_rest and morgue.got == ["small"], timeout=5.0)
                assert relay.ledger().accepted == 1
            finally:
                relay.close()

    asyncio.run(story())


def test_a_sidecar_forgets_the_deadlines_of_requests_that_were_answered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who waits for an hour at most, and is answered at once, must not cost memory for an hour. And on all four ways it is seen what is large."""

    async def story() -> None:
        with bench() as world:
            replier = world.member("dst-0", channel("in", "ask", "Rep", bind=True))
            world.inlet(replier, "in", lambda body: body, encode=str.encode)
            ask = channel("out", "ask", "Req", bind=False)
            relay = SendRelay(world.reactor, world.context, ask, InProcess(identity("src-0", host="sidecar"), None), tmp_path)
            source = world.member("src-0", ask, location=BehindSidecar(tmp_path, "src-0"))
            outlet = source.plane.outlet("out")
            replies: list[Reply] = []
            try:
                relay.port.set_peers({"dst-0": replier.as_peer("in")})
                replier.plane.apply({"in": {"src-0": source.as_peer("out")}})
                for number in range(100):
                    outlet.request(b"%d" % number, timeout=3600.0, on_reply=replies.append)
                await eventually(lambda: len(replies) == 100)
                assert all(reply.error is None for reply in replies)
                assert not relay._deadlines
                sizes = noted(monkeypatch)
                large: list[Reply] = []
                outlet.request(b"x" * LARGE_BYTES, timeout=20.0, on_reply=large.append)
                await eventually(lambda: len(large) == 1)
                # Request and reply, in the sidecar and behind it.
                assert [size >= LARGE_BYTES for size, _ in sizes] == [True] * 4
                # Nobody is there who could answer: this one is given up in time.
                relay.port.set_peers({})
                outlet.request(b"late", timeout=0.2, on_reply=replies.append)
                await eventually(lambda: len(replies) == 101 and relay.at_rest)
                assert isinstance(replies[-1].error, RequestTimeout)
                assert not relay._deadlines
            finally:
                relay.close()

    asyncio.run(story())
