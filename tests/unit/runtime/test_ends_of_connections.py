"""What a process leaves behind in the kernel when it ends arrives, though libzmq at the other end is full."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import zmq

from ganglion.runtime import outqueue
from ganglion.runtime.breakwater import Breakwater
from tests.support.loops import TestLoop, running_loop
from tests.support.wait import wait_for

COUNT = 5000
PROGRAM = """
import sys, zmq
with zmq.Context() as context, context.socket(zmq.PUSH) as push:
    push.linger = 20000
    push.connect(sys.argv[1])
    for number in range(int(sys.argv[2])):
        push.send(b"%d" % number)
"""


@pytest.fixture
def driver() -> Iterator[TestLoop]:
    with running_loop() as driver:
        yield driver


@pytest.fixture
def context() -> Iterator[zmq.Context[Any]]:
    context: zmq.Context[Any] = zmq.Context()
    yield context
    context.destroy(linger=0)


def full_receiver(context: zmq.Context[Any], path: Path) -> zmq.Socket[bytes]:
    pull: zmq.Socket[bytes] = context.socket(zmq.PULL)
    pull.rcvhwm = 10
    pull.bind(f"ipc://{path}")
    return pull


def test_a_program_that_ends_behind_a_breakwater_loses_nothing(tmp_path: Path, driver: TestLoop, context: zmq.Context[Any]) -> None:
    pull = full_receiver(context, tmp_path / "in")
    got: list[bytes] = []

    async def build() -> Breakwater:
        return Breakwater(tmp_path / "out", tmp_path / "in")

    breakwater = driver.loop.run_until_complete(build())
    program = subprocess.Popen([sys.executable, "-c", PROGRAM, f"ipc://{tmp_path / 'out'}", str(COUNT)])
    # It ends while most of its messages are still under way.
    driver.until(lambda: program.poll() is not None or len(got) > 10 * COUNT, timeout=30)
    assert program.returncode == 0

    def all_arrived() -> bool:
        while pull.poll(0):
            got.append(pull.recv())
        return len(got) == COUNT

    driver.until(all_arrived, timeout=30)
    assert got == [b"%d" % number for number in range(COUNT)]
    breakwater.close()
    pull.close(0)
    driver.until(lambda: not (tmp_path / "out").exists())


def test_a_breakwater_passes_back_pressure_on(tmp_path: Path, driver: TestLoop, context: zmq.Context[Any]) -> None:
    pull = full_receiver(context, tmp_path / "in")

    async def build() -> Breakwater:
        return Breakwater(tmp_path / "out", tmp_path / "in")

    breakwater = driver.loop.run_until_complete(build())
    push = context.socket(zmq.PUSH)
    push.sndhwm = 10
    push.connect(f"ipc://{tmp_path / 'out'}")
    sent = 0

    def full() -> bool:
        nonlocal sent
        while push.poll(0, zmq.POLLOUT):
            push.send(bytes(4096))
            sent += 1
            assert sent < 5000, "nothing holds the sender back"
        return sent > 20 and not push.poll(100, zmq.POLLOUT)

    driver.until(full, timeout=30, what="a sender that is held back")
    received = 0

    def flows() -> bool:
        nonlocal received
        while pull.poll(0):
            pull.recv()
            received += 1
        return received == sent

    driver.until(flows, timeout=30)
    breakwater.close()
    push.close(0)
    pull.close(0)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux tells what its queues hold")
def test_a_connection_is_held_until_its_peer_has_read(tmp_path: Path, context: zmq.Context[Any]) -> None:
    path = tmp_path / "leg"
    pull = full_receiver(context, path)
    other: zmq.Context[Any] = zmq.Context()
    push = other.socket(zmq.PUSH)
    push.connect(f"ipc://{path}")
    for number in range(1000):
        push.send(b"%d" % number)
    assert pull.poll(5000)
    before = len(list(Path("/proc/self/fd").iterdir()))
    held = outqueue.hold(path)
    assert len(held) == 1
    push.close(20_000)
    got: list[bytes] = []

    def some() -> bool:
        if pull.poll(0):
            got.append(pull.recv())
        # The rest fits into the kernel's queue: libzmq has nothing left to write.
        return len(got) > 900

    wait_for(some, timeout=20, interval=0)
    other.term()
    # libzmq has closed its descriptor; without ours the connection would be over here.

    def take_all() -> None:
        while len(got) < 1000 and pull.poll(10_000):
            got.append(pull.recv())

    taker = threading.Thread(target=take_all)
    taker.start()
    assert outqueue.release(held, 10) == 0
    taker.join()
    assert got == [b"%d" % number for number in range(1000)]
    pull.close(0)
    assert len(list(Path("/proc/self/fd").iterdir())) <= before


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux tells what its queues hold")
def test_a_peer_that_reads_nothing_does_not_hold_up_the_end(tmp_path: Path, context: zmq.Context[Any]) -> None:
    path = tmp_path / "leg"
    pull = full_receiver(context, path)
    push = context.socket(zmq.PUSH)
    push.connect(f"ipc://{path}")
    push.send(b"hello")
    assert pull.poll(5000)
    while push.poll(300, zmq.POLLOUT):
        push.send(bytes(1000))
    # Connected, and full.
    held = outqueue.hold(path)
    assert len(held) == 1
    assert outqueue.release(held, 0.1) > 0
    assert outqueue.hold(tmp_path / "other") == []
    push.close(0)
    pull.close(0)
