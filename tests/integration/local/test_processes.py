"""The forking process and what it promises: real processes, real signals, nobody left behind."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path

from ganglion.local.child import Child, State
from ganglion.local.logs import Follower, LogPipe, read_lines
from ganglion.local.spawner import Program, Spawner
from tests.support.wait import wait_for

PRELOAD = ("ganglion.local.backoff",)
"""Something small: these tests run programs, not agents."""


def _dead(pid: int) -> bool:
    return not alive(pid)


async def until(condition: Callable[[], object], what: str) -> None:
    """Wait in the loop for a condition, at most 30 s."""
    deadline = asyncio.get_running_loop().time() + 30
    while not condition():
        assert asyncio.get_running_loop().time() < deadline, f"{what} did not come"
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(asyncio.Event().wait(), 0.01)


def alive(pid: int) -> bool:
    """Whether a process runs; a zombie that waits for its parent does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


@contextlib.asynccontextmanager
async def running() -> AsyncIterator[Spawner]:
    spawner = Spawner(PRELOAD)
    spawner.start()
    spawner.attach()
    try:
        await spawner.ready()
        yield spawner
    finally:
        spawner.close()


def shell(text: str) -> Program:
    return Program(dict(os.environ), command=["sh", "-c", text])


def child_of(spawner: Spawner, tmp_path: Path, text: str, *, restart: bool, lines: list[str] | None = None) -> Child:
    log = LogPipe(tmp_path / "child.log", (lines if lines is not None else []).append)
    return Child(spawner, lambda: shell(text), log, lambda _code: restart, lambda: None)


def test_output_exit_code_and_environment(tmp_path: Path) -> None:
    async def scenario() -> None:
        lines: list[str] = []
        async with running() as spawner:
            log = LogPipe(tmp_path / "child.log", lines.append)
            program = Program({"PATH": os.environ["PATH"], "X": "42"}, command=["sh", "-c", "echo $X; printf 'no end'; exit 7"])
            child = Child(spawner, lambda: program, log, lambda _code: False, lambda: None)
            child.start()
            await asyncio.wait_for(child.ended.wait(), 30)
            assert child.exit_code == 7
        assert lines == ["42", "no end"]
        assert read_lines(tmp_path / "child.log", None)[0] == ["42", "no end"]

    asyncio.run(scenario())


def test_a_killed_child_comes_back_and_what_it_started_does_not_stay(tmp_path: Path) -> None:
    async def scenario() -> None:
        lines: list[str] = []
        async with running() as spawner:
            child = child_of(spawner, tmp_path, "sleep 1000 & echo $!; wait", restart=True, lines=lines)
            child.start()
            await until(lambda: len(lines) == 1, "the first start")
            assert child.pid is not None
            os.kill(child.pid, signal.SIGKILL)
            await until(lambda: len(lines) == 2, "the second start")
            assert child.restarts == 1
            await until(lambda: not alive(int(lines[0])), "the end of the first's child")
            await child.stop(10)
            assert (child.state, child.exit_code) == (State.ENDED, -signal.SIGTERM)
            await until(lambda: not alive(int(lines[1])), "the end of the second's child")

    asyncio.run(scenario())


def test_a_child_that_ignores_sigterm_is_killed(tmp_path: Path) -> None:
    async def scenario() -> None:
        lines: list[str] = []
        async with running() as spawner:
            child = child_of(spawner, tmp_path, "trap '' TERM; echo ready; while :; do sleep 1; done", restart=True, lines=lines)
            child.start()
            await until(lambda: lines, "the start")
            await child.stop(0.2)
            assert child.exit_code == -signal.SIGKILL

    asyncio.run(scenario())


def test_a_killed_forking_process_comes_back_with_its_children(tmp_path: Path) -> None:
    async def scenario() -> None:
        lines: list[str] = []
        async with running() as spawner:
            child = child_of(spawner, tmp_path, "sleep 1000 & echo $$; echo $!; wait", restart=True, lines=lines)
            child.start()
            await until(lambda: len(lines) == 2, "the first start")
            assert spawner._process is not None
            spawner._process.kill()
            await until(lambda: len(lines) == 4, "the start from another forking process")
            for pid in map(int, lines[:2]):
                await until(functools.partial(_dead, pid), "the end of what the first had started")
            await child.stop(10)

    asyncio.run(scenario())


def _same(program: Program) -> Program:
    return program


def test_programs_that_cannot_be_run(tmp_path: Path) -> None:
    async def scenario() -> None:
        (tmp_path / "data.txt").write_text("x")
        for command, code, text in (("no-such-program", 127, "no such program"), (str(tmp_path / "data.txt"), 126, "Permission denied")):
            lines: list[str] = []
            program = Program({}, command=[command])
            async with running() as spawner:
                log = LogPipe(tmp_path / "child.log", lines.append)
                child = Child(spawner, functools.partial(_same, program), log, lambda _code: False, lambda: None)
                child.start()
                await asyncio.wait_for(child.ended.wait(), 30)
            assert child.exit_code == code
            assert text in lines[0]

    asyncio.run(scenario())


_SUPERVISOR = """
import asyncio, os, sys
from pathlib import Path
from ganglion.local.child import Child
from ganglion.local.logs import LogPipe
from ganglion.local.spawner import Program, Spawner

async def main():
    spawner = Spawner(("ganglion.local.backoff",))
    spawner.start()
    spawner.attach()
    await spawner.ready()
    log = LogPipe(Path(sys.argv[1]), lambda text: print(text, flush=True))
    program = Program(dict(os.environ), command=["sh", "-c", "trap '' TERM; sleep 1000 & echo $$ $! $PPID; wait; wait"])
    Child(spawner, lambda: program, log, lambda code: True, lambda: None).start()
    await asyncio.Event().wait()

asyncio.run(main())
"""


def test_a_killed_supervisor_leaves_nobody(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", _SUPERVISOR, str(tmp_path / "log")], stdout=subprocess.PIPE, text=True) as supervisor:
        assert supervisor.stdout is not None
        pids = [int(part) for part in supervisor.stdout.readline().split()]
        assert len(pids) == 3
        assert all(alive(pid) for pid in pids)
        supervisor.kill()
    for pid in pids:
        wait_for(lambda pid=pid: not alive(pid), what=f"end of process {pid}")  # type: ignore[misc]


def test_logs_rotate_and_a_follower_sees_every_line(tmp_path: Path) -> None:
    async def scenario() -> None:
        seen: list[str] = []
        path = tmp_path / "x.log"
        pipe = LogPipe(path, seen.append)
        pipe._size = 10 * 1024 * 1024  # as if the file were nearly full
        os.write(pipe.write_end, b"one\ntwo\n" + b"y" * 40_000 + b"\n")
        await until(lambda: len(seen) >= 4, "the lines")
        follower = Follower(path, 0)
        os.write(pipe.write_end, b"last\n")
        await until(lambda: seen[-1] == "last", "the last line")
        assert list(follower.new_lines())[-1] == "last"
        pipe.close()
        assert path.with_name("x.log.1").exists()
        assert "".join(seen[2:-1]) == "y" * 40_000
        assert max(map(len, seen)) <= 16 * 1024
        assert read_lines(path, None)[0][-1] == "last"

    asyncio.run(scenario())
