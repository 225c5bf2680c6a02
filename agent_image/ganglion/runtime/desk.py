"""`control.sock` of an agent that joins by itself: programs in it, and processes that they start, ask there how to make agents of their own.

A thread of its own: who asks may be the main thread, in `on_init` or a handler, and waits for the answer.
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import threading
from collections import deque
from pathlib import Path

import msgspec
import zmq

from ganglion.runtime.sockets import bind_ipc, make_context, make_ipc_socket
from ganglion.wire.control import AdHoc, AskAdHoc, decode, encode

log = logging.getLogger(__name__)

MAX_ASKERS = 64
"""Who ask before the join wait for it; of more than this the oldest are forgotten, and ask in vain."""
END_SECONDS = 5.0
_POLL_MS = 1000


class AdHocDesk:
    """See the module. Serves at once; close it from another thread than its own.

    Args:
        path: `<run>/control.sock`; replaced when a killed predecessor left it.
    Raises:
        zmq.ZMQError: the directory is missing or not writable.
        ValueError: the path is too long.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._answer: AdHoc | None = None
        self._askers: deque[bytes] = deque(maxlen=MAX_ASKERS)
        self._stopping = False
        self._context = make_context()
        self._socket = make_ipc_socket(self._context, zmq.ROUTER)
        old = os.umask(0o077)
        try:
            bind_ipc(self._socket, path)
        except BaseException:
            self._socket.close(0)
            self._context.term()
            raise
        finally:
            os.umask(old)
        self._wake_receive, self._wake_send = socket.socketpair()
        self._wake_receive.setblocking(False)
        self._wake_send.setblocking(False)
        self._thread = threading.Thread(target=self._run, name="ganglion-ad-hoc", daemon=True)
        self._thread.start()

    def set(self, answer: AdHoc) -> None:
        """What is answered from now on, also to those that wait. Any thread."""
        self._answer = answer
        self._wake()

    def close(self) -> None:
        """Idempotent."""
        if self._stopping:
            return
        self._stopping = True
        self._wake()
        self._thread.join(END_SECONDS)
        if self._thread.is_alive():
            log.error("the thread that answers programs did not end within %s s", END_SECONDS)
            return
        self._wake_receive.close()
        self._wake_send.close()
        self._path.unlink(missing_ok=True)

    def _wake(self) -> None:
        with contextlib.suppress(BlockingIOError):
            self._wake_send.send(b"!")

    def _run(self) -> None:
        poller = zmq.Poller()
        poller.register(self._socket, zmq.POLLIN)
        poller.register(self._wake_receive, zmq.POLLIN)
        try:
            while not self._stopping:
                poller.poll(_POLL_MS)
                with contextlib.suppress(BlockingIOError):
                    self._wake_receive.recv(4096)
                self._drain()
                answer = self._answer
                while answer is not None and self._askers:
                    # One that is gone, or reads nothing, is not waited for.
                    with contextlib.suppress(zmq.ZMQError):
                        self._socket.send_multipart([self._askers.popleft(), encode(answer)], zmq.NOBLOCK)
        finally:
            self._socket.close(500)
            self._context.term()

    def _drain(self) -> None:
        # The deque forgets the oldest, who have waited for longest and may be gone. The others are there in the next turn.
        for _ in range(MAX_ASKERS):
            try:
                frames = self._socket.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return
            try:
                if len(frames) == 2 and isinstance(decode(frames[1]), AskAdHoc):
                    self._askers.append(frames[0])
            except msgspec.MsgspecError as error:
                log.warning("message on %s cannot be read: %s", self._path.name, error)
