"""The supervisor's own socket: one JSON line asks, one JSON line answers. Only the owner's account can reach it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import select
import socket
import time
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

MAX_LINE_BYTES = 64 * 1024 * 1024
"""Manifests with all their code, and then some."""
LAST_ANSWER_SECONDS = 2.0
MEANWHILE_SECONDS = 0.5
SOCKET = "supervisor.sock"

Handler = Callable[[str, Mapping[str, Any]], Awaitable[dict[str, Any]]]
"""`handler(command, arguments) -> result`; a raised `CommandError` becomes the answer."""


class CommandError(RuntimeError):
    """The command was understood and cannot be done; the text is for people."""


class CommandServer:
    """Answers commands; a context manager is not offered because the supervisor closes it in its own order."""

    def __init__(self, path: Path, handler: Handler) -> None:
        self._path = path
        self._handler = handler
        self._server: asyncio.Server | None = None
        self._clients: set[asyncio.StreamWriter] = set()
        self._busy = 0
        self._idle = asyncio.Event()
        self._idle.set()

    async def start(self) -> None:
        """Listen."""
        self._server = await asyncio.start_unix_server(self._serve, str(self._path), limit=MAX_LINE_BYTES)
        self._path.chmod(0o600)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._clients.add(writer)
        try:
            while line := await reader.readline():
                self._busy += 1
                self._idle.clear()
                try:
                    writer.write(json.dumps(await self._answer(line)).encode() + b"\n")
                    await writer.drain()
                finally:
                    self._busy -= 1
                    if self._busy == 0:
                        self._idle.set()
        except (ConnectionError, ValueError):
            # The client has gone, or its line has no end: nobody to answer.
            return
        except asyncio.CancelledError:
            # The supervisor ends. Up to Python 3.11 asyncio logs the cancellation of a connection as a fault of its own.
            return
        finally:
            self._clients.discard(writer)
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()

    async def _answer(self, line: bytes) -> dict[str, Any]:
        try:
            request = json.loads(line)
            return {"ok": await self._handler(str(request["command"]), request.get("arguments") or {})}
        except CommandError as error:
            return {"error": str(error)}
        except OSError as error:
            # A full disk, or no descriptor left.
            return {"error": f"{error.filename or 'the supervisor'}: {error.strerror}"}
        except (ValueError, KeyError, TypeError) as error:
            return {"error": f"the request is not understood: {error!r}"}

    async def close(self) -> None:
        """Listen no more. What can be answered now is answered (`down` waits for this moment); the rest sees its connection end."""
        if self._server is None:
            return
        self._server.close()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LAST_ANSWER_SECONDS):
                await self._idle.wait()
        for writer in list(self._clients):
            writer.close()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(2):
                await self._server.wait_closed()
        self._server = None
        self._path.unlink(missing_ok=True)


def call(
    run: Path,
    command: str,
    arguments: Mapping[str, Any] | None = None,
    *,
    timeout: float = 10.0,
    meanwhile: Callable[[], None] | None = None,
) -> dict[str, Any]:
    """Ask a supervisor, from a program without a loop.

    Args:
        run: its run directory.
        timeout: seconds for each step of the exchange.
        meanwhile: called every half a second until the answer begins.
    Raises:
        CommandError: it cannot do it; or it ended, or did not answer in time.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(timeout)
        try:
            connection.connect(str(run / SOCKET))
            connection.sendall(json.dumps({"command": command, "arguments": dict(arguments or {})}).encode() + b"\n")
            if meanwhile is not None:
                _await_answer(connection, timeout, meanwhile)
            with connection.makefile("rb") as stream:
                line = stream.readline(MAX_LINE_BYTES)
        except TimeoutError as error:
            raise CommandError(f"the supervisor did not answer within {timeout:.0f} s") from error
        except OSError as error:
            raise CommandError(f"the supervisor cannot be reached: {error.strerror or error}") from error
    if not line.endswith(b"\n"):
        raise CommandError("the supervisor has ended")
    answer = json.loads(line)
    if "error" in answer:
        raise CommandError(str(answer["error"]))
    result: dict[str, Any] = answer["ok"]
    return result


def _await_answer(connection: socket.socket, timeout: float, meanwhile: Callable[[], None]) -> None:
    deadline = time.monotonic() + timeout
    while not select.select([connection], [], [], MEANWHILE_SECONDS)[0]:
        if time.monotonic() >= deadline:
            raise TimeoutError
        meanwhile()
