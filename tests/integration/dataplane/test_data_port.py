"""What strangers, liars and garbage get on a data port: nothing, and the channel goes on."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import zmq

from ganglion.runtime import bound_port
from ganglion.runtime.connections import DesiredPeer
from ganglion.runtime.endpoint_outlet import EndpointOutlet
from ganglion.runtime.links import Link
from ganglion.runtime.sockets import CurveKeys, Socket, make_socket
from ganglion.wire import frames
from tests.support.aio import eventually
from tests.support.dataplane import Bench, Member, bench, identity
from tests.support.node import ZapThread
from tests.support.wirings import channel

GARBAGE = (
    b"",
    b"\0",
    b"D",
    b"D\1",
    b"H\1\0\0\xff",
    b"A\1\0\0\xff\xff\xff\xff",
    b"\xff" * 5000,
    b"D\1\0\0" + b"\xff" * 28,
    b"W\1\0\0\x81\xa8messages\xff",
)


@contextmanager
def _pair(*, curve: bool = True) -> Iterator[tuple[Bench, Member, Member, EndpointOutlet]]:
    """A sink that binds and a source that connects, wired."""
    with bench(curve=curve) as world:
        zap = ZapThread(world.context)
        sink = world.member("dst-0", channel("in", "work", "Pull", bind=True))
        source = world.member("src-0", channel("out", "work", "Push", bind=False))
        zap.policy.replace(world.allowed())
        world.inlet(sink, "in")
        outlet = source.plane.outlet("out")
        world.wire()
        try:
            yield world, sink, source, outlet
        finally:
            world.close()
            zap.stop()


def _dial(world: Bench, sink: Member, keys: CurveKeys | None, *, server: str | None = None) -> Socket:
    assert sink.curve is not None
    socket = make_socket(world.context, zmq.DEALER, curve=keys, server_key=(server or sink.curve.public) if keys else None)
    socket.connect(sink.as_peer("in").endpoint)
    return socket


async def _goes_on(sink: Member, outlet: EndpointOutlet, text: str) -> None:
    outlet.send(text.encode())
    await eventually(lambda: outlet.at_rest)
    assert sink.got[-1] == text


def test_strangers_get_nothing_and_are_not_heard() -> None:
    async def main() -> None:
        with _pair() as (world, sink, _source, outlet):
            await _goes_on(sink, outlet, "first")
            unknown, server = CurveKeys.generate(), CurveKeys.generate().public
            strangers = [_dial(world, sink, None), _dial(world, sink, unknown), _dial(world, sink, unknown, server=server)]
            for stranger in strangers:
                stranger.send(frames.encode_control(frames.HELLO, identity("src-0").fields()))
                stranger.send(frames.encode_data(1, 0, [b"forged"]))
            for number in range(200):
                await _goes_on(sink, outlet, str(number))
            assert not any(stranger.poll(50) for stranger in strangers)
            assert "forged" not in sink.got
            for stranger in strangers:
                stranger.close()

    asyncio.run(main())


def test_a_registered_key_cannot_pass_for_another_replica() -> None:
    async def main() -> None:
        with _pair() as (world, sink, source, outlet):
            await _goes_on(sink, outlet, "first")
            liar = _dial(world, sink, source.curve)
            liar.send(frames.encode_control(frames.HELLO, identity("src-1").fields()))
            refusal = frames.decode_control(await eventually(lambda: liar.recv() if liar.poll(0) else b""))
            assert refusal == (frames.REFUSE, {"code": "NotAuthorised", "text": "src-1 is not registered for the channel"})
            liar.send(frames.encode_data(1, 0, [b"forged"]))
            code = frames.decode_control(await eventually(lambda: liar.recv() if liar.poll(0) else b""))[1]["code"]
            assert code == "UnknownLink"
            await _goes_on(sink, outlet, "last")
            assert "forged" not in sink.got
            liar.close()

    asyncio.run(main())


def test_who_has_a_links_routing_id_without_its_key_is_not_heard() -> None:
    """A routing id that has become free may be another's before the port has noticed: here it is made so by hand."""

    async def main() -> None:
        with bench(curve=True) as world:
            zap = ZapThread(world.context)
            sink = world.member("dst-0", channel("in", "work", "Pull", bind=True))
            sources = [world.member(f"src-{number}", channel("out", "work", "Push", bind=False)) for number in range(2)]
            zap.policy.replace(world.allowed())
            port = world.inlet(sink, "in").port
            outlets = [source.plane.outlet("out") for source in sources]
            world.wire()
            try:
                for number, outlet in enumerate(outlets):
                    await _goes_on(sink, outlet, f"of src-{number}")
                links = {link.peer.replica: link for link in port._links.values()}
                port._links[links["src-1"].ident] = links["src-0"]
                refused = port.refused
                outlets[1].send(b"forged")
                await eventually(lambda: port.refused > refused or "forged" in sink.got)
                assert "forged" not in sink.got
                port._links[links["src-1"].ident] = links["src-1"]
                await _goes_on(sink, outlets[0], "last")
            finally:
                world.close()
                zap.stop()

    asyncio.run(main())


def test_garbage_from_an_admitted_peer_is_refused_and_the_channel_goes_on() -> None:
    async def main() -> None:
        with _pair() as (world, sink, source, outlet):
            await _goes_on(sink, outlet, "first")
            outlet.close(0)
            dealer = _dial(world, sink, source.curve)
            for frame in GARBAGE:
                dealer.send(frame)
            dealer.send(frames.encode_control(frames.HELLO, identity("src-0", start=2).fields()))
            for frame in GARBAGE:
                dealer.send(frame)
            dealer.send_multipart([b"too", b"many", b"parts"])
            unknown = bytearray(frames.encode_data(1, 0, [b"from the future"]))
            unknown[1] = 7
            dealer.send(bytes(unknown))
            dealer.send(frames.encode_data(1, 0, [b"good"]))
            await eventually(lambda: "good" in sink.got)
            answers = []
            while dealer.poll(200):
                answers.append(dealer.recv())
            codes = [frames.decode_control(a)[1].get("code") for a in answers if a[0] == frames.REFUSE]
            assert "BadFrame" in codes
            assert "UnknownVersion" in codes
            assert sink.got == ["first", "good"]
            dealer.close()

    asyncio.run(main())


def test_an_older_life_of_a_replica_is_fenced() -> None:
    async def main() -> None:
        with _pair() as (world, sink, source, outlet):
            await _goes_on(sink, outlet, "first")
            old = _dial(world, sink, source.curve)
            old.send(frames.encode_control(frames.HELLO, identity("src-0", start=0).fields()))
            refusal = frames.decode_control(await eventually(lambda: old.recv() if old.poll(0) else b""))
            assert refusal[1]["code"] == "Fenced"
            await _goes_on(sink, outlet, "last")
            old.close()

    asyncio.run(main())


def test_a_peer_that_leaves_the_directory_is_cut_off() -> None:
    async def main() -> None:
        with _pair() as (world, sink, _source, outlet):
            await _goes_on(sink, outlet, "first")
            sink.plane.apply({"in": {}})
            await eventually(lambda: outlet.wired == 0)
            outlet.send(b"later")
            world.wire()
            await eventually(lambda: outlet.at_rest)
            assert sink.got == ["first", "later"]

    asyncio.run(main())


def test_a_binder_that_comes_back_with_a_new_key_is_found_again() -> None:
    async def main() -> None:
        with _pair() as (world, sink, _source, outlet):
            await _goes_on(sink, outlet, "first")
            world.close("dst-0")
            outlet.send(b"meanwhile")
            again = world.member("dst-0", channel("in", "work", "Pull", bind=True), start=2)
            world.inlet(again, "in")
            assert again.curve != sink.curve
            world.wire()
            await eventually(lambda: outlet.at_rest)
            assert again.got == ["meanwhile"]
            assert outlet.ledger().acked == 2

    asyncio.run(main())


def test_what_a_blocking_call_left_in_a_port_is_taken_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """It looks no further than its condition; what waits behind makes no edge any more."""
    monkeypatch.setattr(bound_port, "PING_SECONDS", 3600.0)

    class User:
        def __init__(self) -> None:
            self.frames = 0
            self.links: list[Link] = []

        def link_up(self, link: Link) -> None:
            self.links.append(link)

        def link_frame(self, link: Link, kind: int, frame: object, slot: bytes) -> None:
            self.frames += 1

        def link_down(self, link: Link, *, crashed: bool) -> None:
            self.links.remove(link)

    async def main() -> None:
        with bench() as world:
            user = User()
            port = bound_port.BoundPort(
                world.reactor, world.context, user, identity("src-0"), endpoint="tcp://127.0.0.1:*", max_frame_bytes=1 << 20, pumped=True
            )
            peer = world.context.socket(zmq.DEALER)
            try:
                port.set_peers({"dst-0": DesiredPeer("dst-0", "dst", identity("dst-0").incarnation, "", "")})
                peer.connect(f"tcp://127.0.0.1:{port.tcp_port}")
                peer.send(frames.encode_control(frames.HELLO, identity("dst-0").fields()))
                await eventually(lambda: user.links and port._next_ping)
                for _ in range(1000):
                    peer.send(frames.encode_ack([(1, 0, 1, 0)]))
                assert world.reactor.pump(lambda: user.frames > 0, time.monotonic() + 10)
                await eventually(lambda: user.frames == 1000, timeout=5.0)
            finally:
                peer.close(0)
                port.close()

    asyncio.run(main())
