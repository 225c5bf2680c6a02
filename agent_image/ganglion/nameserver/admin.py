"""The admin socket: a supervisor on the same machine is the source of the domain."""

from __future__ import annotations

import asyncio
import itertools
import logging
import os
from collections.abc import Callable
from pathlib import Path

import msgspec
import zmq

from ganglion.nameserver.reading import SocketReader
from ganglion.runtime.sockets import Context, Socket, bind_ipc, ipc_endpoint, make_context, make_ipc_socket
from ganglion.wire.admin import AdminMessage, Domain, Done, Failed, GetStatus, PostedNotice, SetDomain, Shutdown, Status, decode, encode

log = logging.getLogger(__name__)


class AdminError(Exception):
    """The name server did not answer, or could not serve the request."""


class AdminSource:
    """Serves the admin socket in the server's loop.

    Args:
        path: ipc path; only this user may open it.
        on_domain: the supervisor declared this.
        on_shutdown: (seconds) the supervisor wants the end.
        status: state for people; notices numbered above the argument.
    """

    def __init__(
        self, path: Path, *, on_domain: Callable[[Domain], None], on_shutdown: Callable[[float], None], status: Callable[[int], Status]
    ) -> None:
        self._path = path
        self._on_domain = on_domain
        self._on_shutdown = on_shutdown
        self._status = status
        self._context: Context | None = make_context()
        self._socket: Socket = make_ipc_socket(self._context, zmq.ROUTER)
        self._reader: SocketReader | None = None
        old = os.umask(0o077)
        try:
            bind_ipc(self._socket, path)
        except BaseException:
            self._socket.close()
            self._context.term()
            raise
        finally:
            os.umask(old)

    async def run(self) -> None:
        """See `DomainSource`."""
        self._reader = SocketReader(asyncio.get_running_loop(), self._socket, self._take)
        await asyncio.Event().wait()

    async def deleting(self) -> bool:
        """SIGTERM on a laptop is a plain restart; the end of the domain is told by `Shutdown`."""
        return False

    def post(self, notice: PostedNotice) -> None:
        """Kept by the server; the supervisor asks for them."""

    def status_changed(self) -> None:
        """The supervisor asks for it."""

    async def close(self) -> None:
        """Idempotent; removes the socket file."""
        if self._reader is not None:
            self._reader.close()
        context, self._context = self._context, None
        if context is not None:
            self._socket.close(200)
            context.term()
            self._path.unlink(missing_ok=True)

    def _take(self) -> None:
        frames = self._socket.recv_multipart(zmq.NOBLOCK)
        if len(frames) != 2:
            return
        reply = self._serve(frames[1])
        if reply is not None:
            try:
                self._socket.send_multipart([frames[0], encode(reply)], zmq.NOBLOCK)
            except zmq.ZMQError as error:
                log.debug("admin reply was not taken: %s", error)
            if self._reader is not None:
                self._reader.recheck()

    def _serve(self, frame: bytes) -> AdminMessage | None:
        try:
            message = decode(frame)
        except msgspec.MsgspecError as error:
            return Failed(request=0, message=f"admin message cannot be read: {error}")
        match message:
            case SetDomain():
                self._on_domain(message.domain)
                return Done(request=message.request)
            case GetStatus():
                return msgspec.structs.replace(self._status(message.notices_after), request=message.request)
            case Shutdown():
                self._on_shutdown(message.timeout_seconds)
                return Done(request=message.request)
            case _:
                return Failed(request=message.request, message=f"{type(message).__name__} is no request")


class AdminClient:
    """A supervisor's side of the admin socket; blocking, for one thread.

    Args:
        path: the name server's `GANGLION_ADMIN_SOCKET`. It need not exist yet: calls wait for it within their timeout.
    """

    def __init__(self, path: Path) -> None:
        self._endpoint = ipc_endpoint(path)
        self._context = make_context()
        self._socket = self._open()
        self._numbers = itertools.count(1)

    def _open(self) -> Socket:
        socket = make_ipc_socket(self._context, zmq.DEALER, max_message_bytes=-1)
        socket.connect(self._endpoint)
        return socket

    def set_domain(self, domain: Domain, *, timeout: float = 5.0) -> None:
        """Declare the domain; say it again after each restart of the name server.

        Args:
            domain: everything that is declared.
            timeout: seconds.
        Raises:
            AdminError: no answer in time, or refused.
        """
        self._ask(SetDomain(request=next(self._numbers), domain=domain), timeout)

    def status(self, *, notices_after: int = 0, timeout: float = 5.0) -> Status:
        """State of the domain and notices numbered above `notices_after`. Raises `AdminError` as `set_domain` does."""
        reply = self._ask(GetStatus(request=next(self._numbers), notices_after=notices_after), timeout)
        if not isinstance(reply, Status):
            raise AdminError(f"name server: answered {type(reply).__name__} to GetStatus")
        return reply

    def shutdown(self, timeout_seconds: float, *, timeout: float = 5.0) -> None:
        """Shut the domain down with the flow, within `timeout_seconds`; the process exits with 0 once it is empty."""
        self._ask(Shutdown(request=next(self._numbers), timeout_seconds=timeout_seconds), timeout)

    def _ask(self, request: SetDomain | GetStatus | Shutdown, timeout: float) -> AdminMessage:
        poller = zmq.Poller()
        poller.register(self._socket, zmq.POLLIN)
        try:
            self._socket.send(encode(request), zmq.NOBLOCK)
            while poller.poll(int(timeout * 1000)):
                reply = decode(self._socket.recv())
                if reply.request != request.request:
                    # The answer to a request that was given up.
                    continue
                if isinstance(reply, Failed):
                    raise AdminError(f"name server: {reply.message}")
                return reply
        except (zmq.ZMQError, msgspec.MsgspecError) as error:
            raise AdminError(f"name server: {error}") from error
        # A request that was never taken must not reach the next name server on this path.
        self._socket.close()
        self._socket = self._open()
        raise AdminError(f"name server: no answer on {self._endpoint} within {timeout:g} s")

    def close(self) -> None:
        """Idempotent."""
        self._socket.close()
        self._context.term()
