"""Where a control thread's leg upwards leads, and what is heard of it."""

from __future__ import annotations

import functools
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import msgspec

from ganglion.runtime.sockets import CurveKeys
from ganglion.wire.control import AdHocTerms, ChannelState, Command, Ends, Incarnation, Message, Notice, Part, Peer, Refuse, Watch, decode
from ganglion.wire.departures import Departure


@dataclass(frozen=True)
class ControlListener:
    """What the main loop hears. Called in the main loop's thread."""

    on_joined: Callable[[str], None]
    """(epoch) after each accepted join."""
    on_directory: Callable[[Mapping[str, Peer], Mapping[str, ChannelState]], None]
    """(peers by replica, states by channel): always the whole current directory."""
    on_command: Callable[[Command], None]
    """Once per kind: Shutdown, then perhaps Leave. Behind a sidecar also Leave, then Shutdown: the pod's end was told before the domain's."""
    on_fatal: Callable[[Refuse], None]
    """Refused for good: the process should end with exit code 78."""
    on_stay: Callable[[bool], None] = lambda _stay: None
    """While this member is leaving: whether nobody else would take what is sent to it. Again with every beat."""
    on_log_level: Callable[[str], None] = lambda _level: None
    """`spec.logLevel` of the agent is known or has changed; empty: there is none."""
    on_ad_hoc: Callable[[AdHocTerms | None], None] = lambda _terms: None
    """After each accepted join: how programs may make agents of their own; None: they may not."""
    on_departure: Callable[[Departure], None] = lambda _departure: None
    """The end of somebody that is watched; each once."""
    on_ends: Callable[[Ends], None] | None = None
    """Of a sidecar: what the agent process is to be told instead."""
    on_lost: Callable[[], None] = lambda: None
    """The connection went; it is being made again. The directory stays."""


@dataclass(frozen=True)
class NameServerUplink:
    """How a member reaches its name server and who it is.

    Attributes:
        endpoint: `tcp://host:port`; the only name that is ever resolved, and only in the control thread's context.
        server_key: Z85; empty with `security: None`.
        keys: this process's CURVE keys; None with `security: None`.
        data_key: public key that peers shall expect; None: that of `keys`. Empty: to be told later (`set_data_key`).
        token_file: read again for each join: projected tokens are renewed.
        host: IP address that peers connect to.
        shutdown_seconds: bound of a shutdown that is learned from a refusal.
    """

    endpoint: str
    server_key: str
    keys: CurveKeys | None
    agent: str
    replica: str
    incarnation: Incarnation
    host: str
    token_file: Path
    parts: Mapping[str, Part]
    data_key: str | None = None
    shutdown_seconds: float = 60.0


@dataclass(frozen=True)
class SidecarUplink:
    """How an SDK process reaches its sidecar.

    Attributes:
        path: `<run>/control.sock`.
        replica: for the log.
        pid: process id, for people.
        data_key: public CURVE key of an InProcess data plane; empty otherwise.
    """

    path: Path
    replica: str
    pid: int
    data_key: str = ""


class Session(Protocol):
    """One leg upwards. `frames` of the outbox are sent in order as the socket takes them."""

    outbox: deque[bytes]
    wants_new_socket: bool
    up: bool
    """The connection stands."""
    left: bool
    """Goodbye was acknowledged."""

    def connected(self, now: float) -> None: ...

    def disconnected(self, now: float) -> None: ...

    def received(self, message: Message, now: float) -> None: ...

    def tick(self, now: float) -> None: ...

    def next_tick(self, now: float) -> float:
        """Seconds until `tick` is needed."""
        ...

    def say_bye(self, completed: bool, now: float) -> None: ...

    def notice(self, notice: Notice) -> None: ...

    def set_data_key(self, key: str) -> None: ...

    def watch(self, name: str, on: bool) -> None:
        """Any thread."""

    def relay_watch(self, watch: Watch) -> None:
        """Any thread."""


@functools.cache
def software_version() -> str:
    """Version of the installed distribution; empty when it runs from a bare source tree."""
    from importlib import metadata

    try:
        return metadata.version("ganglion")
    except metadata.PackageNotFoundError:
        return ""


def decode_or_none(frame: bytes) -> Message | None:
    """A message of an authenticated peer; None for what this version cannot read."""
    try:
        return decode(frame)
    except msgspec.MsgspecError:
        return None
