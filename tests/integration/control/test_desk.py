"""Programs of an agent that joins by itself ask it for the terms of its domain."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import zmq

from ganglion.runtime.desk import MAX_ASKERS, AdHocDesk
from ganglion.runtime.sockets import Socket, ipc_endpoint, make_context, make_ipc_socket
from ganglion.wire.control import AdHoc, AdHocTerms, AskAdHoc, Drain, decode, encode
from tests.support.wait import wait_for

ANSWER = AdHoc(name_server="127.0.0.1", host="127.0.0.1", terms=AdHocTerms(port=7502, secret="s" * 64, remote_code="Forbidden"))


@pytest.fixture
def path() -> Iterator[Path]:
    # A socket's path is bounded, and pytest's folders are deep.
    with TemporaryDirectory(dir="/tmp") as folder:
        yield Path(folder) / "control.sock"


@pytest.fixture
def desk(path: Path) -> Iterator[AdHocDesk]:
    made = AdHocDesk(path)
    yield made
    made.close()
    made.close()
    assert not path.exists()
    assert "ganglion-ad-hoc" not in {thread.name for thread in threading.enumerate()}


Ask = Callable[..., Socket]


@pytest.fixture
def ask(path: Path) -> Iterator[Ask]:
    """Sends frames through a connection of its own."""
    context = make_context()
    made: list[Socket] = []

    def send(*frames: bytes) -> Socket:
        made.append(make_ipc_socket(context, zmq.DEALER))
        made[-1].connect(ipc_endpoint(path))
        for frame in frames:
            made[-1].send(frame)
        return made[-1]

    yield send
    for one in made:
        one.close(0)
    context.term()


def answer(asked: Socket) -> AdHoc:
    assert asked.poll(10_000), "no answer"
    found = decode(asked.recv())
    assert isinstance(found, AdHoc)
    return found


def test_more_than_may_wait_cost_nothing(desk: AdHocDesk, ask: Ask) -> None:
    early = [ask(encode(AskAdHoc())) for _ in range(MAX_ASKERS + 6)]
    [thread] = [thread for thread in threading.enumerate() if thread.name == "ganglion-ad-hoc"]
    assert thread.ident is not None
    clock = time.pthread_getcpuclockid(thread.ident)

    def rests() -> bool:
        before = time.clock_gettime(clock)
        full = len(desk._askers) == MAX_ASKERS
        return full and not early[-1].poll(200) and time.clock_gettime(clock) - before < 0.02

    wait_for(rests, what="a desk that has heard them all and waits")
    desk.set(ANSWER)
    wait_for(lambda: sum(bool(one.poll(0)) for one in early) >= MAX_ASKERS, what="as many answers as may wait")


def test_who_asks_early_waits_and_who_asks_late_does_not(desk: AdHocDesk, ask: Ask) -> None:
    early = [ask(encode(AskAdHoc())) for _ in range(3)]
    assert not early[0].poll(50)
    desk.set(ANSWER)
    assert [answer(one) for one in early] == [ANSWER] * 3
    assert answer(ask(encode(AskAdHoc()))) == ANSWER
    refused = AdHoc(name_server="127.0.0.1", host="127.0.0.1", terms=None)
    desk.set(refused)
    assert answer(ask(encode(AskAdHoc()))) == refused


def test_garbage_is_not_answered(desk: AdHocDesk, ask: Ask) -> None:
    desk.set(ANSWER)
    odd = ask(b"", b"\xc1", b"x" * 1000, encode(Drain(deadline_seconds=1.0)), encode(AskAdHoc()))
    assert answer(odd) == ANSWER
    assert not odd.poll(50)
