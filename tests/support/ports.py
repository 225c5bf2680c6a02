"""Ports for programs that bind them themselves."""

from __future__ import annotations

import contextlib
import secrets
import socket
from pathlib import Path


def free_ports(count: int) -> list[int]:
    """Different free loopback ports.

    They are outside the range of those that the kernel gives to outgoing connections and to sockets that bind port 0: tests that run beside
    this one open hundreds of both before the port is bound.
    """
    lowest_ephemeral = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    chosen: list[int] = []
    with contextlib.ExitStack() as held:
        while len(chosen) < count:
            port = 15000 + secrets.randbelow(max(lowest_ephemeral - 15000, 5000))
            probe = held.enter_context(socket.socket())
            with contextlib.suppress(OSError):
                probe.bind(("127.0.0.1", port))
                chosen.append(port)
    return chosen


def free_port() -> int:
    """One of them."""
    return free_ports(1)[0]
