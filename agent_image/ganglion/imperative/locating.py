"""Where a name server is, and whether it answers."""

from __future__ import annotations

import time
from typing import Any

from ganglion.imperative import calls
from ganglion.imperative.addresses import SocketAddress, address_to_host_port
from ganglion.imperative.calls import PeerLost
from ganglion.imperative.errors import CallTimeout
from ganglion.imperative.settings import nameserver_address

POLL_SECONDS = 0.05
SHORT_SECONDS = 2.0
"""Bound of what answers at once when it answers at all."""


def locate(nsaddr: Any, timeout: float) -> SocketAddress:
    """The address of a name server that answers.

    Args:
        nsaddr: its address; None: the one in the environment.
        timeout: seconds to wait until it answers.
    Raises:
        ValueError: nsaddr is no host:port.
        TimeoutError: it does not answer.
    """
    host, port = address_to_host_port(nameserver_address(nsaddr))
    if host is None or port is None:
        raise ValueError(f"nsaddr: found {nsaddr!r}; must be host:port")
    address = SocketAddress(host, port)
    deadline = time.monotonic() + timeout
    while True:
        try:
            calls.call(f"tcp://{address}", "ping", timeout=max(0.5, timeout))
            return address
        except (PeerLost, CallTimeout):
            if time.monotonic() >= deadline:
                raise TimeoutError(f"Could not locate the name server! (at {address}, within {timeout:g} s)") from None
            time.sleep(POLL_SECONDS)
