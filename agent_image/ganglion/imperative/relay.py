"""The way into a cluster for a program outside of it: SOCKS 5 (RFC 1928) beside the directory; `routes` is its other end.

It listens on the pod's own loopback address, so only who may forward ports to this pod reaches it, and it connects to hosts of registered
agents alone, never to this pod's own loopback address. What goes through it is encrypted from end to end.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import logging
import socket
import struct
import threading
from collections.abc import Callable

log = logging.getLogger(__name__)

MAX_CONNECTIONS = 512
HANDSHAKE_SECONDS = 10.0
CHUNK = 1 << 16
_GRANTED, _FAILED, _FORBIDDEN, _UNREACHABLE, _NO_COMMAND, _NO_ADDRESS = 0, 1, 2, 4, 7, 8


class Relay:
    """See the module. It runs in a thread of its own.

    Args:
        host, port: to bind; port 0: any.
        permits: whether connections to this host are wanted. Any thread.
        directory: port of the directory beside it, which is meant by this port of any host: proxies that travel know its Service.
        loopback: whether loopback addresses are agents' as well; in a pod they are this pod's own, whatever an agent claims to be.
    Raises:
        OSError: the address cannot be bound.
    """

    def __init__(self, host: str, port: int, permits: Callable[[str], bool], directory: int = 0, *, loopback: bool) -> None:
        self._permits = permits
        self._loopback = loopback
        self._directory = directory
        self._tasks: set[asyncio.Task[None]] = set()
        self._loop = asyncio.new_event_loop()
        try:
            self._server = self._loop.run_until_complete(asyncio.start_server(self._accept, host, port, limit=CHUNK))
        except BaseException:
            self._loop.close()
            raise
        self.port: int = self._server.sockets[0].getsockname()[1]
        self._thread = threading.Thread(target=self._loop.run_forever, name="relay", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Cut all connections and end the thread."""

        async def end() -> None:
            self._server.close()
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

        asyncio.run_coroutine_threadsafe(end(), self._loop).result(5.0)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5.0)
        self._loop.close()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        if len(self._tasks) >= MAX_CONNECTIONS:
            writer.close()
            return
        self._tasks.add(task)
        try:
            await self._serve(reader, writer)
        except (OSError, EOFError, TimeoutError, asyncio.IncompleteReadError) as error:
            log.debug("relay: %s: %s", type(error).__name__, error)
        except asyncio.CancelledError:
            # Nobody awaits this task but `close`.
            pass
        finally:
            self._tasks.discard(task)
            writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async with asyncio.timeout(HANDSHAKE_SECONDS):
            version, methods = await reader.readexactly(2)
            offered = await reader.readexactly(methods)
            if version != 5 or 0 not in offered:
                writer.write(b"\x05\xff")
                await writer.drain()
                return
            writer.write(b"\x05\x00")
            host, port, refusal = await self._request(reader)
            there = None
            if refusal == _GRANTED:
                try:
                    address = await self._resolved(host, port)
                    if address:
                        there = await asyncio.open_connection(address, port, limit=CHUNK)
                    else:
                        log.warning("relay: %s is no host of a registered agent", host)
                        refusal = _FORBIDDEN
                except OSError:
                    refusal = _UNREACHABLE
            writer.write(struct.pack("!BBBB4sH", 5, refusal, 0, 1, bytes(4), 0))
            await writer.drain()
        if there is not None:
            await carry_both_ways(reader, writer, *there)

    async def _resolved(self, host: str, port: int) -> str:
        """The address to connect to; empty: to none. A name that a registered agent has given may lead anywhere."""
        if port == self._directory:
            return "127.0.0.1"
        if not self._permits(host):
            return ""
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
        text = str(found[0][4][0])
        address = ipaddress.ip_address(text.partition("%")[0])
        inner = getattr(address, "ipv4_mapped", None) or address
        if inner.is_unspecified or inner.is_link_local or inner.is_multicast or (inner.is_loopback and not self._loopback):
            return ""
        return text

    @staticmethod
    async def _request(reader: asyncio.StreamReader) -> tuple[str, int, int]:
        """(host, port, what to answer with)."""
        version, command, _, kind = await reader.readexactly(4)
        if kind in (1, 4):
            host = str(ipaddress.ip_address(await reader.readexactly(4 if kind == 1 else 16)))
        elif kind == 3:
            (length,) = await reader.readexactly(1)
            host = (await reader.readexactly(length)).decode("ascii", "replace")
        else:
            return "", 0, _NO_ADDRESS
        (port,) = struct.unpack("!H", await reader.readexactly(2))
        if version != 5:
            return host, port, _FAILED
        return host, port, _GRANTED if command == 1 else _NO_COMMAND


async def carry_both_ways(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, far_reader: asyncio.StreamReader, far_writer: asyncio.StreamWriter
) -> None:
    """Carry bytes both ways until one side ends."""
    ways = [asyncio.ensure_future(_carry(reader, far_writer)), asyncio.ensure_future(_carry(far_reader, writer))]
    try:
        await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for way in ways:
            way.cancel()
        await asyncio.gather(*ways, return_exceptions=True)
        far_writer.close()
        with contextlib.suppress(OSError):
            await far_writer.wait_closed()


async def _carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(CHUNK):
        writer.write(data)
        await writer.drain()
