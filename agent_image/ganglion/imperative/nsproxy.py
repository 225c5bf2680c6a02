"""The proxy to a name server: who is there, proxies to agents, and the end of all of them."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from typing import Any

from ganglion.imperative import calls
from ganglion.imperative.addresses import SocketAddress
from ganglion.imperative.calls import PeerLost
from ganglion.imperative.errors import CallTimeout
from ganglion.imperative.frames import Record
from ganglion.imperative.host import end_by_force
from ganglion.imperative.locating import POLL_SECONDS, SHORT_SECONDS, locate
from ganglion.imperative.proxy import Proxy

LEAST_SECONDS = 0.5
"""A call is given so much although the time is over: on a busy machine an answer takes a moment."""


class NSProxy:
    """A proxy to a name server. Methods of a derived NameServer are called by their names.

    Args:
        nsaddr: its address; None: the one in the environment.
        timeout: seconds to wait until it answers.
    Raises:
        TimeoutError: it does not.
    """

    def __init__(self, nsaddr: Any = None, timeout: float = 3.0) -> None:
        self._address = locate(nsaddr, timeout)
        self._endpoint = f"tcp://{self._address}"

    def _call(self, method: str, *arguments: Any, **named: Any) -> Any:
        return self._within(None, method, arguments, named)

    def _within(self, seconds: float | None, method: str, arguments: tuple[Any, ...] = (), named: dict[str, Any] | None = None) -> Any:
        # A connection that broke while nobody looked is made anew once: what was never delivered can be said again.
        try:
            return calls.call(self._endpoint, method, arguments, named, timeout=seconds)
        except PeerLost as error:
            if error.sent:
                raise
            return calls.call(self._endpoint, method, arguments, named, timeout=seconds)

    def __getattr__(self, name: str) -> Callable[..., Any]:
        if name.startswith("_"):
            raise AttributeError(name)
        return lambda *arguments, **named: self._call(name, *arguments, **named)

    def __getstate__(self) -> SocketAddress:
        return self._address

    def __setstate__(self, address: SocketAddress) -> None:
        self._address = address
        self._endpoint = f"tcp://{address}"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, NSProxy) and other._address == self._address

    def __hash__(self) -> int:
        return hash(self._address)

    def __repr__(self) -> str:
        return f"NSProxy({self._address})"

    def ping(self) -> str:
        """`pong`."""
        return str(self._call("ping"))

    def agents(self) -> list[str]:
        """Names of the agents that live."""
        found: list[str] = self._call("agents")
        return found

    def lookup(self, name: str) -> Record | None:
        """What the directory knows of an agent; None when it knows none of this name."""
        found: Record | None = self._call("lookup", name)
        return found

    def remove(self, name: str, life: bytes | None = None) -> int:
        """Forget an agent that is gone; how many were forgotten.

        Args:
            name: of the agent. One that lives comes back with its next beat.
            life: forget it only while it is still this one (`Record.life`); None: whichever.
        """
        return int(self._call("remove", name, life))

    def proxy(self, name: str, timeout: float = 3.0) -> Proxy:
        """A proxy to an agent; otherwise as `Proxy`."""
        return Proxy(name, self._address, timeout=timeout)

    def addr(self, agent_alias: str | None = None, address_alias: Any = None) -> Any:
        """The name server's own address, or that of a socket of an agent.

        Args:
            agent_alias: name of the agent; None: the name server's own address.
            address_alias: alias of the socket.
        Raises:
            NamingError: no such agent.
        """
        if agent_alias is None and address_alias is None:
            return self._address
        return self.proxy(str(agent_alias)).addr(address_alias)

    def release(self) -> None:
        """Close this thread's connection; the next call makes another."""
        calls.release(self._endpoint)

    def shutdown_agents(self, timeout: float = 10.0) -> None:
        """End all agents: half of the time in order, then by force.

        Args:
            timeout: seconds.
        Raises:
            TimeoutError: some were still registered then, or the name server did not answer.
        """
        end = time.monotonic() + timeout
        self._until(end, "tell", "shutdown")
        if not self._wait_empty(end - timeout / 2, end):
            return
        self._until(end, "tell", "kill")
        left = self._wait_empty(end - timeout / 4, end)
        for name in left:
            # It did not even hear that: it is stopped, or an extension holds its interpreter. The kernel ends what this process has started.
            record: Record | None = self._until(end, "lookup", name)
            if record is not None:
                end_by_force(record.life)
        left = self._wait_empty(end, end) if left else left
        if left:
            raise TimeoutError(f"Chances are {left} were not shutdown after {timeout} s!")

    def _until(self, end: float, method: str, *arguments: Any) -> Any:
        """A call of a shutdown: a name server that stands still must not hold it up."""
        return self._within(max(LEAST_SECONDS, end - time.monotonic()), method, arguments)

    def _wait_empty(self, deadline: float, end: float) -> list[str]:
        """The agents that are left at the deadline."""
        while True:
            names: list[str] = self._until(end, "agents")
            left = deadline - time.monotonic()
            if not names or left <= 0:
                return names
            time.sleep(min(POLL_SECONDS, left))

    def shutdown(self, timeout: float = 10.0) -> None:
        """`shutdown_agents`, then end the name server itself, and wait until it answers no more.

        Args:
            timeout: seconds for the agents; the name server has two more.
        Raises:
            TimeoutError: some agents were still registered then; the name server stays.
            CommunicationError, CallTimeout: it is gone already, or stands still.
        """
        self.shutdown_agents(timeout)
        end = time.monotonic() + SHORT_SECONDS
        with contextlib.suppress(PeerLost):
            # It may be gone before its answer is.
            self._within(SHORT_SECONDS, "daemon_shutdown")
            # It answers before it ends: whoever asks after this must not find it. One that hangs has been told.
            with contextlib.suppress(CallTimeout):
                while (left := end - time.monotonic()) > 0:
                    self._within(left, "ping")
                    time.sleep(min(POLL_SECONDS, left))
        self.release()
