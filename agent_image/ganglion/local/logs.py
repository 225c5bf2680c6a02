"""What the processes print: taken from their pipes line by line, kept in bounded files, handed on to whoever watches."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path

MAX_LINE_BYTES = 16 * 1024
"""Longer lines are cut into pieces, as container runtimes do."""
MAX_FILE_BYTES = 10 * 1024 * 1024
"""Then the file becomes `<name>.1` and a new one begins: at most two files for each process."""

OnLine = Callable[[str], None]


class LogPipe:
    """A pipe that a process prints into, across its restarts.

    Args:
        path: file that keeps the lines.
        on_line: called with each line, without its end.
    Raises:
        OSError: the file cannot be opened, or no descriptor is left; nothing stays open.
    """

    def __init__(self, path: Path, on_line: OnLine) -> None:
        self._path = path
        self._on_line = on_line
        self._rest = bytearray()
        self._file = path.open("ab", buffering=0)
        try:
            self._read, self.write_end = os.pipe()
        except OSError:
            self._file.close()
            raise
        os.set_blocking(self._read, False)
        self._size = self._file.tell()
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._read, self._on_readable)
        self.last_line = ""
        """The last line that is not empty, for messages about a crash."""

    def _on_readable(self) -> None:
        with contextlib.suppress(BlockingIOError):
            self._take(os.read(self._read, 1 << 16))

    def _take(self, chunk: bytes) -> None:
        self._rest += chunk
        *lines, rest = bytes(self._rest).split(b"\n")
        for line in lines:
            self._line(line)
        while len(rest) > MAX_LINE_BYTES:
            self._line(rest[:MAX_LINE_BYTES])
            rest = rest[MAX_LINE_BYTES:]
        self._rest = bytearray(rest)

    def _line(self, line: bytes) -> None:
        while len(line) > MAX_LINE_BYTES:
            self._piece(line[:MAX_LINE_BYTES])
            line = line[MAX_LINE_BYTES:]
        self._piece(line)

    def _piece(self, line: bytes) -> None:
        if self._size > MAX_FILE_BYTES:
            self._rotate()
        self._size += self._file.write(line + b"\n")
        text = line.decode("utf-8", "replace").rstrip("\r")
        if text.strip():
            self.last_line = text.strip()
        self._on_line(text)

    def _rotate(self) -> None:
        self._file.close()
        self._path.replace(self._path.with_name(self._path.name + ".1"))
        self._file = self._path.open("ab", buffering=0)
        self._size = 0

    def drain(self) -> None:
        """Take what is in the pipe now: what a process printed before it ended."""
        with contextlib.suppress(BlockingIOError):
            while chunk := os.read(self._read, 1 << 16):
                self._take(chunk)

    def close(self) -> None:
        """Take the rest, a last line without an end included, and close everything."""
        if self._read < 0:
            return
        self._loop.remove_reader(self._read)
        self.drain()
        if self._rest:
            self._line(bytes(self._rest))
        os.close(self._read)
        os.close(self.write_end)
        self._file.close()
        self._read = -1


def read_lines(path: Path, tail: int | None) -> tuple[list[str], int]:
    """The lines of a log and its rotated part, and the offset where the file ended.

    Args:
        tail: the last so many lines; None: all.
    """
    lines: list[str] = []
    offset = 0
    for part in (path.with_name(path.name + ".1"), path):
        with contextlib.suppress(FileNotFoundError):
            content = part.read_bytes()
            lines += content.decode("utf-8", "replace").splitlines()
            offset = len(content) if part == path else 0
    return (lines if tail is None else lines[-tail:] if tail > 0 else []), offset


class Follower:
    """Reads what is appended to a log file, across its rotation."""

    def __init__(self, path: Path, offset: int) -> None:
        self._path = path
        self._offset = offset
        self._rest = b""
        self._inode: int | None = None

    def new_lines(self) -> Iterator[str]:
        """Lines that were completed since the last call."""
        try:
            found = self._path.stat()
        except FileNotFoundError:
            return
        if found.st_size < self._offset or (self._inode is not None and self._inode != found.st_ino):
            self._offset = 0
        self._inode = found.st_ino
        if found.st_size == self._offset:
            return
        with self._path.open("rb") as file:
            file.seek(self._offset)
            chunk = file.read()
        self._offset += len(chunk)
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        for line in lines:
            yield line.decode("utf-8", "replace")
