"""What an agent process needs of its surroundings: the data plane and the way upwards. Two kinds: behind a sidecar, and in process."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Protocol

from ganglion.runtime.control import ControlListener, ControlThread
from ganglion.runtime.plane import Plane
from ganglion.runtime.reactor import Reactor
from ganglion.wire.control import ChannelState, Peer, Report


class Link(Protocol):
    """See the module. Main thread, unless said otherwise."""

    upstream: str
    """Whom the process waits for at its start, for people."""

    def make_control(self, loop: asyncio.AbstractEventLoop, report: Callable[[], Report], listener: ControlListener) -> ControlThread:
        """The control thread, not started."""
        ...

    def make_plane(self, reactor: Reactor) -> Plane:
        """The data plane; the control thread has been started and answers ZAP."""
        ...

    def apply(self, peers: Mapping[str, Peer], channels: Mapping[str, ChannelState]) -> None:
        """The current directory."""
        ...

    def ports(self) -> Mapping[str, int]:
        """Alias → TCP port that this process listens on. Any thread."""
        ...

    def close(self) -> None:
        """Release what the link itself holds; the plane is closed before."""
        ...
