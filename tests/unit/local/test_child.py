"""A child that is kept running is one process at a time, whoever asks for its start."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import cast

from ganglion.local.child import Child, State
from ganglion.local.logs import LogPipe
from ganglion.local.spawner import Program, Spawner


class _Spawner:
    """Starts nothing; keeps who wants to hear of the ends."""

    def __init__(self) -> None:
        self.ends: list[Callable[[int], None]] = []

    def spawn(self, _program: Program, _output: int, ended: Callable[[int], None]) -> str:
        self.ends.append(ended)
        return str(len(self.ends))


class _Log:
    write_end = 1

    def drain(self) -> None:
        pass

    def close(self) -> None:
        pass


def test_a_start_that_was_asked_for_takes_the_place_of_the_one_that_is_due() -> None:
    async def story() -> None:
        spawner = _Spawner()
        child = Child(
            cast("Spawner", spawner), lambda: Program({}, entry="agent"), cast("LogPipe", _Log()), lambda _code: True, lambda: None
        )
        child.start()
        # The first failure is followed by a start at once, which is a turn of the loop away.
        spawner.ends[-1](1)
        assert child.state is State.WAITING
        child.start()
        child.start()
        assert (len(spawner.ends), child.state) == (2, State.RUNNING)
        for _ in range(3):
            await asyncio.sleep(0)
        assert (len(spawner.ends), child.starts) == (2, 2)

    asyncio.run(story())
