"""Direct readers: they run in `select`, with their context, and a removed or failing one harms nobody."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import Any

import pytest

from ganglion.runtime.loop import DataLoop

mark: ContextVar[str] = ContextVar("mark", default="none")


@pytest.fixture
def loop() -> Iterator[DataLoop]:
    with contextlib.closing(DataLoop()) as made:
        yield made


@pytest.fixture
def pipes() -> Iterator[list[tuple[int, int]]]:
    made = [os.pipe() for _ in range(2)]
    yield made
    for pair in made:
        for fd in pair:
            with contextlib.suppress(OSError):
                os.close(fd)


def _turns(loop: DataLoop, until: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not until():
        assert time.monotonic() < deadline
        loop.run_until_complete(asyncio.sleep(0))


def test_a_direct_reader_runs_before_other_callbacks_and_keeps_its_context(loop: DataLoop, pipes: list[tuple[int, int]]) -> None:
    seen: list[str] = []
    (direct, to_direct), (plain, to_plain) = pipes

    def read(fd: int, name: str) -> None:
        os.read(fd, 1)
        seen.append(f"{name} {mark.get()}")

    mark.set("registered")
    loop.add_direct_reader(direct, read, direct, "direct")
    loop.add_reader(plain, read, plain, "plain")
    mark.set("none")
    os.write(to_plain, b"x")
    os.write(to_direct, b"x")
    _turns(loop, lambda: len(seen) == 2)
    assert seen == ["direct registered", "plain registered"]
    loop.remove_reader(plain)
    assert loop.remove_direct_reader(direct)
    assert not loop.remove_direct_reader(direct)


def test_what_a_direct_reader_schedules_runs_in_the_same_turn(loop: DataLoop, pipes: list[tuple[int, int]]) -> None:
    fd, to = pipes[0]
    seen: list[int] = []
    loop.add_direct_reader(fd, lambda: (os.read(fd, 1), loop.call_soon(seen.append, 1), loop.call_soon(loop.stop)))
    os.write(to, b"x")
    loop.run_forever()
    assert seen == [1]
    loop.remove_direct_reader(fd)


def test_a_reader_that_an_earlier_one_removed_is_not_called(loop: DataLoop, pipes: list[tuple[int, int]]) -> None:
    called: list[int] = []
    fds = [fd for fd, _ in pipes]

    def read(mine: int, other: int) -> None:
        os.read(mine, 1)
        called.append(mine)
        loop.remove_direct_reader(other)

    loop.add_direct_reader(fds[0], read, fds[0], fds[1])
    loop.add_direct_reader(fds[1], read, fds[1], fds[0])
    for _, to in pipes:
        os.write(to, b"x")
    _turns(loop, lambda: len(called) > 0)
    for _ in range(10):
        loop.run_until_complete(asyncio.sleep(0))
    assert len(called) == 1
    loop.remove_direct_reader(called[0])


def test_an_exception_goes_to_the_loops_handler(loop: DataLoop, pipes: list[tuple[int, int]]) -> None:
    fd, to = pipes[0]
    told: list[dict[str, Any]] = []
    loop.set_exception_handler(lambda _loop, context: told.append(context))

    def read() -> None:
        os.read(fd, 1)
        raise ValueError("spoiled")

    loop.add_direct_reader(fd, read)
    os.write(to, b"x")
    _turns(loop, lambda: len(told) > 0)
    assert str(told[0]["exception"]) == "spoiled"
    loop.remove_direct_reader(fd)


def test_a_descriptor_that_a_direct_reader_gave_to_somebody_else_is_watched(loop: DataLoop, pipes: list[tuple[int, int]]) -> None:
    """A handler closes one connection and opens another, which gets the number of the first; both were ready in the same round."""
    (direct, to_direct), (plain, to_plain) = pipes
    called: list[str] = []

    def old() -> None:
        os.read(plain, 1)
        called.append("old")

    def new() -> None:
        os.read(plain, 1)
        called.append("new")
        loop.remove_reader(plain)

    def handler() -> None:
        os.read(direct, 1)
        loop.remove_reader(plain)
        loop.add_reader(plain, new)

    loop.add_direct_reader(direct, handler)
    loop.add_reader(plain, old)
    os.write(to_plain, b"x")
    os.write(to_direct, b"x")
    _turns(loop, lambda: len(called) > 0)
    assert called == ["new"]
    assert loop.remove_direct_reader(direct)


def test_removal_after_the_end_is_harmless() -> None:
    loop = DataLoop()
    loop.close()
    assert not loop.remove_direct_reader(0)
