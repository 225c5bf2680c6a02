"""Where the relay beside a directory leads, and where it does not."""

from __future__ import annotations

import socket
import struct

import pytest

from ganglion.imperative.relay import Relay

GRANTED, FORBIDDEN = 0, 2


def _ask(relay: Relay, host: str, port: int) -> int:
    """What the relay answers to a request by name."""
    name = host.encode()
    with socket.create_connection(("127.0.0.1", relay.port), timeout=10) as asking:
        asking.sendall(b"\x05\x01\x00" + b"\x05\x01\x00\x03" + bytes([len(name)]) + name + struct.pack("!H", port))
        answer = b""
        while len(answer) < 12 and (data := asking.recv(12 - len(answer))):
            answer += data
    assert answer[:2] == b"\x05\x00"
    return answer[3]


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.2", "localhost", "::ffff:127.0.0.1", "0.0.0.0", "169.254.169.254", "224.0.0.1"])
def test_an_agent_that_claims_an_address_of_the_pod_itself_opens_no_way_to_it(host: str) -> None:
    with socket.create_server(("0.0.0.0", 0)) as secret:
        relay = Relay("127.0.0.1", 0, lambda _host: True, loopback=False)
        try:
            assert _ask(relay, host, secret.getsockname()[1]) == FORBIDDEN
        finally:
            relay.close()


def test_on_one_machine_they_are_the_agents_own() -> None:
    with socket.create_server(("127.0.0.2", 0)) as agent:
        port = agent.getsockname()[1]
        relay = Relay("127.0.0.1", 0, lambda host: host == "127.0.0.2", loopback=True)
        try:
            assert _ask(relay, "127.0.0.2", port) == GRANTED
            assert _ask(relay, "127.0.0.1", port) == FORBIDDEN
        finally:
            relay.close()


def test_the_directory_is_reached_by_any_name() -> None:
    with socket.create_server(("127.0.0.1", 0)) as directory:
        port = directory.getsockname()[1]
        relay = Relay("127.0.0.1", 0, lambda _host: False, port, loopback=False)
        try:
            assert _ask(relay, "lab.team.svc", port) == GRANTED
        finally:
            relay.close()
