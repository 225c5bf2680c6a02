"""Proxies: call agents and the name server from anywhere that holds the join secret."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

from ganglion.imperative import calls
from ganglion.imperative.addresses import SocketAddress, address_to_host_port
from ganglion.imperative.calls import PeerLost, WrongLife
from ganglion.imperative.errors import CallTimeout, CommunicationError, NamingError
from ganglion.imperative.frames import Record
from ganglion.imperative.futures import Future
from ganglion.imperative.host import end_by_force
from ganglion.imperative.membership import membership
from ganglion.imperative.settings import config, nameserver_address

POLL_SECONDS = 0.05
SHORT_SECONDS = 2.0
"""Bound of what answers at once when it answers at all."""
LEAST_SECONDS = 0.5
"""A call is given so much although the time is over: on a busy machine an answer takes a moment."""
_LOCAL = "tcp://127.0.0.1:"
_NEVER_SAFE = frozenset({"run", "get_attr", "kill", "safe_call", "concurrent", "is_running", "member"})
_OWN = frozenset({"_name", "_nsaddr", "_safe_default", "_record", "_methods", "_next"})


_NOTHING: tuple[str, float | None] = ("", None)


class _Next(threading.local):
    """What a thread has said for its next call through one proxy: mode, or nothing; seconds."""

    said = _NOTHING


class NSProxy:
    """A proxy to a name server. Methods of a derived NameServer are called by their names.

    Args:
        nsaddr: its address; None: the one in the environment.
        timeout: seconds to wait until it answers.
    Raises:
        TimeoutError: it does not.
    """

    def __init__(self, nsaddr: Any = None, timeout: float = 3.0) -> None:
        host, port = address_to_host_port(nameserver_address(nsaddr))
        if host is None or port is None:
            raise ValueError(f"nsaddr: found {nsaddr!r}; must be host:port")
        self._address = SocketAddress(host, port)
        self._endpoint = f"tcp://{self._address}"
        deadline = time.monotonic() + timeout
        while True:
            try:
                calls.call(self._endpoint, "ping", timeout=max(0.5, timeout))
                return
            except (PeerLost, CallTimeout):
                if time.monotonic() >= deadline:
                    raise TimeoutError(f"Could not locate the name server! (at {self._address}, within {timeout:g} s)") from None
                time.sleep(POLL_SECONDS)

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


class Proxy:
    """A proxy to an agent: its methods are called there, its attributes read and set there.

    Calls are *safe* unless said otherwise: they run in the agent's main loop, between handlers. `proxy.unsafe.method()` runs in another
    thread of the agent at once, `proxy.oneway.method()` too, and nothing is waited for. `proxy.within(3).method()` bounds one call. Threads may
    share a proxy: these words are for the next call of the thread that says them.

    Args:
        name: of the agent.
        nsaddr: of its name server; None: the one in the environment.
        timeout: seconds to wait until it is registered and answers.
        safe: default of calls; None: as configured.
    Raises:
        TimeoutError: the name server does not answer.
        NamingError: it knows no such agent.
        CommunicationError: it does, but the agent does not answer.
    """

    def __init__(self, name: str, nsaddr: Any = None, timeout: float = 3.0, safe: bool | None = None) -> None:
        ns = NSProxy(nameserver_address(nsaddr))
        self.__setstate__((name, ns.addr(), bool(config["SAFE"] if safe is None else safe)))
        deadline = time.monotonic() + timeout
        while True:
            try:
                self._locate()
                self._once("unsafe", "ping", (), {}, max(0.5, timeout))
                return
            except (NamingError, CommunicationError, CallTimeout) as error:
                self._record = None
                if time.monotonic() >= deadline:
                    if isinstance(error, CallTimeout):
                        raise CommunicationError(f"agent {name!r} is registered and does not answer: {error}") from error
                    raise
                time.sleep(POLL_SECONDS)

    # -- state

    def __getstate__(self) -> tuple[str, SocketAddress, bool]:
        return self._name, self._nsaddr, self._safe_default

    def __setstate__(self, state: tuple[str, SocketAddress, bool]) -> None:
        name, nsaddr, safe = state
        values = {
            "_name": name,
            "_nsaddr": nsaddr,
            "_safe_default": safe,
            "_record": None,
            "_methods": set(),
            "_next": _Next(),
        }
        for key, value in values.items():
            object.__setattr__(self, key, value)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Proxy) and (other._name, other._nsaddr) == (self._name, self._nsaddr)

    def __hash__(self) -> int:
        return hash((self._name, self._nsaddr))

    def __repr__(self) -> str:
        return f"Proxy({self._name!r}, {self._nsaddr})"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.release()

    def _locate(self) -> Record:
        record: Record | None = self._record
        if record is None:
            try:
                record = calls.call(f"tcp://{self._nsaddr}", "lookup", (self._name,), timeout=SHORT_SECONDS)
            except PeerLost as error:
                raise CommunicationError(f"the name server at {self._nsaddr} is gone: {error}") from error
            if record is None:
                raise NamingError(f"unknown name: {self._name}")
            mine = membership()
            if mine is not None and record.control.startswith(_LOCAL) and mine.host not in _LOCAL:
                raise CommunicationError(
                    f"agent {self._name!r} runs outside of the cluster: it can call and connect to agents in pods, they cannot reach it"
                )
            object.__setattr__(self, "_record", record)
        return record

    # -- calls

    def _once(self, mode: str, method: str, arguments: tuple[Any, ...], named: dict[str, Any], seconds: float | None) -> Any:
        record = self._locate()
        endpoint = record.safe if mode == "safe" else record.control
        if mode == "oneway":
            calls.cast(endpoint, method, arguments, named, life=record.life)
            return None
        return calls.call(endpoint, method, arguments, named, life=record.life, timeout=seconds)

    def _call(self, method: str, arguments: tuple[Any, ...], named: dict[str, Any], mode: str, seconds: float | None) -> Any:
        for last in (False, True):
            try:
                return self._once(mode, method, arguments, named, seconds)
            except (PeerLost, WrongLife) as error:
                # The agent was restarted or has moved: the name server knows. Said again only when it was certainly not executed.
                self._record = None
                if last or (isinstance(error, PeerLost) and error.sent):
                    raise CommunicationError(f"agent {self._name!r}: {error}") from error
        raise AssertionError("the loop above returns or raises")

    def _submit(self, method: str, arguments: tuple[Any, ...], named: dict[str, Any], mode: str, seconds: float | None) -> Future:
        def once(again: Callable[[], Future] | None) -> Future:
            record = self._locate()
            endpoint = record.safe if mode == "safe" else record.control
            return calls.submit(endpoint, method, arguments, named, life=record.life, timeout=seconds, again=again)

        def again() -> Future:
            self._record = None
            return once(None)

        return once(again)

    def _take_said(self) -> tuple[str, float | None]:
        """What this thread has said for its next call, which this is."""
        said: tuple[str, float | None] = self._next.said
        if said is not _NOTHING:
            self._next.said = _NOTHING
        return said

    def _say(self, mode: str | None = None, seconds: float | None = None) -> Self:
        before_mode, before_seconds = self._next.said
        self._next.said = before_mode if mode is None else mode, before_seconds if seconds is None else seconds
        return self

    def _method(self, name: str) -> Callable[..., Any]:
        # What was said before the method was taken is for its first call, in whichever thread that is.
        said = self._take_said()
        kept = [said] if said is not _NOTHING else []
        never_safe = name in _NEVER_SAFE or name[0] == "_"

        def call(*arguments: Any, **named: Any) -> Any:
            try:
                mode, seconds = kept.pop() if kept else self._take_said()
            except IndexError:
                # Another thread was quicker.
                mode, seconds = self._take_said()
            if not mode or (mode == "safe" and never_safe):
                mode = "safe" if self._safe_default and not never_safe else "unsafe"
            return self._call(name, arguments, named, mode, seconds)

        call.__name__ = name
        return call

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(f"{name}: names with a leading underscore are the agent's own")
        if name in self._methods:
            return self._method(name)
        # It may be an attribute, and members are added at run time: the agent knows.
        try:
            is_method, value = self._call("member", (name,), {}, "unsafe", None)
        except BaseException:
            # `oneway` and the like were said for this call, not for the next.
            self._take_said()
            raise
        if not is_method:
            self._take_said()
            return value
        self._methods.add(name)
        return self._method(name)

    def __setattr__(self, name: str, value: Any) -> None:
        if name in _OWN:
            object.__setattr__(self, name, value)
        else:
            self.set_attr(**{name: value})

    @property
    def safe(self) -> Self:
        """This thread's next call runs in the agent's main loop."""
        return self._say("safe")

    @property
    def unsafe(self) -> Self:
        """This thread's next call runs at once, in another thread of the agent."""
        return self._say("unsafe")

    @property
    def oneway(self) -> Self:
        """This thread's next call is not waited for; what it returns or raises is lost."""
        return self._say("oneway")

    @property
    def future(self) -> Futures:
        """`proxy.future.method(...)` returns at once, with a `Future` of the result. `proxy.unsafe.future` and `proxy.within(3).future`: as calls."""
        mode, seconds = self._take_said()
        return Futures(self, mode, seconds)

    def within(self, seconds: float) -> Self:
        """Bound this thread's next call; otherwise `config["CALL_TIMEOUT"]` holds.

        Args:
            seconds: then the call raises CallTimeout. The agent may still execute it.
        """
        return self._say(seconds=seconds)

    # -- without asking what they are

    def set_attr(self, **attributes: Any) -> Any:
        """Set attributes of the agent.

        Raises:
            EncodeError: a value cannot travel.
        """
        return self._method("set_attr")(**attributes)

    def get_attr(self, name: str) -> Any:
        """An attribute's value, also of a stopped agent.

        Raises:
            AttributeError: the agent has none of this name.
            EncodeError: the value cannot travel.
        """
        return self._method("get_attr")(name)

    def set_method(self, *functions: Callable[..., Any], **named: Callable[..., Any]) -> Any:
        """Give the agent methods, under their own or the given names; every proxy sees them. Returns the last name.

        Raises:
            SignatureError, CodecForbidden: the agent takes no code from here.
        """
        return self._method("set_method")(*functions, **named)

    def run(self) -> None:
        """Does nothing: run_agent has done it."""

    def ping(self) -> str:
        """`pong`."""
        return str(self._method("ping")())

    def is_running(self) -> bool:
        """Whether the main loop runs."""
        return bool(self._method("is_running")())

    def kill(self) -> None:
        """End the agent now, whatever it does; `on_exit` is not called.

        Raises:
            NamingError, CommunicationError: it is gone already.
        """
        self._take_said()
        self._call("kill", (), {}, "unsafe", None)

    def wait_for_running(self, timeout: float = 3.0) -> Self:
        """Wait until the main loop runs; negative: for ever.

        Raises:
            TimeoutError: it does not.
        """
        deadline = time.monotonic() + timeout
        while not self.is_running():
            if timeout >= 0 and time.monotonic() >= deadline:
                raise TimeoutError("Timed out while waiting for the agent to be running")
            time.sleep(0.01)
        return self

    def nsaddr(self) -> SocketAddress:
        """Address of its name server, a SocketAddress."""
        address: SocketAddress = self._nsaddr
        return address

    def release(self) -> None:
        """Close this thread's connections to the agent; the next call makes others."""
        record = self._record
        if record is not None:
            calls.release(record.safe)
            calls.release(record.control)


class Futures:
    """What `proxy.future` is: the agent's methods, called without waiting. May be kept; attributes are read and set with the proxy itself."""

    __slots__ = ("_mode", "_proxy", "_seconds")

    def __init__(self, proxy: Proxy, mode: str, seconds: float | None) -> None:
        if mode == "oneway":
            raise ValueError("oneway.future: a oneway call has no result; use one of them")
        self._proxy = proxy
        self._mode = mode or ("safe" if proxy._safe_default else "unsafe")  # noqa: SLF001 - the two halves of one object
        self._seconds = seconds

    def __getattr__(self, name: str) -> Callable[..., Future]:
        if name.startswith("_"):
            raise AttributeError(f"{name}: names with a leading underscore are the agent's own")
        mode = "unsafe" if name in _NEVER_SAFE else self._mode

        def call(*arguments: Any, **named: Any) -> Future:
            return self._proxy._submit(name, arguments, named, mode, self._seconds)  # noqa: SLF001

        return call


def proxy_of(record: Record, nsaddr: SocketAddress, *, safe: bool | None) -> Proxy:
    """A proxy to an agent that is known to run. No method of the class: it would hide a member of this name."""
    made = Proxy.__new__(Proxy)
    made.__setstate__((record.name, nsaddr, bool(config["SAFE"] if safe is None else safe)))
    object.__setattr__(made, "_record", record)
    return made
