"""/livez, /readyz and /metrics."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Self

from aiohttp import web

from ganglion_operator.metrics import Metrics

Check = Callable[[], str | None]
"""Why not, or None when all is well."""


class HealthServer:
    """A small HTTP server in the operator's loop: that it answers at all shows that the loop turns."""

    def __init__(self, host: str, port: int, metrics: Metrics, *, live: Check, ready: Check) -> None:
        self._host = host
        self._port = port
        self._metrics = metrics
        app = web.Application()
        app.add_routes([web.get("/livez", self._check(live)), web.get("/readyz", self._check(ready)), web.get("/metrics", self._render)])
        self._runner = web.AppRunner(app, access_log=None, handle_signals=False, shutdown_timeout=1.0)

    @property
    def port(self) -> int:
        """The port that is bound."""
        address: tuple[str, int] = self._runner.addresses[0]
        return address[1]

    async def __aenter__(self) -> Self:
        await self._runner.setup()
        await web.TCPSite(self._runner, self._host, self._port).start()
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self._runner.cleanup()

    @staticmethod
    def _check(check: Check) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
        async def handle(_: web.Request) -> web.Response:
            problem = check()
            return web.Response(text=problem or "ok", status=503 if problem else 200)

        return handle

    async def _render(self, _: web.Request) -> web.Response:
        return web.Response(body=self._metrics.render(), headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"})
