"""Reading a socket in the loop: what one message does must not cost the next ones."""

from __future__ import annotations

import asyncio

import zmq

from ganglion.nameserver.reading import SocketReader
from ganglion.runtime.sockets import make_context
from tests.support.aio import eventually


def test_a_message_that_cannot_be_served_keeps_no_other_back() -> None:
    async def story() -> None:
        context = make_context()
        ours, theirs = context.socket(zmq.PAIR), context.socket(zmq.PAIR)
        ours.bind("inproc://reading")
        theirs.connect("inproc://reading")
        taken: list[bytes] = []

        def take() -> None:
            message = ours.recv(zmq.NOBLOCK)
            if message == b"bad":
                raise RuntimeError("a fault of ours")
            taken.append(message)

        reader = SocketReader(asyncio.get_running_loop(), ours, take)
        try:
            await eventually(lambda: reader._again is None)
            for message in (b"one", b"bad", b"two", b"bad", b"three"):
                theirs.send(message)
            await eventually(lambda: taken == [b"one", b"two", b"three"], timeout=5.0)
            theirs.send(b"four")
            await eventually(lambda: taken[-1] == b"four", timeout=5.0)
        finally:
            reader.close()
            ours.close(0)
            theirs.close(0)
            context.term()

    asyncio.run(story())
