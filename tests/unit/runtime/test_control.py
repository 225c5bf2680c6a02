"""What reaches the control thread while it cannot look."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

from ganglion.runtime.control import ControlThread, SidecarUplink
from ganglion.wire.control import Report
from tests.support.nameserver import Heard


def test_a_signal_finds_room_however_often_the_thread_was_poked(tmp_path: Path) -> None:
    """The wake-up pipe holds a few hundred bytes, and the interpreter's handler drops what does not fit."""

    async def story() -> None:
        signals: list[int] = []
        control = ControlThread(
            SidecarUplink(tmp_path / "control.sock", "worker-0", 1),
            loop=asyncio.get_running_loop(),
            report=Report,
            listener=Heard().listener,
        )
        # Not started: nobody looks.
        control.watch_signals({signal.SIGUSR2}, signals.append)
        try:
            for _ in range(2000):
                control.poke()
            os.kill(os.getpid(), signal.SIGUSR2)
            control._drain_wakeups()
            await asyncio.sleep(0)
            assert signals == [signal.SIGUSR2]
            # Whoever looked is told again.
            control.poke()
            assert control._wake_receive.recv(4096) == b"\0"
        finally:
            control.stop()

    asyncio.run(story())
