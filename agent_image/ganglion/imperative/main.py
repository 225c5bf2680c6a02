"""Entry of the processes of `run_agent` and `run_nameserver`: `main([role, surroundings, payload, key])`, the middle two in base64."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import signal
import socket
import sys
import threading
from typing import Any

from ganglion.imperative import ahead
from ganglion.imperative.errors import format_exception
from ganglion.imperative.life import Life, Spec
from ganglion.imperative.nameserver import NameServerProcess
from ganglion.imperative.values import loads


def _report(path: str, report: dict[str, Any], *, last: bool = False) -> None:
    """Tell the parent.

    Args:
        last: this process ends now; its end must not be seen before the report is.
    """
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as connection:
        # The parent may have gone.
        connection.settimeout(5.0)
        connection.connect(path)
        connection.sendall(json.dumps(report).encode() + b"\n")
        if last:
            # Closed when it has been read.
            connection.recv(1)


def main(argv: list[str]) -> int:
    """Run an agent or a name server until it ends; the exit code."""
    role, surroundings, body, key = argv
    path = ""
    try:
        # The spec's own loading needs the caller's path, so it comes in two parts.
        path = _surround(loads(base64.b64decode(surroundings)))
        payload = base64.b64decode(body)
        if role == ahead.ROLE:
            told = ahead.wait_for_agent(path, key)
            if told is None:
                return 0
            role, (payload, key) = "agent", told
        sys.argv = [f"ganglion {role}"]
        running = _nameserver(payload) if role == "nameserver" else Life(loads(payload), in_process=True)
    except BaseException as error:
        if not path:
            raise
        _report(path, {"key": key, "failed": format_exception(error)}, last=True)
        return 1
    if isinstance(running, NameServerProcess):
        _report(path, {"key": key, "address": str(running.address)})
        try:
            running.serve()
        finally:
            running.close()
        code = 0
    else:
        report = {"key": key, **running.started()}
        code = running.run(lambda: _report(path, report))
    _leave(code)
    return code


def _surround(context: dict[str, Any]) -> str:
    """Give this process the surroundings that its parent asks for; where to report."""
    os.environ.clear()
    os.environ.update(context["environ"])
    sys.path[:] = context["path"]
    with contextlib.suppress(OSError):
        os.chdir(context["cwd"])
    from ganglion.imperative import settings

    settings.config.update(context["config"])
    return str(context["report"])


def _nameserver(payload: bytes) -> NameServerProcess:
    base, host, port = loads(payload)
    running = NameServerProcess(base, host, port)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: running.end.set())
    return running


def _leave(code: int) -> None:
    """End the process. Threads of unsafe calls may still be busy, and children of this process are waited for."""
    from ganglion.imperative import calls
    from ganglion.imperative import host as hosts

    if hosts._host is not None:  # noqa: SLF001 - only when it was made
        hosts.host().at_exit()
    calls.close_all()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    if threading.active_count() > 1:
        os._exit(code)


__all__ = ["Spec", "main"]
