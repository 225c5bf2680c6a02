"""What one would write by hand: plain ZeroMQ senders and receivers, and proxies between them."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import zmq

from bench.flow.run import Setup


def decode(body: bytes | memoryview) -> bytes | memoryview:
    """The identity codec."""
    return body


def push(setup: Setup, *, direct: bool) -> None:
    """A plain sender."""
    context = zmq.Context()
    out = context.socket(zmq.PUSH)
    if direct:
        connect(out, setup)
    else:
        out.connect(f"ipc://{setup.folder}/push")
    send_plain(setup, out.send)


def send_plain(setup: Setup, send: Callable[[bytes], Any]) -> None:
    """Flood, or keep the rate."""
    if not setup.rate:
        body = setup.body()
        while True:
            send(body)
    due = time.perf_counter()
    while True:
        due += 1 / setup.rate
        time.sleep(max(0.0, due - time.perf_counter()))
        send(setup.body())


def connect(out: Any, setup: Setup) -> None:
    """Connect a CURVE client to every worker."""
    out.curve_publickey, out.curve_secretkey = setup.sender.public.encode(), setup.sender.secret.encode()
    for i, keys in enumerate(setup.keys):
        out.curve_serverkey = keys.public.encode()
        out.connect(setup.endpoint(i))


def serve(into: Any, setup: Setup, worker: int) -> None:
    """Bind a CURVE server."""
    keys = setup.keys[worker]
    into.curve_publickey, into.curve_secretkey, into.curve_server = keys.public.encode(), keys.secret.encode(), True
    into.bind(setup.endpoint(worker))


def pull(setup: Setup, worker: int, *, direct: bool) -> None:
    """A plain receiver."""
    context = zmq.Context()
    into = context.socket(zmq.PULL)
    if direct:
        serve(into, setup, worker)
    else:
        into.connect(f"ipc://{setup.folder}/pull-{worker}")
    handler, recv = setup.handler(worker), into.recv
    while True:
        handler(decode(recv()))


def push_proxy(setup: Setup) -> None:
    """The sender's proxy."""
    context = zmq.Context()
    front, back = context.socket(zmq.PULL), context.socket(zmq.PUSH)
    front.bind(f"ipc://{setup.folder}/push")
    connect(back, setup)
    zmq.proxy(front, back)


def pull_proxy(setup: Setup, worker: int) -> None:
    """A receiver's proxy."""
    context = zmq.Context()
    front, back = context.socket(zmq.PULL), context.socket(zmq.PUSH)
    serve(front, setup, worker)
    back.bind(f"ipc://{setup.folder}/pull-{worker}")
    zmq.proxy(front, back)
