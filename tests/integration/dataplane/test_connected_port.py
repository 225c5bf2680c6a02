"""Connections to binders: the directory and what the peers say come in any order."""

from __future__ import annotations

import asyncio
import time

import zmq

from ganglion.runtime.connected_port import ConnectedPort
from tests.support.aio import eventually
from tests.support.dataplane import bench
from tests.support.wirings import channel


def test_a_peer_whose_bye_waits_unread_leaves_the_directory() -> None:
    """Both sides of a domain end at once: the directory says that a peer is gone while its BYE lies in the socket's queue."""

    async def story() -> None:
        with bench() as world:
            sink = world.member("dst-0", channel("in", "work", "Pull", bind=True))
            world.inlet(sink, "in")
            source = world.member("src-0", channel("out", "work", "Push", bind=False))
            outlet = source.plane.outlet("out")
            world.wire()
            await eventually(lambda: outlet.wired == 1)
            port = outlet.port
            assert isinstance(port, ConnectedPort)
            (data, _monitor) = port.sockets
            # From here on the loop does not run: nobody reads the BYE before the directory speaks.
            world.close("dst-0")
            assert data.poll(5000, zmq.POLLIN)
            source.plane.apply({"out": {}})
            assert port.sockets == []
            assert outlet.wired == 0
            # A peer that is not listed any more is not tried again either.
            port.tick(time.monotonic() + 3600.0)
            assert port.sockets == []

    asyncio.run(story())
