"""Who is on an ipc leg: plain programs tell nothing but that they connect and go."""

from __future__ import annotations

import logging
import math
import time
from typing import Final

import zmq
from zmq.utils.monitor import parse_monitor_message

from ganglion.runtime.sockets import Socket
from ganglion.wiring import ChannelWiring

log = logging.getLogger(__name__)

_AT_ONCE_SECONDS: Final = 1.0
"""libzmq connects again after a tenth or two of a second; a program that is started again mostly needs longer."""


class ProgramMonitor:
    """Counts the connections of a bound ipc socket. Make it before the socket is bound, or handed to another thread.

    Args:
        socket: the leg.
        sending: channel on which programs send here. libzmq ends a connection for too large a frame without telling anybody; that it is
            made again at once is logged, the first time. None: nothing is.
    """

    def __init__(self, socket: Socket, sending: ChannelWiring | None = None) -> None:
        self.socket: Socket = socket.get_monitor_socket(zmq.EVENT_HANDSHAKE_SUCCEEDED | zmq.EVENT_DISCONNECTED)
        self.count = 0
        """Programs that are connected now."""
        self._sending = sending
        self._went_at = -math.inf

    def drain(self) -> tuple[int, int]:
        """Take what happened: (came, went)."""
        came = went = 0
        while True:
            try:
                event = parse_monitor_message(self.socket.recv_multipart(zmq.NOBLOCK))["event"]
            except zmq.Again:
                break
            if event == zmq.EVENT_HANDSHAKE_SUCCEEDED:
                came += 1
            elif self.count + came > went:  # else: it went before its handshake was done
                went += 1
        if came or went:
            self._look(came, went)
        self.count += came - went
        return came, went

    def _look(self, came: int, went: int) -> None:
        if self._sending is None:
            return
        now = time.monotonic()
        if went and self.count:
            # Otherwise the one that went is the one that came.
            self._went_at = now
        if came and now - self._went_at < _AT_ONCE_SECONDS:
            log.warning(
                "channel %r: a program's connection ended, and one was made again at once. Unless a program was started again, it may have "
                "sent a frame too far over maxMessageBytes (%d), which loses what else is under way; raise it, or send less (told once)",
                self._sending.alias,
                self._sending.max_message_bytes,
            )
            self._sending = None
        if went:
            self._went_at = now

    def close(self) -> None:
        """Close our end. The leg's monitor must be disabled before: libzmq blocks in an event that nobody can receive."""
        self.socket.close(0)
