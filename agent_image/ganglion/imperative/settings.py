"""Defaults of a process, from its environment. `config` may be changed by a program; it holds for what is made afterwards."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ganglion.imperative.membership import VARIABLE, membership
from ganglion.local.folders import run_base

NAMESERVER_VARIABLES = ("GANGLION_NAMESERVER_ADDRESS", "OSBRAIN_NAMESERVER_ADDRESS")
"""Where `run_nameserver` leaves the address, for processes and calls that name none."""

MAX_BASE_BYTES = 48
"""An ipc path may have 100 bytes: this folder's name and a socket's of 32 are to fit."""


def ipc_directory() -> Path:
    """Folder of ipc sockets: only this user may enter it, which is what authenticates their peers.

    Raises:
        PermissionError: somebody else made it.
    """
    own = os.environ.get("XDG_RUNTIME_DIR", "")
    base = Path(own) if own.startswith("/") and len(os.fsencode(own)) <= MAX_BASE_BYTES and os.access(own, os.W_OK) else run_base()
    path = base / f"ganglion-{os.getuid()}"
    path.mkdir(mode=0o700, exist_ok=True)
    found = path.lstat()
    if found.st_uid != os.getuid() or found.st_mode & 0o077:
        raise PermissionError(f"{path}: found owner {found.st_uid} and mode {found.st_mode & 0o777:o}; must be this user's, mode 700")
    return path


def read(environ: Mapping[str, str]) -> dict[str, Any]:
    """The defaults that an environment asks for.

    Keys: SAFE (bool), BACKEND, SERIALIZER, TRANSPORT, LINGER (seconds; negative: for ever), IPC_DIR, CALL_TIMEOUT (seconds), MAX_MESSAGE_BYTES.

    Raises:
        ValueError: a variable that is no number, or neither true nor false.
    """

    def text(name: str, default: str) -> str:
        return environ.get(f"GANGLION_DEFAULT_{name}") or environ.get(f"OSBRAIN_DEFAULT_{name}") or default

    def number(name: str, default: str) -> float:
        value = text(name, default)
        try:
            return float(value)
        except ValueError:
            raise ValueError(f"GANGLION_DEFAULT_{name}: found {value!r}, must be a number") from None

    def flag(name: str, default: str) -> bool:
        value = text(name, default).lower()
        if value not in ("true", "false", "1", "0"):
            raise ValueError(f"GANGLION_DEFAULT_{name}: found {value!r}, must be true or false")
        return value in ("true", "1")

    return {
        "SAFE": flag("SAFE", "true"),
        "BACKEND": text("BACKEND", "process"),
        "SERIALIZER": text("SERIALIZER", "pickle"),
        # In a pod the others are somewhere else.
        "TRANSPORT": text("TRANSPORT", "tcp" if environ.get(VARIABLE) else "ipc"),
        "LINGER": number("LINGER", "1"),
        "CALL_TIMEOUT": number("CALL_TIMEOUT", "60"),
        "MAX_MESSAGE_BYTES": int(number("MAX_MESSAGE_BYTES", str(256 * 1024 * 1024))),
        "IPC_DIR": ipc_directory(),
    }


config: dict[str, Any] = read(os.environ)
"""What holds when a call says nothing else."""


def nameserver_address(given: Any) -> Any:
    """The address that was given, else the one in the environment, else that of the domain which this process belongs to.

    Raises:
        ValueError: none of them.
        AdHocForbidden, CommunicationError: see `membership`.
    """
    if given:
        return given
    for variable in NAMESERVER_VARIABLES:
        found = os.environ.get(variable)
        if found:
            return found
    mine = membership()
    if mine is not None:
        return mine.nameserver
    raise ValueError(f"nsaddr: none given, and {NAMESERVER_VARIABLES[0]} is not set; call run_nameserver() first or pass nsaddr")


def default_host() -> str:
    """Where sockets listen that name no host: the pod's address in a domain, else 127.0.0.1."""
    mine = membership()
    return mine.host if mine is not None else "127.0.0.1"


def linger_ms(seconds: float | None) -> int:
    """ZeroMQ's linger (milliseconds, -1: for ever) from seconds, or from the configuration when None."""
    value = float(config["LINGER"] if seconds is None else seconds)
    return -1 if value < 0 else int(value * 1000)
