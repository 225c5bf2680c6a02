"""The supervisor's conversation with a name server: it must end when it is told to, whatever else happens at that moment."""

from __future__ import annotations

import asyncio
from pathlib import Path

from ganglion.local.attendant import Attendant
from ganglion.local.environment import Options
from ganglion.local.spawner import Spawner


def test_a_nudge_does_not_swallow_a_cancellation(tmp_path: Path) -> None:
    async def scenario() -> None:
        attendant = Attendant(
            tmp_path, Spawner(), options=Options(), logs=tmp_path, line=lambda _replica, _source, _text: None, changed=lambda: None
        )

        async def repeat() -> None:
            while True:
                await attendant._pause(60)

        for turns in range(1, 6):
            task = asyncio.ensure_future(repeat())
            await _turns(3)
            # A process ends, and its end ends the domain: both in one turn of the loop, or a few apart.
            attendant._nudge.set()
            await _turns(turns - 1)
            task.cancel()
            done, _ = await asyncio.wait([task], timeout=5)
            assert done, f"still running {turns - 1} turns after the nudge"
        await attendant.close()

    asyncio.run(scenario())


async def _turns(count: int) -> None:
    for _ in range(count):
        await asyncio.sleep(0)
