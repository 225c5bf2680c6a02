"""A sidecar reports in its control thread; the sockets belong to the main one."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

import pytest
import zmq

from ganglion.runtime import plain_send
from ganglion.runtime.endpoint_plane import InProcess, leg_path
from ganglion.runtime.plain_send import PlainPush
from ganglion.runtime.reactor import readable
from ganglion.runtime.sidecar_legs import quiet
from ganglion.runtime.sockets import Socket, ipc_endpoint
from tests.support.aio import eventually
from tests.support.dataplane import bench, identity
from tests.support.wirings import channel


def test_whether_a_leg_is_quiet_is_known_without_touching_its_socket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touched: set[int] = set()

    def spy(socket: Socket) -> bool:
        touched.add(threading.get_ident())
        return readable(socket)

    monkeypatch.setattr(plain_send, "readable", spy)

    async def story() -> None:
        with bench() as world:
            loop = asyncio.get_running_loop()
            out = channel("out", "work", "Push", bind=False, speaks="Plain", high_water_mark=1)
            location = InProcess(identity("src-0", host="sidecar"), None, "tcp://127.0.0.1")
            relay = PlainPush(world.reactor, world.context, out, location, tmp_path, on_dead=lambda *_: None)
            program = world.context.socket(zmq.PUSH)
            program.connect(ipc_endpoint(leg_path(tmp_path, "out")))
            try:
                await eventually(lambda: relay.attached)
                assert await loop.run_in_executor(None, quiet, relay)
                for _ in range(2):
                    program.send(b"one")
                await eventually(lambda: relay.ledger().in_flight == 1 and readable(relay._leg))
                assert not await loop.run_in_executor(None, quiet, relay)
            finally:
                program.close(0)
                relay.close()

    asyncio.run(story())
    assert touched == {threading.get_ident()}
