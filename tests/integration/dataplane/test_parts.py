"""A replica with two aliases on one channel (two channels that share a dead-letter channel): each alias has links of its own."""

from __future__ import annotations

import asyncio

import pytest

from ganglion.runtime.connections import DesiredPeer, desired
from ganglion.wire.control import Incarnation, Peer, PeerChannel
from tests.support.aio import eventually
from tests.support.dataplane import Bench, Member, bench
from tests.support.node import ZapThread
from tests.support.wirings import channel, wiring

COUNT = 200


def _as_peer(member: Member) -> Peer:
    ports = member.plane.listening()
    first, *rest = (PeerChannel(role=c.role, port=ports.get(c.alias, 0)) for c in member.channels)
    shared = PeerChannel(role=first.role, port=first.port, also=tuple(rest))
    life = Incarnation(member.name + "-uid", 1, 0)
    key = member.curve.public if member.curve is not None else ""
    return Peer(agent="a", replica=member.name, incarnation=life, host="127.0.0.1", key=key, channels={"work": shared})


def _wire(world: Bench, one: Member, other: Member) -> None:
    for member, peer in ((one, other), (other, one)):
        wanted: dict[str, dict[str, DesiredPeer]] = desired(wiring(*member.channels), [_as_peer(peer)])
        member.plane.apply(wanted)


@pytest.mark.parametrize("push_binds", [True, False], ids=["push-binds", "pull-binds"])
@pytest.mark.parametrize("curve", [True, False], ids=["curve", "open"])
def test_two_aliases_of_one_sender(push_binds: bool, curve: bool) -> None:
    async def story() -> None:
        with bench(curve=curve) as world:
            zap = ZapThread(world.context)
            try:
                sink = world.member("dst-0", channel("in", "work", "Pull", bind=not push_binds))
                source = world.member("src-0", channel("a", "work", "Push", bind=push_binds), channel("b", "work", "Push", bind=push_binds))
                zap.policy.replace(world.allowed())
                inlet = world.inlet(sink, "in")
                outlets = [source.plane.outlet("a"), source.plane.outlet("b")]
                _wire(world, source, sink)
                await eventually(lambda: inlet.wired == 2 and all(outlet.wired == 1 for outlet in outlets))
                for number in range(COUNT):
                    for name, outlet in zip("ab", outlets, strict=True):
                        outlet.send(f"{name}{number}".encode())
                await eventually(lambda: all(outlet.at_rest for outlet in outlets))
                # Nothing was redelivered: neither link took the other's place.
                assert sorted(sink.got) == sorted(f"{name}{number}" for name in "ab" for number in range(COUNT))
                assert [outlet.ledger().redelivered for outlet in outlets] == [0, 0]
            finally:
                world.close()
                zap.stop()

    asyncio.run(story())


def test_two_aliases_of_one_receiver() -> None:
    async def story() -> None:
        with bench() as world:
            sink = world.member("dst-0", channel("a", "work", "Pull", bind=True), channel("b", "work", "Pull", bind=True))
            source = world.member("src-0", channel("out", "work", "Push", bind=False))
            inlets = [world.inlet(sink, "a"), world.inlet(sink, "b")]
            outlet = source.plane.outlet("out")
            _wire(world, source, sink)
            await eventually(lambda: outlet.wired == 2 and all(inlet.wired == 1 for inlet in inlets))
            # One alias leaves the directory; the other's link stays.
            first = desired(wiring(*source.channels), [_as_peer(sink)])["out"]
            source.plane.apply({"out": {link: peer for link, peer in first.items() if not peer.part}})
            await eventually(lambda: [inlet.wired for inlet in inlets] == [1, 0])
            outlet.send(b"last")
            await eventually(lambda: outlet.at_rest)
            assert sink.got == ["last"]

    asyncio.run(story())
