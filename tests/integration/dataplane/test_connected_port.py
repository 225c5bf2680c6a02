"""Connections to binders: the directory and what the peers say come in any order."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from typing import Any

import pytest
import zmq

from ganglion.runtime import connected_port
from ganglion.runtime.connected_port import ConnectedPort
from ganglion.runtime.connections import DesiredPeer
from ganglion.runtime.reactor import BUDGET
from ganglion.wire import frames
from tests.support.aio import eventually
from tests.support.dataplane import bench, identity
from tests.support.node import ZapThread
from tests.support.wirings import channel


def test_a_peer_whose_bye_waits_unread_leaves_the_directory() -> None:
    """Both sides of a domain end at once: the directory says that a peer is gone while its BYE lies in the socket's queue."""

    async def story() -> None:
        with bench() as world:
            sink = world.member("dst-0", channel("in", "work", "Pull", bind=True))
            world.inlet(sink, "in")
            source = world.member("src-0", channel("out", "work", "Push", bind=False))
            outlet = source.plane.outlet("out")
            world.wire()
            await eventually(lambda: outlet.wired == 1)
            port = outlet.port
            assert isinstance(port, ConnectedPort)
            (data, _monitor) = port.sockets
            # From here on the loop does not run: nobody reads the BYE before the directory speaks.
            world.close("dst-0")
            assert data.poll(5000, zmq.POLLIN)
            source.plane.apply({"out": {}})
            assert port.sockets == []
            assert outlet.wired == 0
            # A peer that is not listed any more is not tried again either.
            port.tick(time.monotonic() + 3600.0)
            assert port.sockets == []

    asyncio.run(story())


@pytest.mark.parametrize(
    "poison", [{"key": "#" * 40}, {"key": "no key"}, {"endpoint": "tcp://127.0.0.1:-5"}], ids=["overflow", "key", "port"]
)
def test_a_peer_that_cannot_be_connected_to_keeps_nobody_from_the_others(poison: dict[str, Any]) -> None:
    """A member says itself what its key and its port are."""

    async def story() -> None:
        with bench(curve=True) as world:
            zap = ZapThread(world.context)
            sink = world.member("dst-1", channel("in", "work", "Pull", bind=True))
            world.inlet(sink, "in")
            source = world.member("src-0", channel("out", "work", "Push", bind=False))
            zap.policy.replace(world.allowed())
            outlet = source.plane.outlet("out")
            sink.plane.apply({"in": {"src-0": source.as_peer("out")}})
            good = sink.as_peer("in")
            bad = replace(good, replica="dst-0", **poison)
            try:
                source.plane.apply({"out": {"dst-0": bad, "dst-1": good}})
                outlet.send(b"one")
                await eventually(lambda: sink.got == ["one"])
                # It may still become a peer like any other.
                source.plane.apply({"out": {"dst-0": good}})
                await eventually(lambda: outlet.at_rest and outlet.wired == 1)
            finally:
                world.close()
                zap.stop()

    asyncio.run(story())


def test_a_sidecar_that_says_nothing_is_lost_though_its_connection_stands(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its I/O thread answers libzmq's heartbeats, whatever the main one does."""
    monkeypatch.setattr(connected_port, "SILENCE_SECONDS", 0.5)

    async def story() -> None:
        with bench() as world:
            hung = world.context.socket(zmq.ROUTER)
            port = hung.bind_to_random_port("tcp://127.0.0.1")
            source = world.member("src-0", channel("out", "work", "Push", bind=False))
            outlet = source.plane.outlet("out")
            try:
                who = identity("dst-0", host="sidecar")
                source.plane.apply({"out": {"dst-0": DesiredPeer("dst-0", "dst", who.incarnation, "", f"tcp://127.0.0.1:{port}")}})
                ident, _hello = await eventually(lambda: hung.recv_multipart() if hung.poll(0) else [])
                for fields in (who.fields(), {"messages": 16, "bytes": 1 << 20}):
                    hung.send_multipart([ident, frames.encode_control(frames.WELCOME, fields)])
                await eventually(lambda: outlet.wired == 1)
                for _ in range(10):
                    hung.send_multipart([ident, frames.encode_control(frames.PING)])
                    assert await eventually(lambda: hung.recv_multipart() if hung.poll(0) else [])
                assert outlet.wired == 1
                await eventually(lambda: outlet.wired == 0, timeout=5.0)
            finally:
                hung.close(0)

    asyncio.run(story())


def test_a_tick_handles_no_more_than_a_turn() -> None:
    """What waits is handled in the loop's turns: a tick that went on while a sender goes on would be the last."""

    async def story() -> None:
        with bench() as world:
            sender = world.context.socket(zmq.ROUTER)
            sender.sndhwm = 0
            port = sender.bind_to_random_port("tcp://127.0.0.1")
            sink = world.member("dst-0", channel("in", "work", "Pull", bind=False))
            inlet = world.inlet(sink, "in")
            try:
                who = identity("src-0")
                sink.plane.apply({"in": {"src-0": DesiredPeer("src-0", "src", who.incarnation, "", f"tcp://127.0.0.1:{port}")}})
                ident, _hello = await eventually(lambda: sender.recv_multipart() if sender.poll(0) else [])
                sender.send_multipart([ident, frames.encode_control(frames.WELCOME, who.fields())])
                await eventually(lambda: inlet.wired == 1)
                connected = inlet.port
                assert isinstance(connected, ConnectedPort)
                (data, _monitor) = connected.sockets
                # From here on the loop does not run.
                for number in range(1000):
                    sender.send_multipart([ident, frames.encode_data(1, number, [b"%d" % number])])
                assert data.poll(5000, zmq.POLLIN)
                connected.tick(time.monotonic())
                assert len(sink.got) <= BUDGET
                await eventually(lambda: len(sink.got) == 1000)
            finally:
                sender.close(0)

    asyncio.run(story())
