"""What the commands share: errors with exit codes, and the way to a running domain."""

from __future__ import annotations

import select
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import click

from ganglion.cli.errors import EXIT_UNAVAILABLE, Failure

domain_option = click.option("--domain", "-d", metavar="NAME", help="Name of the NameServer; not needed while only one domain runs.")


def wait_until(condition: Callable[[], bool], seconds: float, *, interval: float = 0.02) -> bool:
    """Look until `condition` holds or the time is over; whether it held. For what no event tells of: another process's lock, a log file.

    Args:
        seconds: bound of the wait.
        interval: seconds between two looks.
    """
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() >= deadline:
            return False
        select.select([], [], [], interval)
    return True


def running(domain: str | None) -> tuple[str, Path]:
    """(domain, run directory) of the domain that is meant.

    Raises:
        Failure: none, or several, or its supervisor is only starting.
    """
    from ganglion.local import state

    try:
        name = state.choose_running(domain)
    except state.DomainNotRunningError as error:
        raise Failure(str(error), EXIT_UNAVAILABLE) from error
    record = state.supervisor_record(name)
    if record is None:
        raise Failure(f"domain {name!r} is starting or ending; try again in a moment", EXIT_UNAVAILABLE)
    return name, Path(str(record["run"]))


def ask(domain: str | None, command: str, arguments: Mapping[str, Any] | None = None, *, timeout: float = 30.0) -> dict[str, Any]:
    """Ask the supervisor of a running domain.

    Args:
        timeout: seconds.
    Raises:
        Failure: nothing runs, or the supervisor refused.
    """
    from ganglion.local import protocol

    _, run = running(domain)
    try:
        return protocol.call(run, command, arguments, timeout=timeout)
    except protocol.CommandError as error:
        raise Failure(str(error)) from error
