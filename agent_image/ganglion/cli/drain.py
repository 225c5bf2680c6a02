"""`ganglion drain`: the preStop hook of a sidecar. Imports no more than the socket and the messages: it runs when a pod is short of time."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import msgspec
import zmq

from ganglion.runtime.sockets import ipc_endpoint, make_context, make_ipc_socket
from ganglion.wire.control import Drain, Drained, decode, encode

DEFAULT_SECONDS = 20.0
"""For a call by hand; a pod's hook says how long its pod has."""
_MARGIN_SECONDS = 1.0
"""The sidecar answers at its deadline at the latest; its answer needs a moment."""


def main(argv: Sequence[str] | None = None) -> int:
    """Ask the sidecar of `$GANGLION_RUN_DIR` to drain, and wait for it.

    Returns:
        0 at rest, 1 not at rest in time or nobody there, 78 no run directory.
    """
    parser = argparse.ArgumentParser(
        prog="ganglion drain",
        description="Ask the sidecar to take no more work and to hand back what its agent has not begun; wait until all is at rest.",
    )
    parser.add_argument("--timeout", type=float, default=DEFAULT_SECONDS, metavar="SECONDS", help="bound (default: %(default)s)")
    seconds = parser.parse_args(argv).timeout
    run = os.environ.get("GANGLION_RUN_DIR")
    if not run:
        print("GANGLION_RUN_DIR: missing; it names the directory with control.sock", file=sys.stderr)  # noqa: T201
        return 78
    outcome = ask(Path(run) / "control.sock", seconds)
    if outcome is None:
        print(f"{run}/control.sock: no answer within {seconds:g} s", file=sys.stderr)  # noqa: T201
    return 0 if outcome else 1


def ask(path: Path, seconds: float) -> bool | None:
    """Whether the sidecar came to rest; None: it did not answer.

    Args:
        seconds: bound that the sidecar is given.
    """
    context = make_context()
    socket = make_ipc_socket(context, zmq.DEALER)
    try:
        socket.connect(ipc_endpoint(path))
        socket.send(encode(Drain(deadline_seconds=seconds)))
        while socket.poll(int((seconds + _MARGIN_SECONDS) * 1000)):
            try:
                answer = decode(socket.recv())
            except msgspec.MsgspecError:
                continue
            if isinstance(answer, Drained):
                return answer.at_rest
    finally:
        socket.close(0)
        context.term()
    return None
