"""A proxy in front of an API server that cuts watches, and lets them go on from a version that the server has forgotten."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import ssl
import threading
from pathlib import Path
from types import TracebackType
from typing import Self

import aiohttp
from aiohttp import web

from tests.support.aio import eventually
from tests.support.apiserver import ApiServer

_START_SECONDS = 20.0
_HOP = {"connection", "content-length", "content-encoding", "host", "keep-alive", "transfer-encoding"}


class ApiProxy:
    """Plain HTTP on loopback towards the API server; a context manager that ends it.

    `cut` ends all watches and refuses new ones. After `restore`, the next watch of each collection asks for version 1, which the API
    server answers as it answers any version that is compacted: 410 Gone, its own words.
    """

    def __init__(self, server: ApiServer) -> None:
        self._server = server
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="api proxy")
        self._watches: set[asyncio.Task[None]] = set()
        self._calls = 0
        self._sockets: list[socket.socket] = []
        self._open = True
        self._stale: set[str] | None = None
        self.gone: list[str] = []
        """Paths of the watches that were answered with 410."""
        self.garbage: bytes | None = None
        """Sent in each watch in place of its next line, once."""
        self.url = ""

    def __enter__(self) -> Self:
        self._thread.start()
        self._run(self._start())
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._run(self._stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    @property
    def watches(self) -> int:
        """Watches that are open now."""
        return len(self._watches)

    def cut(self) -> None:
        """End all watches; new ones fail until `restore`."""
        self._run(self._cut())

    def restore(self) -> None:
        """Let watches through again, the first of each collection with a version that is gone."""
        self._stale = set()
        self._open = True

    def kubeconfig(self, directory: Path) -> Path:
        """A kubeconfig of the administrator, by way of the proxy."""
        config = json.loads(self._server.kubeconfig.read_text())
        config["clusters"][0]["cluster"] = {"server": self.url}
        path = directory / "proxied-kubeconfig"
        path.write_text(json.dumps(config))
        return path

    def _run(self, work: object) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(_START_SECONDS)  # type: ignore[arg-type]

    async def _start(self) -> None:
        context = ssl.create_default_context(cafile=str(self._server.ca))
        self._session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=context, limit=0, socket_factory=self._socket))
        application = web.Application(client_max_size=16 * 2**20)
        application.router.add_route("*", "/{path:.*}", self._handle)
        self._runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"

    async def _stop(self) -> None:
        await self._cut()
        await self._runner.cleanup()
        await eventually(lambda: not self._calls, what="calls through the proxy have ended")
        await self._session.close()
        # A TLS connection that is closed lets go of its socket when the other end has answered.
        await eventually(lambda: all(one.fileno() == -1 for one in self._sockets), what="connections to the API server are closed")

    def _socket(self, address: aiohttp.AddrInfoType) -> socket.socket:
        made = socket.socket(*address[:3])
        made.setblocking(False)
        self._sockets.append(made)
        return made

    async def _cut(self) -> None:
        self._open = False
        tasks = list(self._watches)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        self._calls += 1
        try:
            return await self._forward(request)
        finally:
            self._calls -= 1

    async def _forward(self, request: web.Request) -> web.StreamResponse:
        query = dict(request.query)
        watch = query.get("watch") in ("true", "1")
        if watch and not self._open:
            return self._abort(request)
        if watch and self._stale is not None and request.path not in self._stale:
            self._stale.add(request.path)
            self.gone.append(request.path)
            query["resourceVersion"] = "1"
        headers = {name: value for name, value in request.headers.items() if name.lower() not in _HOP}
        timeout = aiohttp.ClientTimeout(total=None if watch else 30)
        async with self._session.request(
            request.method,
            self._server.url + request.path,
            params=query,
            headers=headers,
            data=await request.read() or None,
            timeout=timeout,
        ) as answer:
            response = web.StreamResponse(status=answer.status)
            response.content_type = answer.content_type
            await response.prepare(request)
            if not watch:
                await response.write(await answer.read())
                return response
            task = asyncio.ensure_future(self._copy(answer, response))
            self._watches.add(task)
            try:
                await asyncio.wait({task})
            finally:
                self._watches.discard(task)
                task.cancel()
                answer.close()
            return self._abort(request) if task.cancelled() else response

    def _abort(self, request: web.Request) -> web.Response:
        """End the connection in the middle of an answer, or before one."""
        if request.transport is not None:
            request.transport.abort()
        return web.Response(status=503)

    async def _copy(self, answer: aiohttp.ClientResponse, response: web.StreamResponse) -> None:
        with contextlib.suppress(ConnectionError, aiohttp.ClientError):
            async for line in answer.content:
                garbage, self.garbage = self.garbage, None
                await response.write(line if garbage is None else garbage)
