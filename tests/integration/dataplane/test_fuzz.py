"""Random and damaged frames against live ports: a peer that is admitted may send anything, and the channel goes on."""

from __future__ import annotations

import asyncio
import random
import socket
from pathlib import Path

import pytest
import zmq

from ganglion.runtime.endpoint_plane import InProcess
from ganglion.runtime.links import NO_SLOT
from ganglion.runtime.relay import ReceiveRelay, SendRelay
from ganglion.runtime.sockets import Socket, ipc_endpoint, make_ipc_socket, make_socket
from ganglion.wire import frames
from tests.support.aio import eventually
from tests.support.dataplane import Bench, bench, identity
from tests.support.node import ZapThread
from tests.support.wirings import channel

ROUNDS, FRAMES = 40, 50
HELLO = frames.encode_control(frames.HELLO, identity("evil-0").fields())
WHOLE = (
    HELLO,
    frames.encode_data(5, 0, [b"a", b"bb", b""], ext={"deadline": 1}),
    frames.encode_data(5, 3, [b"c"], flags=frames.FLAG_REQUEST | frames.FLAG_REDELIVERY, ext={"deadline": 2**62}),
    frames.encode_ack([(5, 0, 3, 0), (5, 0, 2**32 - 1, 1), (5, 2**64 - 1, 9, 2), (5, 1, 1, 77)]),
    frames.encode_reply(5, 3, b"body"),
    frames.encode_error(5, 3, type_name="E", message="m"),
    frames.encode_control(frames.WELCOME, {"messages": 10, "bytes": 10, "wired": 1, "replica": "x"}),
    frames.encode_control(frames.REVOKE, {"charge": True}),
    frames.encode_control(frames.DRAIN),
    frames.encode_control(frames.PING),
    frames.encode_control(frames.PONG),
    frames.encode_control(frames.REFUSE, {"code": "BadFrame", "text": "t"}),
    frames.encode_control(frames.BYE),
)


def _damaged(dice: random.Random) -> list[bytes]:
    """A message of one part, mostly: whole, cut, changed, lengthened, or noise."""
    frame = bytearray(dice.choice(WHOLE))
    match dice.randrange(6):
        case 0:
            del frame[dice.randrange(len(frame)) :]
        case 1:
            for _ in range(dice.randint(1, 4)):
                frame[dice.randrange(len(frame))] = dice.randrange(256)
        case 2:
            frame += dice.randbytes(dice.randrange(40))
        case 3:
            frame = bytearray(bytes((dice.choice(b"DARHWXQGPON"), 1)) + dice.randbytes(dice.randrange(60)))
        case 4:
            frame = bytearray(dice.randbytes(dice.randrange(80)))
        case _:
            pass
    parts = [bytes(frame)]
    if dice.random() < 0.1:
        parts = [dice.randbytes(dice.randrange(6)) for _ in range(dice.randrange(4))] + parts
    return parts


async def _attack(evil: Socket, dice: random.Random, *before: bytes) -> None:
    """Rounds of garbage, each begun with a HELLO that is welcomed: whatever came before, the port listens."""

    def welcomed() -> bool:
        while evil.poll(0):
            answer = evil.recv_multipart()[-1]
            if answer[0] == frames.WELCOME and "replica" in frames.decode_control(answer)[1]:
                return True
        return False

    for _ in range(ROUNDS):
        evil.send_multipart([*before, HELLO])
        await eventually(welcomed, what="WELCOME")
        for _ in range(FRAMES):
            evil.send_multipart([*(before if dice.random() < 0.7 else ()), *_damaged(dice)])


def _evil(world: Bench, endpoint: str) -> Socket:
    if endpoint.startswith("ipc:"):
        evil = make_ipc_socket(world.context, zmq.DEALER, high_water_mark=0)
    else:
        keys = world.members["evil-0"].curve
        server = next(m.curve for m in world.members.values() if m.name != "evil-0" and m.curve is not None and m.plane.listening())
        evil = make_socket(world.context, zmq.DEALER, curve=keys, server_key=server.public, high_water_mark=0)
    evil.connect(endpoint)
    return evil


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("binder", ["Pull", "Push", "Rep", "Req"])
def test_an_admitted_peer_sends_anything(binder: str, seed: int, caplog: pytest.LogCaptureFixture) -> None:
    role = {"Pull": "Push", "Push": "Pull", "Rep": "Req", "Req": "Rep"}[binder]

    async def story() -> None:
        with bench(curve=True) as world:
            zap = ZapThread(world.context)
            try:
                server = world.member("a-0", channel("x", "work", binder, bind=True))
                good = world.member("b-0", channel("y", "work", role, bind=False))
                world.member("evil-0", channel("z", "work", role, bind=False))
                zap.policy.replace(world.allowed())
                receiver, alias = (server, "x") if binder in ("Pull", "Rep") else (good, "y")
                sender, other = (good, "y") if receiver is server else (server, "x")
                received: list[str] = []

                def take(body: str) -> str:
                    received.append(body)
                    return body

                # An answer's encoder has no use for a Pull; a returned text is ignored there.
                inlet = world.inlet(receiver, alias, take, encode=str.encode)
                outlet = sender.plane.outlet(other)
                world.wire()
                await eventually(lambda: outlet.wired >= 1 and inlet.wired >= 1)
                evil = _evil(world, server.as_peer("x").endpoint)
                await _attack(evil, random.Random(seed))
                evil.close()
                # It is gone, and what it had promised to handle is handled by the other.
                answers: list[object] = []
                for number in range(100):
                    if binder in ("Pull", "Push"):
                        outlet.send(f"good {number}".encode())
                    else:
                        outlet.request(f"good {number}".encode(), timeout=20.0, on_reply=answers.append)
                await eventually(lambda: outlet.at_rest, timeout=30.0)
                if binder in ("Pull", "Push"):
                    assert {f"good {number}" for number in range(100)} <= set(received)
                else:
                    assert len(answers) == 100
            finally:
                world.close()
                zap.stop()

    asyncio.run(story())
    _no_tracebacks(caplog)


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("role", ["Push", "Pull"])
def test_a_program_on_the_leg_sends_anything(tmp_path: Path, role: str, seed: int, caplog: pytest.LogCaptureFixture) -> None:
    async def story() -> None:
        with bench() as world:
            wiring = channel("x", "work", role, bind=True)
            location = InProcess(identity("a-0", host="sidecar"), None, "tcp://127.0.0.1")
            relay: SendRelay | ReceiveRelay
            relay = (SendRelay if role == "Push" else ReceiveRelay)(world.reactor, world.context, wiring, location, tmp_path)
            try:
                evil = _evil(world, ipc_endpoint(tmp_path / "x.sock"))
                # A receiver's leg has slots.
                await _attack(evil, random.Random(seed), *([NO_SLOT] if role == "Pull" else []))
                evil.close()
                await eventually(lambda: not relay.attached)
            finally:
                relay.close()

    asyncio.run(story())
    _no_tracebacks(caplog)


def test_bytes_that_are_no_zeromq(caplog: pytest.LogCaptureFixture) -> None:
    async def story() -> None:
        with bench(curve=True) as world:
            zap = ZapThread(world.context)
            try:
                sink = world.member("dst-0", channel("in", "work", "Pull", bind=True))
                source = world.member("src-0", channel("out", "work", "Push", bind=False))
                zap.policy.replace(world.allowed())
                world.inlet(sink, "in")
                outlet = source.plane.outlet("out")
                world.wire()
                dice = random.Random(1)
                port = sink.plane.listening()["in"]
                strangers = [socket.create_connection(("127.0.0.1", port), timeout=5) for _ in range(50)]
                greeting = b"\xff" + bytes(8) + b"\x7f\x03\x01CURVE" + bytes(15) + b"\x00" + bytes(31)
                for stranger in strangers:
                    stranger.sendall((greeting if dice.random() < 0.5 else b"") + dice.randbytes(dice.randrange(200)))
                for number in range(100):
                    outlet.send(str(number).encode())
                await eventually(lambda: outlet.at_rest)
                assert len(sink.got) == 100
                for stranger in strangers:
                    stranger.close()
            finally:
                world.close()
                zap.stop()

    asyncio.run(story())
    _no_tracebacks(caplog)


def _no_tracebacks(caplog: pytest.LogCaptureFixture) -> None:
    assert [record.getMessage() for record in caplog.records if record.exc_info] == []
