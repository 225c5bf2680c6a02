"""The join port against those who have no business there: they get nothing and learn nothing."""

from __future__ import annotations

import os
import random
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import zmq

from ganglion.runtime.sockets import Context, CurveKeys, Socket, make_context, make_socket
from ganglion.wire.control import Beat, Bye, ChannelReport, Incarnation, Notice, Part, Refuse, Report, decode, encode
from ganglion.wire.join import Join, encode_join
from tests.support.nameserver import Members, NameServerProcess, TestMember, members, pipeline
from tests.support.wait import wait_for

WORKER = {"in": ("lines", "Pull")}
SOURCE = {"out": ("lines", "Push")}


@pytest.fixture
def server() -> Iterator[NameServerProcess]:
    with tempfile.TemporaryDirectory(prefix="gns") as path:
        process = NameServerProcess(Path(path))
        try:
            yield process.start(pipeline(workers=4))
        finally:
            process.close()


@pytest.fixture
def join(server: NameServerProcess) -> Iterator[Members]:
    with members(server) as factory:
        yield factory


@pytest.fixture
def context() -> Iterator[Context]:
    made = make_context()
    yield made
    made.destroy(linger=0)


class Stranger:
    """A DEALER with a valid CURVE handshake and nothing else."""

    def __init__(self, context: Context, server: NameServerProcess, **options: Any) -> None:
        self.keys = CurveKeys.generate()
        options = {"curve": self.keys, "server_key": server.keys.public, **options}
        self.socket: Socket = make_socket(context, zmq.DEALER, max_message_bytes=-1, **options)
        self.socket.connect(server.endpoint)

    def join_frame(self, **changes: Any) -> bytes:
        fields: dict[str, Any] = {
            "agent": "worker",
            "replica": "worker-0",
            "uid": "uid",
            "start": 1,
            "issued": 1,
            "key": self.keys.public,
            "host": "127.0.0.1",
            "software": "",
            "token": b"",
        }
        return encode_join(Join(**{**fields, **changes}))

    def answer(self, frame: bytes, timeout_ms: int = 10_000) -> bytes | None:
        try:
            self.socket.send(frame, zmq.NOBLOCK)
        except zmq.Again:
            # The server refused the handshake for good: there is nobody to send to.
            return None
        return self.socket.recv() if self.socket.poll(timeout_ms) else None

    def close(self) -> None:
        self.socket.close()


def still_serves(server: NameServerProcess, join: Members) -> TestMember:
    assert server.process.poll() is None
    return join("worker-3", WORKER).joined()


@pytest.mark.parametrize("token", [b"", b"wrong", b"0" * 32, b"\x00" * 4096])
def test_wrong_secret(server: NameServerProcess, join: Members, context: Context, token: bytes) -> None:
    stranger = Stranger(context, server)
    answer = stranger.answer(stranger.join_frame(token=token))
    assert answer is not None
    assert decode(answer) == Refuse(reason="NotAuthenticated", message="not authenticated", retry=True)
    beat = Beat(epoch="", seq=0, report=Report(), parts={"in": Part("lines", "Pull")})
    for message in (beat, Bye(report=Report()), Notice(reason="Fake", channel="lines", message="m")):
        answer = stranger.answer(encode(message))
        assert answer is not None
        assert isinstance(decode(answer), Refuse)
    assert server.admin.status().members == []
    assert server.admin.status().notices == []
    assert "the join secret is wrong" in server.log.read_text()
    stranger.close()
    still_serves(server, join)


def test_secret_of_another_domain(server: NameServerProcess, join: Members, tmp_path: Path) -> None:
    other = tmp_path / "secret"
    other.write_text("f" * 32)
    stranger = join("worker-0", WORKER, token_file=other)
    wait_for(lambda: server.log.read_text().count("join of worker-0 refused") >= 2, what="refusals")
    assert (stranger.heard.epochs, stranger.heard.directories) == ([], 0)
    (tmp_path / "secret").write_text(server.secret_file.read_text())
    stranger.joined()


def test_without_curve(server: NameServerProcess, join: Members, context: Context) -> None:
    stranger = Stranger(context, server, curve=None, server_key=None)
    token = server.secret_file.read_bytes()
    assert stranger.answer(stranger.join_frame(token=token), timeout_ms=2000) is None
    stranger.close()
    assert server.admin.status().members == []
    still_serves(server, join)


def test_plain_mechanism(server: NameServerProcess, join: Members, context: Context) -> None:
    stranger = Stranger(context, server, curve=None, server_key=None)
    stranger.socket.plain_username, stranger.socket.plain_password = b"admin", b"admin"
    stranger.socket.connect(server.endpoint)
    assert stranger.answer(b"hello", timeout_ms=2000) is None
    stranger.close()
    still_serves(server, join)


def test_wrong_server_key(server: NameServerProcess, join: Members) -> None:
    fooled = join("worker-0", WORKER, server_key=CurveKeys.generate().public)
    still_serves(server, join)
    assert fooled.heard.epochs == []
    assert "worker-0" not in server.log.read_text(), "the token went to a server that it was not meant for"


def test_member_cannot_speak_for_another(server: NameServerProcess, join: Members, context: Context) -> None:
    source = join("source-0", SOURCE).joined()
    victim = join("worker-0", WORKER).joined()
    wait_for(lambda: "worker-0" in source.heard.peers, what="the worker")
    thief = Stranger(context, server)
    # It knows the secret and the victim's incarnation, and still cannot take its place while the victim beats.
    incarnation = source.heard.peers["worker-0"].incarnation
    same_life = {"uid": incarnation.uid, "start": incarnation.start, "token": server.secret_file.read_bytes()}
    answer = thief.answer(thief.join_frame(**same_life))
    assert answer is not None
    refuse = decode(answer)
    assert isinstance(refuse, Refuse)
    assert refuse.reason == "Fenced"
    # Nor may it announce the victim's key as its own.
    thief.close()
    thief = Stranger(context, server)
    answer = thief.answer(thief.join_frame(replica="worker-1", key=victim.keys.public, token=server.secret_file.read_bytes()))
    assert answer is not None
    refuse = decode(answer)
    assert isinstance(refuse, Refuse)
    assert refuse.reason == "NotAuthenticated"
    thief.close()
    assert [member.replica for member in server.admin.status().members] == ["source-0", "worker-0"]
    assert victim.heard.refusals == []


def test_a_key_belongs_to_whoever_can_prove_it(server: NameServerProcess, join: Members, context: Context) -> None:
    """Peers know a replica's public key: one of them may announce it first, when the name server has restarted."""
    source = join("source-0", SOURCE).joined()
    keys = CurveKeys.generate()
    thieves = [Stranger(context, server) for _ in range(2)]
    parts = {"in": Part("lines", "Pull")}
    for thief, frame, beat in (
        # One says so in its join, one vouches for "the agent behind it", as a sidecar does.
        (thieves[0], {"replica": "worker-1", "key": keys.public}, ""),
        (thieves[1], {"replica": "worker-2", "key": ""}, keys.public),
    ):
        assert thief.answer(thief.join_frame(token=server.secret_file.read_bytes(), **frame)) is not None
        thief.socket.send(encode(Beat(epoch="", seq=0, report=Report(), parts=parts, key=beat)))
        wait_for(lambda: "worker-1" in source.heard.peers, what="the thief")
    join("worker-0", WORKER, keys=keys).joined()
    wait_for(lambda: set(source.heard.peers) == {"worker-0"}, what="the owner, and no thief")
    assert source.heard.peers["worker-0"].key == keys.public
    for thief in thieves:
        thief.socket.send(encode(Beat(epoch="", seq=0, report=Report(phase="Ready"), parts=parts, key=keys.public)))
    join("worker-3", WORKER).joined()
    wait_for(lambda: set(source.heard.peers) == {"worker-0", "worker-3"}, what="the owner, and no thief")
    assert "lease over" not in server.log.read_text()
    for thief in thieves:
        thief.close()


def test_what_no_peer_could_connect_to_is_not_announced(server: NameServerProcess, join: Members, context: Context) -> None:
    inside = Stranger(context, server)
    answer = inside.answer(inside.join_frame(agent="source", replica="source-0", key="", token=server.secret_file.read_bytes()))
    assert answer is not None
    parts = {"out": Part("lines", "Push")}

    def beat(key: str, port: int) -> None:
        report = Report(phase="Ready", channels={"out": ChannelReport(port=port)})
        inside.socket.send(encode(Beat(epoch="", seq=0, report=report, parts=parts, key=key)))

    # 40 characters of Z85 that stand for more than 32 bytes; and none of it.
    for key in ("#" * 40, "no key"):
        beat(key, 7600)
    assert join("worker-0", WORKER).joined().heard.peers == {}
    beat(inside.keys.public, 7600)
    for port in (70_000, -5):
        beat("", port)
    wait_for(lambda: server.log.read_text().count("cannot be read") == 2, what="two beats that are not believed")
    peer = join("worker-1", WORKER).joined().heard.peers["source-0"]
    assert (peer.key, peer.channels["lines"].port) == (inside.keys.public, 7600)
    inside.close()


def test_a_members_claims_forge_and_flood_no_log(server: NameServerProcess, context: Context) -> None:
    inside = Stranger(context, server)
    answer = inside.answer(inside.join_frame(token=server.secret_file.read_bytes()))
    assert answer is not None
    parts = {str(number): Part(f"x{number}\nFORGED LINE", "Pull") for number in range(500)}
    inside.socket.send(encode(Beat(epoch="", seq=0, report=Report(), parts=parts)))
    wait_for(lambda: "FORGED" in server.log.read_text(), what="the warning")
    server.admin.status()
    lines = server.log.read_text().splitlines()
    assert not [line for line in lines if line.startswith("FORGED")]
    assert len([line for line in lines if "is not declared" in line]) <= 20
    inside.close()


def test_too_large_and_unknown_version(server: NameServerProcess, join: Members, context: Context) -> None:
    stranger = Stranger(context, server)
    reasons = []
    for frame in (b"GJ" + bytes(9000), b"GJ\x09" + bytes(100), b"GJ\x01" + os.urandom(60), b"GJ"):
        answer = stranger.answer(frame)
        if answer is not None:
            refuse = decode(answer)
            assert isinstance(refuse, Refuse)
            reasons.append(refuse.reason)
            assert not refuse.retry
        stranger.close()
        stranger = Stranger(context, server)
    assert reasons == ["TooLarge", "UnknownVersion", "Malformed", "Malformed"]
    stranger.close()
    still_serves(server, join)


def test_frame_above_the_limit_cuts_the_connection(server: NameServerProcess, join: Members, context: Context) -> None:
    stranger = Stranger(context, server)
    monitor = stranger.socket.get_monitor_socket(zmq.EVENT_DISCONNECTED)
    stranger.socket.send(bytes(1024 * 1024))
    assert monitor.poll(10_000), "a frame of 1 MiB was taken"
    stranger.socket.disable_monitor()
    monitor.close()
    stranger.close()
    still_serves(server, join)


def test_garbage_on_the_port(server: NameServerProcess, join: Members, context: Context) -> None:
    rng = random.Random(7)
    host, port = server.endpoint.removeprefix("tcp://").rsplit(":", 1)
    for data in (b"GET / HTTP/1.1\r\n\r\n", b"\xff" * 64, rng.randbytes(4096), b"\x00", b"SSH-2.0-x\r\n"):
        with socket.create_connection((host, int(port)), timeout=10) as connection:
            connection.sendall(data)
    stranger = Stranger(context, server)
    for _ in range(50):
        stranger.socket.send_multipart([rng.randbytes(rng.randrange(200)) for _ in range(rng.randrange(1, 5))])
    member = still_serves(server, join)
    # From somebody inside it is counted and ignored as well.
    inside = Stranger(context, server)
    answer = inside.answer(inside.join_frame(replica="worker-1", token=server.secret_file.read_bytes()))
    assert answer is not None
    for size in (1, 10, 1000):
        inside.socket.send(rng.randbytes(size))
    inside.socket.send(encode(Beat(epoch="", seq=0, report=Report(), parts={"in": Part("lines", "Pull")})))
    wait_for(lambda: len(server.admin.status().members) == 2, what="both members")
    assert member.heard.refusals == []
    for one in (stranger, inside):
        one.close()


def test_idle_connections_do_not_keep_members_out(server: NameServerProcess, join: Members) -> None:
    host, port = server.endpoint.removeprefix("tcp://").rsplit(":", 1)
    idle = [socket.create_connection((host, int(port)), timeout=10) for _ in range(200)]
    try:
        still_serves(server, join)
    finally:
        for connection in idle:
            connection.close()


def test_without_security_it_still_wants_the_secret(context: Context, tmp_path: Path) -> None:
    with tempfile.TemporaryDirectory(prefix="gns") as path:
        server = NameServerProcess(Path(path), security="None")
        try:
            server.start(pipeline(workers=4))
            with members(server) as join:
                join("worker-0", WORKER, curve=False).joined()
                other = tmp_path / "secret"
                other.write_text("f" * 32)
                stranger = join("worker-1", WORKER, curve=False, token_file=other)
                wait_for(lambda: "join of worker-1 refused" in server.log.read_text(), what="the refusal")
                assert not stranger.heard.directories
        finally:
            server.close()


def test_incarnation_order_is_by_start_then_by_token() -> None:
    first = Incarnation("a", 1, 5)
    assert Incarnation("a", 2, 1).supersedes(first)
    assert not first.supersedes(Incarnation("a", 2, 1))
    assert Incarnation("b", 1, 6).supersedes(first)
