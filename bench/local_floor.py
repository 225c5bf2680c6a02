"""What local agents would cost if they were a page of pyzmq: the floor of `bench.local_start`.

Each process, forked with zmq imported, makes a context and a CURVE key pair, joins a directory over CURVE, hears from it where its peer is,
connects to it over CURVE, exchanges a greeting with it and says that it is wired. There are no leases, no ZAP, no user's code, no logs.
"""

from __future__ import annotations

import json
import multiprocessing
import time
from typing import Any

SECONDS = 60
"""Bound of each wait."""


def _connected(context: Any, endpoint: str, server: str, public: bytes, secret: bytes) -> Any:
    import zmq

    socket = context.socket(zmq.DEALER)
    socket.curve_publickey, socket.curve_secretkey, socket.curve_serverkey = public, secret, server.encode()
    socket.connect(endpoint)
    return socket


def _hub(context: Any, directory: Any, public: bytes, secret: bytes) -> None:
    import zmq

    router = context.socket(zmq.ROUTER)
    router.curve_publickey, router.curve_secretkey, router.curve_server = public, secret, True
    port = router.bind_to_random_port("tcp://127.0.0.1")
    directory.send(json.dumps({"at": [f"tcp://127.0.0.1:{port}", public.decode()]}).encode())
    poller = zmq.Poller()
    poller.register(router, zmq.POLLIN)
    poller.register(directory, zmq.POLLIN)
    told = False
    while directory not in (ready := dict(poller.poll(SECONDS * 1000))):
        if not ready:
            raise TimeoutError(f"nothing was heard for {SECONDS} s")
        if router in ready:
            router.send_multipart([router.recv_multipart()[0], b"welcome"])
            if not told:
                directory.send(b'{"wired": true}')
            told = True
    router.close()


def _member(endpoint: str, server: str, is_hub: bool) -> None:
    import zmq

    context = zmq.Context()
    context.rcvtimeo, context.linger = SECONDS * 1000, 1000
    public, secret = zmq.curve_keypair()
    directory = _connected(context, endpoint, server, public, secret)
    if is_hub:
        _hub(context, directory, public, secret)
    else:
        directory.send(b"{}")
        at, key = json.loads(directory.recv())
        peer = _connected(context, at, key, public, secret)
        peer.send(b"hello")
        peer.recv()
        directory.send(b'{"wired": true}')
        directory.recv()
        peer.close()
    directory.close()
    context.term()


def floor(count: int) -> dict[str, float]:
    """`seconds` until `count` forked processes are joined and wired, and what they weigh."""
    import zmq

    from bench.local_start import weigh

    context = zmq.Context()
    context.rcvtimeo, context.linger = SECONDS * 1000, 1000
    router = context.socket(zmq.ROUTER)
    public, secret = zmq.curve_keypair()
    router.curve_publickey, router.curve_secretkey, router.curve_server = public, secret, True
    port = router.bind_to_random_port("tcp://127.0.0.1")
    processes = multiprocessing.get_context("forkserver")
    processes.set_forkserver_preload(["zmq", "json", "bench.local_floor"])
    started = time.perf_counter()
    arguments = (f"tcp://127.0.0.1:{port}", public.decode())
    children = [processes.Process(target=_member, args=(*arguments, number == 0)) for number in range(count)]
    for child in children:
        child.start()
    wired: list[bytes] = []
    waiting: list[bytes] = []
    hub = b""
    while len(wired) < count:
        name, body = router.recv_multipart()
        said = json.loads(body)
        if said.get("wired"):
            wired.append(name)
            continue
        if "at" in said:
            hub = json.dumps(said["at"]).encode()
        else:
            waiting.append(name)
        if hub:
            for member in waiting:
                router.send_multipart([member, hub])
            waiting.clear()
    result = {"seconds": time.perf_counter() - started, **weigh([child.pid for child in children if child.pid is not None], count)}
    for name in wired:
        router.send_multipart([name, b""])
    for child in children:
        child.join(30)
    router.close()
    context.term()
    return result
