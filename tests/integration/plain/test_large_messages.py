"""What a plain program sends over `maxMessageBytes` is told, and costs nothing but itself where messages are acknowledged."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest
import zmq

from tests.integration.plain.test_programs import Stage, got, leg, stage  # noqa: F401 - a fixture
from tests.support.agents import AgentProcess
from tests.support.wait import wait_for

LIMIT = 1000
SIZES = (LIMIT + 1, 3_000_000)
SAYS = "found {} bytes, maxMessageBytes is 1000"
Program = Callable[[int, str], "zmq.Socket[bytes]"]


@pytest.fixture
def program() -> Iterator[Program]:
    """Makes a socket of a plain program: (kind, path of the leg)."""
    with ExitStack() as stack:
        context = stack.enter_context(zmq.Context())

        def make(kind: int, path: str) -> zmq.Socket[bytes]:
            socket = stack.enter_context(context.socket(kind))
            socket.linger = 0
            socket.sndtimeo = socket.rcvtimeo = 40_000
            socket.connect(f"ipc://{path}")
            return socket

        yield make


def test_a_push_over_the_limit_costs_nothing_else(stage: Stage, program: Program) -> None:  # noqa: F811
    path = stage.sidecar("prog", leg("out", "Push", binder="Push", plain=True, max_message_bytes=LIMIT))
    sink = stage.agent("sink", "Sink", "Sidecar", leg("in", "Pull", binder="Push", plain=False, handler="take", max_message_bytes=LIMIT))
    push = program(zmq.PUSH, str(path))
    for number, size in enumerate((*reversed(SIZES), 5)):
        push.send(b"m%d" % number)
        push.send(b"x" * size)
    sink.says("got ", times=4)
    assert sorted(got(sink)) == ["m0", "m1", "m2", "xxxxx"]
    stage.world.sidecars["prog-0"].says(SAYS.format(SIZES[1]))


def test_a_request_over_the_limit_has_an_answer(stage: Stage, program: Program) -> None:  # noqa: F811
    path = stage.sidecar("prog", leg("out", "Req", binder="Rep", plain=True, max_message_bytes=LIMIT))
    replier = leg("in", "Rep", binder="Rep", plain=False, handler="answer", max_message_bytes=LIMIT)
    stage.agent("replier", "Replier", "InProcess", replier)
    req = program(zmq.REQ, str(path))
    for size in SIZES:
        req.send(b"x" * size)
        empty, error = req.recv_multipart()
        assert empty == b""
        assert f'"BadRequest", "message": "{SAYS.format(size)}"' in error.decode()
        req.send(b"small")
        assert req.recv_multipart() == [b"sdk:small"]


def test_a_reply_over_the_limit_is_the_requesters_error(stage: Stage, program: Program) -> None:  # noqa: F811
    path = stage.sidecar("prog", leg("in", "Rep", binder="Rep", plain=True, max_message_bytes=LIMIT))
    asking = leg("out", "Req", binder="Rep", plain=False, max_message_bytes=LIMIT)
    requester = stage.agent("requester", "Requester", "Sidecar", asking, count=3)
    rep = program(zmq.REP, str(path))
    for size in (*SIZES, 2):
        rep.recv()
        rep.send(b"y" * size)
    requester.says("got ", times=3)
    assert got(requester) == ["RemoteError", "RemoteError", "yy"]


def test_a_publication_far_over_the_limit_is_lost_and_told(stage: Stage, program: Program) -> None:  # noqa: F811
    """Nobody looks into publications: a little over the limit they are delivered, far over it libzmq ends the connection."""
    path = stage.sidecar("prog", leg("out", "Pub", binder="Pub", plain=True, max_message_bytes=LIMIT))
    sub = leg("in", "Sub", binder="Pub", plain=False, handler="publication", max_message_bytes=LIMIT, topics=("t.",))
    sink = stage.agent("sink", "Sink", "Sidecar", sub)
    pub = program(zmq.XPUB, str(path))

    def published(letter: str, size: int, by: AgentProcess, says: str) -> bool:
        pub.send_multipart([b"t.", letter.encode() * size])
        return says in by.output

    # The subscription has come this far.
    wait_for(lambda: b"t." in pub.recv(), what="the subscription")
    wait_for(lambda: published("x", SIZES[0], sink, "got " + "x" * SIZES[0]), what="a publication a little over the limit")
    sidecar = stage.world.sidecars["prog-0"]
    wait_for(
        lambda: published("y", SIZES[1], sidecar, "too far over maxMessageBytes (1000)"), interval=0.3, what="the line about the connection"
    )
    wait_for(lambda: published("z", 1, sink, "got z"), what="what is published after it")
    assert "got y" not in sink.output
