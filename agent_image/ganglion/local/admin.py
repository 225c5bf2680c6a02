"""Requests to the name server's admin socket, from the supervisor's loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import msgspec
import zmq

from ganglion.runtime.sockets import Socket, ipc_endpoint, make_context, make_ipc_socket
from ganglion.wire import admin

MAX_ANSWER_BYTES = 64 * 1024 * 1024
"""Counts of tens of thousands of members."""
ANSWER_SECONDS = 2.0
"""The name server answers at once; a restarted one is asked again."""


class AdminError(RuntimeError):
    """The name server did not answer in time, or could not serve the request."""


class AdminLink:
    """One request at a time; a request without an answer closes the socket, so that nothing stale is queued for a restarted server.

    Args:
        path: of the admin socket.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._context = make_context()
        self._socket: Socket | None = None
        self._number = 0
        self._waiting: tuple[int, asyncio.Future[admin.AdminMessage]] | None = None
        self._turn = asyncio.Lock()

    async def set_domain(self, domain: admin.Domain) -> None:
        """Declare the domain.

        Raises:
            AdminError: no answer in time, or refused; of `status` and `shut_down`, too.
        """
        await self._ask(lambda number: admin.SetDomain(request=number, domain=domain))

    async def status(self, notices_after: int) -> admin.Status:
        """Members, counts, and the notices above a number."""
        answer = await self._ask(lambda number: admin.GetStatus(request=number, notices_after=notices_after))
        if not isinstance(answer, admin.Status):
            raise AdminError(f"the name server answered {type(answer).__name__} to GetStatus")
        return answer

    async def shut_down(self, seconds: float) -> None:
        """Begin the ordered shutdown, to end within `seconds`."""
        await self._ask(lambda number: admin.Shutdown(request=number, timeout_seconds=seconds))

    async def _ask(self, make: Callable[[int], admin.AdminMessage]) -> admin.AdminMessage:
        async with self._turn:
            self._number += 1
            number = self._number
            future: asyncio.Future[admin.AdminMessage] = asyncio.get_running_loop().create_future()
            self._waiting = (number, future)
            try:
                self._connected().send(admin.encode(make(number)), zmq.NOBLOCK)
                # The descriptor tells of changes only: a reply that came before the send would not be told of again.
                self._read()
                async with asyncio.timeout(ANSWER_SECONDS):
                    answer = await future
            except (TimeoutError, zmq.ZMQError) as error:
                self._disconnect()
                raise AdminError(f"the name server did not answer within {ANSWER_SECONDS:.0f} s") from error
            finally:
                self._waiting = None
        if isinstance(answer, admin.Failed):
            raise AdminError(answer.message)
        return answer

    def _connected(self) -> Socket:
        if self._socket is None:
            self._socket = make_ipc_socket(self._context, zmq.DEALER, max_message_bytes=MAX_ANSWER_BYTES)
            self._socket.connect(ipc_endpoint(self._path))
            asyncio.get_running_loop().add_reader(_descriptor(self._socket), self._read)
        return self._socket

    def _read(self) -> None:
        while self._socket is not None:
            try:
                frame = self._socket.recv(zmq.NOBLOCK)
            except zmq.Again:
                return
            try:
                answer = admin.decode(frame)
            except msgspec.MsgspecError:
                continue
            if self._waiting is not None and answer.request == self._waiting[0] and not self._waiting[1].done():
                self._waiting[1].set_result(answer)

    def _disconnect(self) -> None:
        if self._socket is not None:
            asyncio.get_running_loop().remove_reader(_descriptor(self._socket))
            self._socket.close(0)
            self._socket = None

    def close(self) -> None:
        """Close the socket and its context; idempotent."""
        self._disconnect()
        self._context.term()


def _descriptor(socket: Socket) -> int:
    return int(socket.get(zmq.FD))
