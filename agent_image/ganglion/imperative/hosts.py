"""Hosts: what is bound, and what peers are told."""

from __future__ import annotations

import os
import socket
from typing import Any

import zmq

from ganglion.runtime.sockets import Socket

WILDCARDS = ("0.0.0.0", "::", "*")  # noqa: S104 - compared with, not bound


def numeric_host(host: str | None) -> str:
    """The IP address of a host to bind; None or empty: 127.0.0.1.

    Raises:
        OSError: its name is not known (socket.gaierror).
    """
    if not host:
        return "127.0.0.1"
    if host == "*":
        return "0.0.0.0"  # noqa: S104 - the user asked for it
    found: Any = socket.getaddrinfo(host.strip("[]"), None, type=socket.SOCK_STREAM)[0][4][0]
    return str(found)


def advertised(host: str) -> str:
    """What peers are told of a socket that is bound to `host`: itself, or when that means all interfaces, `GANGLION_ADVERTISE_HOST` or
    this host's name. A wildcard is no address: on another machine it would mean that one."""
    return (os.environ.get("GANGLION_ADVERTISE_HOST") or socket.gethostname()) if host in WILDCARDS else host


def bind_tcp(bound: Socket, host: str, port: int | None) -> int:
    """Bind to an IP address; port None: any. Returns the port.

    Raises:
        zmq.ZMQError: it cannot be bound.
    """
    bracketed = f"[{host}]" if ":" in host else host
    bound.ipv6 = ":" in host
    bound.bind(f"tcp://{bracketed}:{port or '*'}")
    return int(bound.get_string(zmq.LAST_ENDPOINT).rstrip("\0").rpartition(":")[2])


def tcp_endpoint(host: str, port: int) -> str:
    """Where peers connect to a socket that is bound to `host`."""
    told = advertised(host)
    return f"tcp://[{told}]:{port}" if ":" in told else f"tcp://{told}:{port}"
