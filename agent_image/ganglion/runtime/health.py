"""Probes and metrics over HTTP: four paths, GET only, one answer per connection."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus

log = logging.getLogger(__name__)

MAX_CONNECTIONS = 64
MAX_REQUEST_BYTES = 8192
ANSWER_SECONDS = 5.0
_TEXT = "text/plain; charset=utf-8"

Check = Callable[[], str]
"""Empty: all is well. Otherwise the reason, for people."""


def _fine() -> str:
    return ""


def default_metrics() -> bytes:
    """The process's default Prometheus registry."""
    from prometheus_client import generate_latest

    return generate_latest()


@dataclass(frozen=True)
class Probes:
    """What the paths answer from. Called in the loop; must be quick.

    Attributes:
        startup, ready, live: `/startupz`, `/readyz`, `/livez`: 200 with `ok`, or 503 with the reason.
        metrics: `/metrics` in the Prometheus text format.
    """

    startup: Check = _fine
    ready: Check = _fine
    live: Check = _fine
    metrics: Callable[[], bytes] = default_metrics


class HealthServer:
    """The endpoint. `port` is known after `start`.

    Args:
        probes: what to answer.
    """

    def __init__(self, probes: Probes) -> None:
        self._checks = {"/startupz": probes.startup, "/readyz": probes.ready, "/livez": probes.live}
        self._metrics = probes.metrics
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.Task[None]] = set()
        self.port = 0

    async def start(self, port: int, host: str = "") -> None:
        """Listen.

        Args:
            port: TCP port; 0 takes any free one.
            host: address; empty for all of them (kubelet asks at the pod's address).
        Raises:
            OSError: the port is taken.
        """
        self._server = await asyncio.start_server(self._accept, host or None, port, limit=MAX_REQUEST_BYTES)
        self.port = int(self._server.sockets[0].getsockname()[1])

    async def stop(self) -> None:
        """Close the port and every connection; idempotent."""
        if self._server is None:
            return
        server, self._server = self._server, None
        server.close()
        for task in list(self._connections):
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)
        await server.wait_closed()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        try:
            # Beyond the bound a prober is turned away at once: idle connections must not cost descriptors.
            if len(self._connections) <= MAX_CONNECTIONS:
                async with asyncio.timeout(ANSWER_SECONDS):
                    await self._serve(reader, writer)
        except (TimeoutError, OSError, ValueError, asyncio.IncompleteReadError, asyncio.LimitOverrunError) as error:
            log.debug("health request given up: %s", error)
        finally:
            writer.close()
            try:
                # Whoever does not take its answer would keep it here for ever.
                async with asyncio.timeout(ANSWER_SECONDS):
                    await writer.wait_closed()
            except (TimeoutError, OSError, asyncio.CancelledError):
                writer.transport.abort()
            self._connections.discard(task)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        method, _, rest = head.partition(b" ")
        path = rest.partition(b" ")[0].partition(b"?")[0].decode("ascii", "replace")
        status, kind, body = self._answer(method, path)
        writer.write(
            f"HTTP/1.1 {status.value} {status.phrase}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n".encode()
        )
        if method != b"HEAD":
            writer.write(body)
        await writer.drain()

    def _answer(self, method: bytes, path: str) -> tuple[HTTPStatus, str, bytes]:
        if method not in (b"GET", b"HEAD"):
            return HTTPStatus.METHOD_NOT_ALLOWED, _TEXT, b"GET only\n"
        try:
            if path == "/metrics":
                return HTTPStatus.OK, "text/plain; version=0.0.4; charset=utf-8", self._metrics()
            check = self._checks.get(path)
            if check is None:
                return HTTPStatus.NOT_FOUND, _TEXT, b"one of /startupz /readyz /livez /metrics\n"
            reason = check()
        except Exception as error:
            # A probe that raises is a process that is not well; it must not end the endpoint.
            log.exception("health check %s failed", path)
            reason = f"{type(error).__name__}: {error}"
        return (HTTPStatus.SERVICE_UNAVAILABLE, _TEXT, f"{reason}\n".encode()) if reason else (HTTPStatus.OK, _TEXT, b"ok\n")
