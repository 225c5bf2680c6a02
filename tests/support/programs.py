"""Plain ZeroMQ programs, in C and in Python, beside a real sidecar."""

from __future__ import annotations

import functools
import hashlib
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pytest
import zmq

from tests.support.wait import wait_for

SOURCES = Path(__file__).parents[1] / "programs"
PROGRAMS = Path(__file__).parents[2] / ".state" / "programs"
Language = Literal["c", "python"]


def _libzmq() -> Path | None:
    """The libzmq inside pyzmq's wheel; None: pyzmq was built against the system's."""
    libraries = Path(zmq.__file__).parents[1] / "pyzmq.libs"
    return next(iter(sorted(libraries.glob("libzmq*.so*"))), None)


def _compile(program: Path, library: Path | None, rpath: str) -> None:
    compiler = shutil.which("cc")
    if compiler is None:
        if os.environ.get("CI"):
            pytest.fail("no C compiler: CI must have one")
        pytest.skip("no C compiler")
    link = ["-lzmq"] if library is None else [str(library), f"-Wl,-rpath,{rpath}", "-Wl,--allow-shlib-undefined"]
    subprocess.run([compiler, "-O1", "-Wall", "-Werror", "-o", program, SOURCES / "plain.c", *link], check=True)


@functools.cache
def compiled() -> str:
    """Path of the compiled C program; linked to the libzmq that pyzmq uses, so that nothing else needs to be installed."""
    library = _libzmq()
    made_of = (SOURCES / "plain.c").read_bytes() + str(library).encode()
    program = PROGRAMS / f"plain-{hashlib.sha256(made_of).hexdigest()[:12]}"
    if not program.exists():
        PROGRAMS.mkdir(parents=True, exist_ok=True)
        # Several processes of one test run come here at the same time: each one compiles for itself, and the last one's stays.
        own = program.with_suffix(f".{os.getpid()}")
        _compile(own, library, str(library.parent) if library is not None else "")
        own.replace(program)
    return str(program)


def image_context(folder: Path) -> Path:
    """Put together what `tests/programs/Containerfile` copies, in `folder`; returns the Containerfile."""
    library = _libzmq()
    if library is None:
        pytest.skip("this pyzmq has no libzmq of its own that an image could take along")
    shutil.copytree(library.parent, folder / "lib")
    _compile(folder / "plain", library, "$ORIGIN/lib")
    shutil.copy(SOURCES / "plain.py", folder)
    return SOURCES / "Containerfile"


@dataclass
class Program:
    """One running program."""

    process: subprocess.Popen[bytes]
    log: Path

    @property
    def lines(self) -> list[str]:
        """What it has printed."""
        return self.log.read_text().splitlines()

    def prints(self, count: int, *, timeout: float = 30.0) -> list[str]:
        """Wait for so many lines."""
        wait_for(
            lambda: len(self.lines) >= count or self.process.poll() is not None, timeout=timeout, what=f"{count} lines of {self.log.name}"
        )
        return self.lines

    def ends(self, *, timeout: float = 30.0) -> list[str]:
        """Wait for its regular end; what it printed before `done`."""
        assert self.process.wait(timeout) == 0, self.lines
        assert self.lines[-1] == "done"
        return self.lines[:-1]

    def kill(self) -> None:
        """SIGKILL, if it still runs."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()


class Programs:
    """Starts programs; all end with `close`."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.running: list[Program] = []

    def start(self, language: Language, kind: str, leg: Path, count: int, text: str = "") -> Program:
        """Start one; it waits for the leg to appear, as ZeroMQ does."""
        command = [compiled()] if language == "c" else [sys.executable, str(SOURCES / "plain.py")]
        log = self.directory / f"{kind}.{len(self.running)}.out"
        with log.open("wb") as output:
            process = subprocess.Popen([*command, kind, f"ipc://{leg}", str(count), text], stdout=output, stderr=subprocess.STDOUT)
        self.running.append(Program(process, log))
        return self.running[-1]

    def close(self) -> None:
        """Kill what still runs."""
        for program in self.running:
            program.kill()
