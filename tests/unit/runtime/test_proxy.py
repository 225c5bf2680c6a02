"""The steerable proxy, with real sockets."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import zmq

from ganglion.runtime.connections import Change, DesiredPeer
from ganglion.runtime.proxy import SteerableProxy
from ganglion.wire.control import Incarnation
from tests.support.wait import wait_for

Context = zmq.Context[Any]
_started: list[SteerableProxy] = []


@pytest.fixture
def context() -> Iterator[Context]:
    context = zmq.Context()
    yield context
    # A failed test leaves its proxies running; a socket must not be closed under them.
    while _started:
        assert _started.pop().stop()
    context.destroy(linger=0)


def socket(context: Context, kind: int, **options: int) -> zmq.Socket[bytes]:
    made: zmq.Socket[bytes] = context.socket(kind)
    made.linger = 0
    for name, value in options.items():
        setattr(made, name, value)
    return made


def void(_: object) -> None:
    pass


def listening(context: Context, kind: int, **options: int) -> tuple[zmq.Socket[bytes], DesiredPeer]:
    made = socket(context, kind, **options)
    port = made.bind_to_random_port("tcp://127.0.0.1")
    return made, DesiredPeer(f"peer-{port}", "peer", Incarnation("u", 1, 1), "", f"tcp://127.0.0.1:{port}")


def push_proxy(context: Context, **options: int) -> tuple[SteerableProxy, zmq.Socket[bytes], str]:
    frontend = socket(context, zmq.PULL, **options)
    backend = socket(context, zmq.PUSH, **options)
    where = f"tcp://127.0.0.1:{frontend.bind_to_random_port('tcp://127.0.0.1')}"
    proxy = SteerableProxy(context, frontend, backend, name="test")
    _started.append(proxy)
    return proxy, backend, where


class Tender(threading.Thread):
    """Calls `tend()` until the block ends."""

    def __init__(self, proxy: SteerableProxy) -> None:
        super().__init__()
        self.proxy, self.over = proxy, threading.Event()

    def __enter__(self) -> None:
        self.start()

    def __exit__(self, *_: object) -> None:
        self.over.set()
        self.join()

    def run(self) -> None:
        while not self.over.wait(0.05):
            self.proxy.tend()


def test_rewirings_under_load_lose_nothing_of_peers_that_stay(context: Context) -> None:
    proxy, backend, where = push_proxy(context)
    # Nobody listens at the addresses that come and go: with IMMEDIATE nothing is queued for them, so every message belongs to a peer that stays.
    backend.set(zmq.IMMEDIATE, 1)
    # Bounded: on a busy machine the producer is quicker than this test's loop, and would be ahead by more than can be read at the end.
    stay = [listening(context, zmq.PULL, rcvhwm=1000) for _ in range(2)]
    come_and_go = tuple(DesiredPeer(f"x-{i}", "x", Incarnation("u", 1, 1), "", f"tcp://127.0.0.1:{i}") for i in (9, 10))
    proxy.start()
    proxy.rewire(backend, Change((), tuple(peer for _, peer in stay)), curve=False)
    enough = threading.Event()
    sent = 0

    def produce() -> None:
        nonlocal sent
        with context.socket(zmq.PUSH) as source:
            source.linger = -1
            source.connect(where)
            while not enough.is_set():
                source.send(sent.to_bytes(4, "little"))
                sent += 1

    received: dict[int, int] = {}

    def take() -> None:
        for one, _ in stay:
            for _ in range(2000):
                if not one.poll(0):
                    break
                number = int.from_bytes(one.recv(), "little")
                received[number] = received.get(number, 0) + 1

    producer = threading.Thread(target=produce)
    producer.start()
    try:
        for step in range(60):
            before, seen = proxy.stats.rewirings, len(received)
            proxy.rewire(backend, Change((), come_and_go) if step % 2 == 0 else Change(come_and_go, ()), curve=False)

            def progress() -> bool:
                take()
                return proxy.stats.rewirings > before and len(received) > seen + 1000  # noqa: B023 - used in this round only

            wait_for(progress, timeout=20, interval=0, what="messages after a rewiring")
    finally:
        enough.set()
        producer.join()

    def all_received() -> bool:
        take()
        return len(received) == sent

    wait_for(all_received, timeout=20, what="every message")
    assert proxy.stats.rewirings >= 60
    assert max(received.values()) == 1
    assert proxy.stop()
    for one, _ in stay:
        one.close()


def test_a_blocked_proxy_is_rewired_and_what_it_held_arrives(context: Context) -> None:
    """The only receiver stops reading: the proxy sits in a blocking send when the new receiver is announced."""
    proxy, backend, where = push_proxy(context, sndhwm=10, rcvhwm=10)
    frozen, frozen_peer = listening(context, zmq.PULL, rcvhwm=1, rcvbuf=4096)
    proxy.start()
    proxy.rewire(backend, Change((), (frozen_peer,)), curve=False)
    source = socket(context, zmq.PUSH, sndhwm=10)
    source.connect(where)
    sent = 0
    while source.poll(500, zmq.POLLOUT):
        source.send(sent.to_bytes(4, "little") + bytes(4096))
        sent += 1
    fresh, fresh_peer = listening(context, zmq.PULL, rcvhwm=0)
    got: list[int] = []

    def flowing() -> bool:
        while fresh.poll(0):
            got.append(int.from_bytes(fresh.recv()[:4], "little"))
        return len(got) > 50 and source.poll(0, zmq.POLLOUT) != 0

    with Tender(proxy):
        proxy.rewire(backend, Change((), (fresh_peer,)), curve=False)
        wait_for(flowing, timeout=20, what="messages at the new receiver")
        source.send((sent).to_bytes(4, "little"))
        proxy.rewire(backend, Change((frozen_peer,), ()), curve=False)
        wait_for(lambda: flowing() and sent in got, timeout=20, what="the last message")
    assert len(got) == len(set(got))
    at_frozen: set[int] = set()

    def accounted() -> bool:
        while frozen.poll(0):
            at_frozen.add(int.from_bytes(frozen.recv()[:4], "little"))
        # What neither got was in the queue of the connection to the frozen receiver, which was closed with linger 0.
        return len(set(range(sent)) - set(got) - at_frozen) <= 10 + 1

    wait_for(accounted, timeout=20, what="what the frozen receiver's connection held")
    assert at_frozen.isdisjoint(got)
    assert proxy.stop()
    for one in (frozen, fresh, source):
        one.close()


def test_waiting_for_receivers_costs_no_cpu(context: Context) -> None:
    proxy, backend, where = push_proxy(context)
    proxy.start()
    with socket(context, zmq.PUSH) as source, Tender(proxy):
        source.connect(where)
        for _ in range(100):
            source.send(b"x")
        before = time.process_time()
        started = time.monotonic()
        wait_for(lambda: time.monotonic() - started > 1, timeout=5)
        assert time.process_time() - before < 0.5
        receiver, peer = listening(context, zmq.PULL)
        proxy.rewire(backend, Change((), (peer,)), curve=False)
        for _ in range(100):
            assert receiver.poll(5000)
            assert receiver.recv() == b"x"
        receiver.close()
        assert proxy.stop()


@contextmanager
def crowded(thread: int) -> Iterator[None]:
    """A thread of this process that gets a quarter of one processor at most."""
    cpu = min(os.sched_getaffinity(0))
    os.sched_setaffinity(thread, {cpu})
    others = [
        subprocess.Popen([sys.executable, "-c", f"import os\nos.sched_setaffinity(0, {{{cpu}}})\nwhile True: pass"]) for _ in range(3)
    ]
    try:
        yield
    finally:
        for other in others:
            other.kill()
            other.wait(10)


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="no processor can be chosen here")
def test_on_a_busy_machine_a_proxy_that_polls_in_vain_is_found_too(context: Context) -> None:
    proxy, backend, where = push_proxy(context)
    out_at = f"tcp://127.0.0.1:{backend.bind_to_random_port('tcp://127.0.0.1')}"
    proxy.start()
    source = socket(context, zmq.PUSH)
    source.connect(where)
    with socket(context, zmq.PULL) as receiver:
        receiver.connect(out_at)
        source.send(b"x")
        assert receiver.poll(10_000)
        wait_for(lambda: proxy._in_c_since is not None, timeout=20, what="the C proxy at work")
    assert proxy._thread.native_id is not None
    with Tender(proxy), crowded(proxy._thread.native_id):
        wait_for(lambda: source.send(b"y") is None and proxy.stats.stalls > 0, timeout=20, interval=0.2, what="forwarding in Python")
    assert proxy.stop()
    source.close()


def test_a_proxy_that_polls_in_vain_is_taken_over_and_given_back(context: Context) -> None:
    """All receivers leave while it is idle: with the next message it would poll until one comes back."""
    proxy, backend, where = push_proxy(context)
    out_at = f"tcp://127.0.0.1:{backend.bind_to_random_port('tcp://127.0.0.1')}"
    proxy.start()
    source = socket(context, zmq.PUSH)
    source.connect(where)

    def in_c_with(receiver: zmq.Socket[bytes]) -> bool:
        source.send(b"x")
        while receiver.poll(0):
            receiver.recv()
        return proxy._in_c_since is not None

    def in_python() -> bool:
        if source.poll(0, zmq.POLLOUT):
            source.send(b"y")
        return proxy.stats.stalls > 0 and proxy._by_hand

    with Tender(proxy):
        with socket(context, zmq.PULL) as receiver:
            receiver.connect(out_at)
            wait_for(lambda: in_c_with(receiver), timeout=20, what="the C proxy at work")
        wait_for(in_python, timeout=20, what="forwarding in Python")
        with socket(context, zmq.PULL) as receiver:
            receiver.connect(out_at)
            wait_for(lambda: in_c_with(receiver), timeout=20, what="the C proxy again")
    assert proxy.stop()
    source.close()


def test_publications_and_subscriptions_cross_it(context: Context) -> None:
    frontend, backend = socket(context, zmq.XSUB), socket(context, zmq.XPUB)
    capture = socket(context, zmq.PUB)
    capture.bind("inproc://tap")
    out_at = f"tcp://127.0.0.1:{backend.bind_to_random_port('tcp://127.0.0.1')}"
    publisher, peer = listening(context, zmq.XPUB)
    proxy = SteerableProxy(context, frontend, backend, name="pubsub", capture=capture)
    _started.append(proxy)
    proxy.start()
    proxy.rewire(frontend, Change((), (peer,)), curve=False)
    subscriber = socket(context, zmq.SUB)
    subscriber.connect(out_at)
    subscriber.subscribe(b"news")
    assert publisher.poll(5000)
    assert publisher.recv() == b"\x01news"
    publisher.send_multipart([b"weather", b"rain"])
    publisher.send_multipart([b"news", b"first"])
    assert subscriber.poll(5000)
    assert subscriber.recv_multipart() == [b"news", b"first"]
    tap = socket(context, zmq.SUB)
    tap.connect("inproc://tap")
    tap.subscribe(b"")

    def tapped() -> bool:
        publisher.send_multipart([b"news", b"again"])
        return tap.poll(10) != 0

    wait_for(tapped, timeout=10)
    assert tap.recv_multipart() == [b"news", b"again"]
    assert proxy.stop()
    for one in (publisher, subscriber, tap):
        one.close()


def test_an_action_that_fails_is_counted_and_the_proxy_goes_on(context: Context) -> None:
    proxy, backend, where = push_proxy(context)
    receiver, peer = listening(context, zmq.PULL)
    proxy.start()
    proxy.steer(lambda: void(backend.connect("tcp://nonsense")))
    proxy.rewire(backend, Change((), (peer,)), curve=False)
    with socket(context, zmq.PUSH) as source:
        source.connect(where)
        source.send(b"still here")
        assert receiver.poll(5000)
    assert proxy.stats.errors == 1
    assert proxy.stop()
    receiver.close()


def test_stop_forwards_what_has_arrived(context: Context) -> None:
    proxy, backend, where = push_proxy(context)
    receiver, peer = listening(context, zmq.PULL)
    with socket(context, zmq.PUSH) as source:
        source.linger = -1
        source.connect(where)
        for _ in range(500):
            source.send(b"x")
        backend.linger = 5000
        proxy.start()
        proxy.rewire(backend, Change((), (peer,)), curve=False)
        assert proxy.stop(drain=10)
        got = 0
        while receiver.poll(2000):
            receiver.recv()
            got += 1
        assert got == 500
    receiver.close()


def test_stop_before_start_closes(context: Context) -> None:
    proxy, backend, _ = push_proxy(context)
    assert proxy.stop()
    assert backend.closed
    assert proxy.stop()
