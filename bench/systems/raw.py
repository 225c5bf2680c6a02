"""`python -m bench.systems.raw`: the same work on bare pyzmq: same codec, same handler, same kind of loop (descriptors, drained without blocking)."""

from __future__ import annotations

import asyncio
import functools
import multiprocessing
import pickle
import tempfile
import threading
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import zmq
from zmq.auth.thread import ThreadAuthenticator

from bench.systems.serve import WARM_UP_SECONDS, Counter, blast, claim_output, quantiles, serve, until

TOPIC = b"prices"
BUDGET = 256
DUMPS = functools.partial(pickle.dumps, protocol=5)


class Child:
    """A process that answers (method, arguments) over a pipe."""

    def __init__(self, target: Callable[..., None], *arguments: Any) -> None:
        self._pipe, other = multiprocessing.Pipe()
        self.process = multiprocessing.get_context("fork").Process(target=target, args=(other, *arguments), daemon=True)
        self.process.start()

    def ask(self, method: str, *arguments: Any) -> Any:
        self._pipe.send((method, arguments))
        if not self._pipe.poll(30):
            raise TimeoutError(f"{method}: no answer")
        return self._pipe.recv()


def source(pipe: Connection, kind: int, endpoint: str) -> None:
    """Sends what it is asked to."""
    socket = zmq.Context().socket(kind)
    socket.bind(endpoint)
    send = socket.send

    def push(value: Any) -> None:
        send(DUMPS(value))

    def publish(value: Any) -> None:
        send(TOPIC, zmq.SNDMORE)
        send(DUMPS(value))

    while True:
        _, (size, seconds) = pipe.recv()
        pipe.send(blast(push if kind == zmq.PUSH else publish, size, seconds))


class _Sink:
    """As the agent."""

    def __init__(self) -> None:
        self.counter = Counter()

    def take(self, message: Any) -> None:
        self.counter.take(message)


def sink(pipe: Connection, kind: int, endpoint: str) -> None:
    """Receives, decodes, calls the handler."""
    loop = asyncio.new_event_loop()
    socket = zmq.Context().socket(kind)
    if kind == zmq.SUB:
        socket.subscribe(TOPIC)
    socket.connect(endpoint)
    taker, recv, loads = _Sink(), socket.recv, pickle.loads
    counter, handler = taker.counter, taker.take

    def pull() -> None:
        try:
            for _ in range(BUDGET):
                handler(loads(recv(zmq.NOBLOCK)))
        except zmq.Again:
            return
        loop.call_soon(pull)

    handlers = {TOPIC: handler}

    def subscribed() -> None:
        try:
            for _ in range(BUDGET):
                topic = recv(zmq.NOBLOCK)
                value = loads(recv(zmq.NOBLOCK))
                for prefix, one in handlers.items():
                    if topic.startswith(prefix):
                        one(value)
        except zmq.Again:
            return
        loop.call_soon(subscribed)

    def asked() -> None:
        method, arguments = pipe.recv()
        pipe.send(getattr(counter, method)(*arguments))

    drain = pull if kind == zmq.PULL else subscribed
    loop.add_reader(socket.fileno(), drain)
    loop.add_reader(pipe.fileno(), asked)
    loop.call_soon(drain)
    loop.run_forever()


class _Served:
    def echo(self, value: Any) -> Any:
        return value


def server(pipe: Connection, folder: Path, public: bytes, secret: bytes) -> None:
    """Answers calls: CURVE, and who may call is checked."""
    context = zmq.Context()
    authenticator = ThreadAuthenticator(context)
    authenticator.start()
    authenticator.configure_curve(domain="*", location=str(folder))
    socket = context.socket(zmq.ROUTER)
    socket.curve_server, socket.curve_publickey, socket.curve_secretkey = True, public, secret
    pipe.send(socket.bind_to_random_port("tcp://127.0.0.1"))
    served, loop = _Served(), asyncio.new_event_loop()

    def drain() -> None:
        try:
            for _ in range(BUDGET):
                session, head, body = socket.recv_multipart(zmq.NOBLOCK)
                method, arguments, named = pickle.loads(body)
                socket.send_multipart([session, head, DUMPS(getattr(served, method)(*arguments, **named))], zmq.NOBLOCK)
        except zmq.Again:
            return
        loop.call_soon(drain)

    loop.add_reader(socket.fileno(), drain)
    loop.call_soon(drain)
    loop.run_forever()


def main() -> None:
    """Serve until standard input ends."""
    results = claim_output()
    folder = Path(tempfile.mkdtemp(prefix="ganglion-bench-"))
    pairs: dict[tuple[int, int], tuple[Child, list[Child]]] = {}

    def pair(kind: int, subscribers: int = 1) -> tuple[Child, list[Child]]:
        if (kind, subscribers) not in pairs:
            endpoint = f"ipc://{folder}/{kind}-{subscribers}"
            twin = zmq.PULL if kind == zmq.PUSH else zmq.SUB
            pairs[kind, subscribers] = Child(source, kind, endpoint), [Child(sink, twin, endpoint) for _ in range(subscribers)]
        return pairs[kind, subscribers]

    def push(size: int, seconds: float) -> dict[str, Any]:
        origin, (end,) = pair(zmq.PUSH)
        warm = origin.ask("push", size, WARM_UP_SECONDS)
        until(lambda: end.ask("seen")[0] == warm, "the warm-up arrives")
        end.ask("reset")
        sent = origin.ask("push", size, seconds)
        n, first, last = until(lambda: (seen := end.ask("seen"))[0] == sent and seen, "all arrive")
        end.ask("reset")
        return {"per_second": n / (last - first)}

    def publish(size: int, seconds: float, subscribers: int) -> dict[str, Any]:
        origin, ends = pair(zmq.PUB, subscribers)

        def heard() -> bool:
            origin.ask("publish", size, 0.001)
            return all(end.ask("seen")[0] for end in ends)

        until(heard, "all subscribers are there")
        quiet(ends)
        for end in ends:
            end.ask("reset")
        sent = origin.ask("publish", size, seconds)
        quiet(ends)
        seen = [end.ask("seen") for end in ends]
        for end in ends:
            end.ask("reset")
        return {"per_second": sum(n / (last - first) for n, first, last in seen), "lost": 1 - sum(n for n, *_ in seen) / (sent * len(seen))}

    def quiet(ends: list[Child]) -> None:
        before: list[Any] = []

        def still() -> bool:
            nonlocal before
            now = [end.ask("seen") for end in ends]
            same, before = now == before, now
            return same and all(time.monotonic() - last > 0.05 for _, _, last in now)

        until(still, "nothing arrives any more")

    @functools.cache
    def client() -> zmq.Socket[bytes]:
        public, secret = zmq.curve_keypair()
        keys = folder / "keys"
        keys.mkdir()
        (keys / "client.key").write_text(f'metadata\ncurve\n    public-key = "{public.decode()}"\n')
        child = Child(server, keys, public, secret)
        children.append(child)
        socket = zmq.Context().socket(zmq.DEALER)
        socket.curve_serverkey, socket.curve_publickey, socket.curve_secretkey = public, public, secret
        assert child._pipe.poll(10)  # noqa: SLF001 - its port comes unasked
        socket.connect(f"tcp://127.0.0.1:{child._pipe.recv()}")  # noqa: SLF001
        return socket

    def call(count: int) -> dict[str, Any]:
        socket, samples = client(), []
        poller = zmq.Poller()
        poller.register(socket, zmq.POLLIN)
        for number in range(count + 20):
            begun = time.perf_counter()
            socket.send_multipart([number.to_bytes(8, "little"), DUMPS(("echo", (1,), {}))])
            assert poller.poll(10_000)
            pickle.loads(socket.recv_multipart()[1])
            samples.append(time.perf_counter() - begun)
        return quantiles(samples[20:])

    def flight(count: int, flying: int) -> dict[str, Any]:
        socket = client()
        poller = zmq.Poller()
        poller.register(socket, zmq.POLLIN)

        def send(number: int) -> None:
            socket.send_multipart([number.to_bytes(8, "little"), DUMPS(("echo", (number,), {}))])

        def take() -> None:
            try:
                parts = socket.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                assert poller.poll(10_000)
                parts = socket.recv_multipart()
            pickle.loads(parts[1])

        for number in range(flying):
            send(number)
        begun = time.perf_counter()
        for number in range(count):
            take()
            send(number)
        seconds = time.perf_counter() - begun
        for _ in range(flying):
            take()
        return {"per_second": count / seconds}

    children: list[Child] = []
    serve(results, {"push": push, "publish": publish, "call": call, "flight": flight, "end": dict})


if __name__ == "__main__":
    main()
    for thread in threading.enumerate():
        assert thread.daemon or thread is threading.main_thread(), thread
