"""Keeps a unix connection open until its peer has read everything.

libzmq (4.3.5) on the other side drops what the kernel still holds of a connection that ends while its own queue is full. A process that
ends after its last send therefore keeps a second descriptor of the connection until the kernel's queue is empty.
"""

from __future__ import annotations

import array
import fcntl
import os
import select
import socket
import sys
import termios
import time
from pathlib import Path

_LOOK_MS = 5


def hold(path: Path) -> list[socket.socket]:
    """Duplicates of this process's connections to the socket at `path`; none where the system cannot tell (only Linux can)."""
    if not sys.platform.startswith("linux"):
        return []
    held: list[socket.socket] = []
    for name in os.listdir("/proc/self/fd"):  # noqa: PTH208 - numbers, not paths
        if int(name) in {one.fileno() for one in held}:
            # The number of the listing's own descriptor, given to a duplicate meanwhile.
            continue
        try:
            if not os.readlink(f"/proc/self/fd/{name}").startswith("socket:"):  # noqa: PTH115 - "socket:[n]" is no path
                continue
            duplicate = socket.socket(fileno=os.dup(int(name)))
        except OSError:
            continue
        try:
            if duplicate.family == socket.AF_UNIX and duplicate.getpeername() == str(path):
                held.append(duplicate)
                continue
        except OSError:
            pass
        duplicate.close()
    return held


def unread(connection: socket.socket) -> int:
    """Bytes that the peer has not read, by the kernel's count."""
    size = array.array("i", [0])
    fcntl.ioctl(connection.fileno(), termios.TIOCOUTQ, size, True)
    return size[0]


def release(held: list[socket.socket], seconds: float) -> int:
    """Close the duplicates as soon as the peer has read everything.

    Args:
        held: from `hold`; libzmq must have written everything (its context was terminated).
        seconds: to wait at most, in all.
    Returns:
        Bytes that were not read in time.
    """
    deadline = time.monotonic() + seconds
    left = 0
    for connection in held:
        try:
            poller = select.poll()
            poller.register(connection, 0)
            # POLLHUP and POLLERR come unasked: the peer has gone, and reads nothing any more.
            while (left_here := unread(connection)) and time.monotonic() < deadline and not poller.poll(_LOOK_MS):
                pass
            left += left_here
        except OSError:
            pass
        finally:
            connection.close()
    held.clear()
    return left
