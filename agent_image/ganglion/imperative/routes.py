"""From outside of a cluster to agents in its pods: for each endpoint a port on 127.0.0.1 whose connections go through `GANGLION_RELAY`.

libzmq could speak SOCKS by itself; version 4.3.5 aborts the process when such a socket is closed while it tries to connect again.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import logging
import os
import struct
import threading
from collections import OrderedDict

from ganglion.imperative.addresses import address_to_host_port
from ganglion.imperative.relay import CHUNK, HANDSHAKE_SECONDS, carry_both_ways

log = logging.getLogger(__name__)

VARIABLE = "GANGLION_RELAY"
"""`host:port` of the forwarded relay of a domain; set by `ganglion connect`."""
MAX_ROUTES = 512
"""Ports that are listened on; beyond it the oldest one takes no further connections."""
START_SECONDS = 10.0
_HERE = ("127.0.0.1", "localhost", "::1")

_lock = threading.Lock()
_routes: dict[int, _Routes] = {}
"""By process id: a fork has none of its parent's threads."""


def route(endpoint: str) -> str:
    """Where to connect in order to reach an endpoint: itself, or the port of this process that leads there.

    Raises:
        OSError: no port can be had.
    """
    relay = os.environ.get(VARIABLE)
    if not relay or not endpoint.startswith("tcp://"):
        return endpoint
    host, port = address_to_host_port(endpoint.removeprefix("tcp://"))
    if host is None or port is None or host in _HERE:
        return endpoint
    with _lock:
        routes = _routes.get(os.getpid())
        if routes is None:
            routes = _routes[os.getpid()] = _Routes(relay)
        return f"tcp://127.0.0.1:{routes.port(host, port)}"


def _check(answer: bytes) -> None:
    if answer[:2] != b"\x05\x00" or answer[3] != 0:
        raise OSError(f"the relay refused with {answer[3]}")


class _Routes:
    """A thread with a loop; it ends with the process."""

    def __init__(self, relay: str) -> None:
        host, port = address_to_host_port(relay)
        if host is None or port is None:
            raise ValueError(f"{VARIABLE}: found {relay!r}, must be host:port")
        self._relay = host, port
        self._servers: OrderedDict[tuple[str, int], asyncio.Server] = OrderedDict()
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, name="ganglion-routes", daemon=True).start()

    def port(self, host: str, port: int) -> int:
        server = self._servers.get((host, port))
        if server is None:
            server = self._servers[host, port] = asyncio.run_coroutine_threadsafe(self._listen(host, port), self._loop).result(
                START_SECONDS
            )
            while len(self._servers) > MAX_ROUTES:
                self._loop.call_soon_threadsafe(self._servers.popitem(last=False)[1].close)
        found: int = server.sockets[0].getsockname()[1]
        return found

    async def _listen(self, host: str, port: int) -> asyncio.Server:
        async def accepted(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                async with asyncio.timeout(HANDSHAKE_SECONDS):
                    far = await self._open(host, port)
                await carry_both_ways(reader, writer, *far)
            except (OSError, EOFError, TimeoutError) as error:
                log.debug("%s:%d by %s: %s", host, port, self._relay, error)
            finally:
                writer.close()

        return await asyncio.start_server(accepted, "127.0.0.1", 0, limit=CHUNK)

    async def _open(self, host: str, port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A connection by SOCKS 5."""
        reader, writer = await asyncio.open_connection(*self._relay, limit=CHUNK)
        try:
            try:
                address = ipaddress.ip_address(host)
                where = bytes([1 if address.version == 4 else 4]) + address.packed
            except ValueError:
                where = bytes([3, len(host)]) + host.encode("ascii")
            # Both at once: the relay of a domain wants no authentication, and answers with an IPv4 address whatever was asked for.
            writer.write(b"\x05\x01\x00" + b"\x05\x01\x00" + where + struct.pack("!H", port))
            answer = await reader.readexactly(12)
            _check(answer)
        except BaseException:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()
            raise
        return reader, writer
