"""Who is on an ipc leg: plain programs tell nothing but that they connect and go."""

from __future__ import annotations

import zmq
from zmq.utils.monitor import parse_monitor_message

from ganglion.runtime.sockets import Socket


class ProgramMonitor:
    """Counts the connections of a bound ipc socket. Make it before the socket is bound, or handed to another thread.

    Args:
        socket: the leg.
    """

    def __init__(self, socket: Socket) -> None:
        self.socket: Socket = socket.get_monitor_socket(zmq.EVENT_HANDSHAKE_SUCCEEDED | zmq.EVENT_DISCONNECTED)
        self.count = 0
        """Programs that are connected now."""

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
        self.count += came - went
        return came, went

    def close(self) -> None:
        """Close our end. The leg's monitor must be disabled before: libzmq blocks in an event that nobody can receive."""
        self.socket.close(0)
