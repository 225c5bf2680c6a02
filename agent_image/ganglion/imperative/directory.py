"""`python -m ganglion.imperative.directory`: the directory of a domain's ad-hoc agents, a child of its name server.

Its first line of input says where and with which secret it serves; it answers with its endpoint, or with what is wrong. `shutdown` tells
all agents to end; the end of its input is its own. The other lines, both ways, are about copies of templates (`ganglion.imperative.copies`,
`ganglion.nameserver.desk`). Nothing that it receives can name code: calls are loaded as plain data.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
import threading

from ganglion.imperative.addresses import address_to_host_port
from ganglion.imperative.copies import LOOK_SECONDS, CopyRequests
from ganglion.imperative.hosts import tcp_endpoint
from ganglion.imperative.nameserver import NameServer, NameServerProcess
from ganglion.imperative.plain import loads_flat_call
from ganglion.imperative.relay import Relay
from ganglion.imperative.secret import derive
from ganglion.sdk.errors import NotSupported

MAX_CALL_BYTES = 1 << 20
"""Names are all that it is ever sent."""


class Directory(NameServer):
    """A name server whose life is that of its domain.

    Args:
        requests: for copies of templates.
    """

    def __init__(self, requests: CopyRequests) -> None:
        self._requests = requests

    def ask_copy(self, agent: str, template: str, key: bytes, body: bytes) -> tuple[str, str]:
        """See `CopyRequests.ask`."""
        return self._requests.ask(agent, template, key, body)

    def forget_copy(self, agent: str, template: str, key: bytes) -> None:
        """See `CopyRequests.forget`."""
        self._requests.forget(agent, template, key)

    def done_copy(self, agent: str, template: str, key: bytes) -> None:
        """See `CopyRequests.done`."""
        self._requests.done(agent, template, key)

    def fetch_copy(self, copy: str) -> tuple[str, bytes, bytes] | None:
        """See `CopyRequests.fetch`."""
        return self._requests.fetch(copy)

    def fail_copy(self, copy: str, text: str) -> None:
        """See `CopyRequests.fail`."""
        self._requests.fail(copy, text)

    def daemon_shutdown(self) -> None:
        """It ends with its NameServer object.

        Raises:
            NotSupported: always; the agents have been ended before, if `NSProxy.shutdown` called this.
        """
        raise NotSupported("shutdown: this name server is the domain's and ends when its NameServer is deleted; use shutdown_agents()")


def main() -> int:
    """Serve until standard input ends; the exit code."""
    logging.basicConfig(level=os.environ.get("GANGLION_LOG_LEVEL", "WARNING"), stream=sys.stderr)
    # It ends by its input: the name server decides when, also at the terminal's Ctrl-C.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
    asked = json.loads(sys.stdin.readline())
    host, _, port = asked["address"].removeprefix("tcp://").rpartition(":")
    saying = threading.Lock()

    def say(line: str) -> None:
        with saying:
            print(line, flush=True)  # noqa: T201 - to the name server

    requests = CopyRequests(say)
    try:
        running = NameServerProcess(
            lambda: Directory(requests),
            host.strip("[]"),
            None if port == "*" else int(port),
            keys=derive(asked["secret"].encode()),
            load=loads_flat_call,
            max_call_bytes=MAX_CALL_BYTES,
        )
    except OSError as error:
        say(str(error))
        return 1
    # Not what it advertises: the name server's own host is how it is found.
    say(tcp_endpoint(host.strip("[]"), running.control.port))
    relay = _relay(asked.get("relay", ""), running, loopback=host.startswith("127."))

    def follow() -> None:
        try:
            for line in sys.stdin:
                if line.strip() == "shutdown":
                    running.tell("shutdown")
                else:
                    requests.hear(line)
        finally:
            running.end.set()

    def living() -> list[str]:
        with running.lock:
            return list(running.leases)

    def look() -> None:
        # Not in the thread that serves: a name server that stands still reads nothing.
        while not running.end.wait(LOOK_SECONDS):
            requests.look(living)

    for work in (follow, look):
        threading.Thread(target=work, name=work.__name__, daemon=True).start()
    try:
        running.serve()
    finally:
        if relay is not None:
            relay.close()
        running.close()
    return 0


def _relay(address: str, running: NameServerProcess, *, loopback: bool) -> Relay | None:
    """The way to the agents for programs outside of the cluster, where it is wanted."""
    host, port = address_to_host_port(address or None)
    if host is None:
        return None

    def permits(wanted: str) -> bool:
        with running.lock:
            records = [running.leases.get(name) for name in running.leases]
        return any(wanted == address_to_host_port(record.control.removeprefix("tcp://"))[0] for record in records if record is not None)

    return Relay(host, port or 0, permits, running.control.port, loopback=loopback)


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    # The thread that reads the input may be in the middle of it.
    os._exit(code)
