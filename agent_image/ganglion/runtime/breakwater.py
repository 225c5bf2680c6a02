"""Takes a program's connection on an ipc leg and hands its bytes on to libzmq, so that nothing is lost when the program ends.

libzmq (4.3.5) drops what the kernel still holds of a connection whose other end has closed while its own queue is full: a program that
pushes more than fits and exits would lose the rest. Here the end of a program's connection becomes the end of its data only
(`shutdown`), which libzmq reads in order; back-pressure passes through, and at most a few buffers are held.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from pathlib import Path

_BACKLOG = 128
_CHUNK_BYTES = 65536
_LIMIT_BYTES = 262144
"""Bytes held for each direction of a connection."""


class Breakwater:
    """Listens on `outer`; connects to `inner`, where libzmq is bound.

    Args:
        outer: path that programs connect to; replaced when a killed predecessor left it.
        inner: path of the socket behind.
    Raises:
        OSError: the directory is missing or not writable.
    """

    def __init__(self, outer: Path, inner: Path) -> None:
        self._outer = outer
        self._inner = inner
        self._tasks: set[asyncio.Task[None]] = set()
        outer.unlink(missing_ok=True)
        listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            listening.bind(str(outer))
            listening.listen(_BACKLOG)
        except BaseException:
            listening.close()
            raise
        self._serving = asyncio.get_running_loop().create_task(self._serve(listening))

    async def _serve(self, listening: socket.socket) -> None:
        try:
            server = await asyncio.start_unix_server(self._accept, sock=listening, limit=_LIMIT_BYTES)
            async with server:
                await server.serve_forever()
        finally:
            listening.close()
            for task in tuple(self._tasks):
                task.cancel()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        inner: asyncio.StreamWriter | None = None
        try:
            answers, inner = await asyncio.open_unix_connection(self._inner, limit=_LIMIT_BYTES)
            inner.transport.set_write_buffer_limits(_CHUNK_BYTES)
            back = asyncio.ensure_future(_copy(answers, writer))
            try:
                await _copy(reader, inner)
                # The program has ended; libzmq closes when it has read everything.
                inner.write_eof()
                await back
            finally:
                back.cancel()
        except (OSError, asyncio.CancelledError):
            # Either end broke off, or we close: the other end is told by the close below.
            pass
        finally:
            self._tasks.discard(task)
            writer.close()
            if inner is not None:
                inner.close()

    def close(self) -> None:
        """Stop listening and end every connection; idempotent. What has not reached libzmq is not accepted."""
        self._serving.cancel()
        self._outer.unlink(missing_ok=True)


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):
        while data := await reader.read(_CHUNK_BYTES):
            writer.write(data)
            await writer.drain()
