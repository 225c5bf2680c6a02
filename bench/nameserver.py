"""Name server: 1,000 members join over CURVE; then one of them changes, and everybody who shares a channel hears of it.

    python -m bench.nameserver [--members N] [--rounds N]

The members are sockets in a few processes of this machine, so their own handshakes and decoding are part of what is measured.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import multiprocessing
import statistics
import tempfile
import time
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import jwt
import zmq
from cryptography.hazmat.primitives.asymmetric import rsa

from bench.report import RESULTS, render
from ganglion.nameserver.reading import SocketReader
from ganglion.runtime.sockets import CurveKeys, Socket, make_context, make_socket
from ganglion.wire.control import Beat, ChannelReport, Directory, Part, Report, Welcome, decode, encode
from ganglion.wire.join import Join, encode_join
from tests.support.nameserver import NameServerProcess, pipeline

ISSUER = "https://bench"
PROCESSES = 2
CHANGES = 10
PORT = 20_000


class Client:
    """One member: joins, says one beat, remembers when it was welcomed and when it heard of each change."""

    def __init__(
        self, server: tuple[str, str], replica: str, token: bytes, *, role: str, loop: asyncio.AbstractEventLoop, context: Any
    ) -> None:
        self.keys = CurveKeys.generate()
        self.welcomed = 0.0
        self.snapshot = 0.0
        self.heard: dict[int, float] = {}
        self.role = role
        self.epoch = ""
        self.socket: Socket = make_socket(context, zmq.DEALER, curve=self.keys, server_key=server[1])
        agent = replica.rsplit("-", 1)[0]
        join = Join(agent, replica, f"uid-{replica}", 1, 1, self.keys.public, "127.0.0.1", "", token)
        self.socket.connect(server[0])
        self.socket.send(encode_join(join))
        self.reader = SocketReader(loop, self.socket, self.take)

    def take(self) -> None:
        message = decode(self.socket.recv(zmq.NOBLOCK))
        match message:
            case Welcome():
                self.welcomed, self.epoch = time.monotonic(), message.epoch
                self.beat(0)
            case Directory():
                now = time.monotonic()
                self.snapshot = self.snapshot or now
                for peer in message.peers:
                    port = peer.channels["lines"].port
                    if port >= PORT:
                        self.heard.setdefault(port, now)

    def beat(self, port: int) -> None:
        report = Report(phase="Ready", channels={"lines": ChannelReport(port=port)})
        self.socket.send(encode(Beat(epoch=self.epoch, seq=1, report=report, parts={"lines": Part("lines", self.role)})))
        self.reader.recheck()

    def close(self) -> None:
        self.reader.close()
        self.socket.close()


async def _members(pipe: Connection, server: tuple[str, str], tokens: list[tuple[str, bytes]]) -> None:
    loop = asyncio.get_running_loop()
    context = make_context()
    gc.disable()
    started = time.monotonic()
    clients = [Client(server, replica, token, role="Pull", loop=loop, context=context) for replica, token in tokens]
    commands: asyncio.Queue[Any] = asyncio.Queue()
    loop.add_reader(pipe.fileno(), lambda: commands.put_nowait(pipe.recv()))

    async def all_of(check: Any, *, seconds: float = 60.0) -> None:
        deadline = time.monotonic() + seconds
        while not all(check(client) for client in clients):
            if time.monotonic() > deadline:
                raise TimeoutError(f"{sum(not check(client) for client in clients)} of {len(clients)} members are late")
            await asyncio.sleep(0.005)

    await all_of(lambda client: client.snapshot)
    pipe.send((started, max(client.welcomed for client in clients), max(client.snapshot for client in clients)))
    while (port := await commands.get()) is not None:
        for client in clients:
            client.beat(0)
        await all_of(lambda client, port=port: port in client.heard)
        pipe.send([client.heard[port] for client in clients])
    for client in clients:
        client.close()
    context.term()


def _process(pipe: Connection, server: tuple[str, str], tokens: list[tuple[str, bytes]]) -> None:
    asyncio.run(_members(pipe, server, tokens))


def _tokens(server: NameServerProcess, replicas: list[str], key: rsa.RSAPrivateKey | None) -> list[tuple[str, bytes]]:
    if key is None:
        return [(replica, server.secret_file.read_bytes()) for replica in replicas]
    now = int(time.time())
    tokens = []
    for replica in replicas:
        agent = replica.rsplit("-", 1)[0]
        bound = {"namespace": "default", "pod": {"name": replica, "uid": f"uid-{replica}"}}
        claims = {"iss": ISSUER, "aud": [f"ganglion:default/ns-uid/{agent}"], "iat": now, "exp": now + 600, "kubernetes.io": bound}
        tokens.append((replica, jwt.encode(claims, key, algorithm="RS256", headers={"kid": "bench"}).encode()))
    return tokens


def _key_set(directory: Path) -> tuple[rsa.RSAPrivateKey, Path]:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    entry = jwt.algorithms.RSAAlgorithm.to_jwk(key.public_key(), as_dict=True)
    path = directory / "jwks.json"
    path.write_text(json.dumps({"keys": [{**entry, "kid": "bench", "alg": "RS256", "use": "sig"}]}))
    return key, path


def _round(count: int, *, signed: bool) -> dict[str, float]:
    with tempfile.TemporaryDirectory(prefix="gnb") as name:
        directory = Path(name)
        key, jwks = _key_set(directory) if signed else (None, None)
        extra = {"GANGLION_JOIN_SECRET_FILE": "", "GANGLION_JWKS_FILE": str(jwks), "GANGLION_TOKEN_ISSUER": ISSUER} if signed else {}
        server = NameServerProcess(directory, extra=extra)
        try:
            server.start(pipeline(workers=count))
            return asyncio.run(_measure(server, count, key))
        finally:
            server.close()


async def _measure(server: NameServerProcess, count: int, key: rsa.RSAPrivateKey | None) -> dict[str, float]:
    loop, context = asyncio.get_running_loop(), make_context()
    address = (server.endpoint, server.keys.public)
    (_, token), *_ = _tokens(server, ["source-0"], key)
    source = Client(address, "source-0", token, role="Push", loop=loop, context=context)
    deadline = time.monotonic() + 20
    while not source.snapshot:
        if time.monotonic() > deadline:
            raise TimeoutError("the source was not welcomed")
        await asyncio.sleep(0.005)
    spawn = multiprocessing.get_context("spawn")
    pipes, children = [], []
    for part in range(PROCESSES):
        ours, theirs = spawn.Pipe()
        replicas = [f"worker-{index}" for index in range(part, count, PROCESSES)]
        child = spawn.Process(target=_process, args=(theirs, address, _tokens(server, replicas, key)))
        child.start()
        pipes.append(ours)
        children.append(child)
    try:
        reports = [await asyncio.to_thread(pipe.recv) for pipe in pipes]
        started = min(report[0] for report in reports)
        delays: list[float] = []
        for change in range(CHANGES):
            for pipe in pipes:
                pipe.send(PORT + change)
            await asyncio.sleep(0.3)  # the beats that go with it are answered: the machine is at rest
            sent = time.monotonic()
            source.beat(PORT + change)
            heard = [moment for pipe in pipes for moment in await asyncio.to_thread(pipe.recv)]
            delays.append(max(heard) - sent)
        for pipe in pipes:
            pipe.send(None)
        usage = await asyncio.to_thread(Path(f"/proc/{server.process.pid}/status").read_text)
        return {
            "join_s": max(report[1] for report in reports) - started,
            "directory_s": max(report[2] for report in reports) - started,
            "change_ms": statistics.median(delays) * 1000,
            "change_worst_ms": max(delays) * 1000,
            "rss_mb": int(usage.split("VmRSS:")[1].split()[0]) / 1024,
        }
    finally:
        for child in children:
            child.join(20)
            if child.is_alive():
                child.kill()
        source.close()
        context.term()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--members", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    rows: list[dict[str, Any]] = []
    for signed in (False, True):
        rounds = [_round(arguments.members, signed=signed) for _ in range(arguments.rounds)]
        changes = sorted(result["change_ms"] for result in rounds)
        joins = sorted(arguments.members / result["join_s"] for result in rounds)
        rows.append(
            {
                "case": "signed tokens" if signed else "join secret",
                "median": statistics.median(joins),
                "low": joins[0],
                "high": joins[-1],
                "change_low_ms": changes[0],
                "change_high_ms": changes[-1],
                **{key: statistics.median(result[key] for result in rounds) for key in rounds[0]},
            }
        )
    title = f"Name server, {arguments.members} members over CURVE: joins per second; time until all have their first directory, and until all heard of a change"
    render(title, rows, RESULTS / "nameserver.json", RESULTS / "nameserver.png")


if __name__ == "__main__":
    main()
