"""`python -m ganglion.imperative.directory`: the directory of a domain's ad-hoc agents, a child of its name server.

Its first line of input says where and with which secret it serves; it answers with its endpoint, or with what is wrong. `shutdown` tells
all agents to end; the end of its input is its own. Nothing that it receives can name code: calls are loaded as plain data.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
import threading

from ganglion.imperative.hosts import tcp_endpoint
from ganglion.imperative.nameserver import NameServer, NameServerProcess
from ganglion.imperative.secret import derive
from ganglion.imperative.trust import loads_data
from ganglion.sdk.errors import NotSupported

MAX_CALL_BYTES = 1 << 20
"""Names are all that it is ever sent."""


class Directory(NameServer):
    """A name server whose life is that of its domain."""

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
    try:
        running = NameServerProcess(
            Directory,
            host.strip("[]"),
            None if port == "*" else int(port),
            keys=derive(asked["secret"].encode()),
            load=loads_data,
            max_call_bytes=MAX_CALL_BYTES,
        )
    except OSError as error:
        print(str(error), flush=True)  # noqa: T201 - to the name server
        return 1
    # Not what it advertises: the name server's own host is how it is found.
    print(tcp_endpoint(host.strip("[]"), running.control.port), flush=True)  # noqa: T201

    def follow() -> None:
        for line in sys.stdin:
            if line.strip() == "shutdown":
                running.tell("shutdown")
        running.end.set()

    threading.Thread(target=follow, name="input", daemon=True).start()
    try:
        running.serve()
    finally:
        running.close()
    return 0


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    # The thread that reads the input may be in the middle of it.
    os._exit(code)
