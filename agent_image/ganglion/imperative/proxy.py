"""Proxies to agents: call them from anywhere that holds the join secret."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Any, Self

from ganglion.imperative import calls
from ganglion.imperative.addresses import SocketAddress
from ganglion.imperative.calls import PeerLost, WrongLife
from ganglion.imperative.errors import CallTimeout, CommunicationError, NamingError
from ganglion.imperative.frames import Record
from ganglion.imperative.futures import Future
from ganglion.imperative.locating import POLL_SECONDS, SHORT_SECONDS, locate
from ganglion.imperative.membership import membership
from ganglion.imperative.settings import config

_LOCAL = "tcp://127.0.0.1:"
_NEVER_SAFE = frozenset({"run", "get_attr", "kill", "safe_call", "concurrent", "is_running", "member"})
_OWN = frozenset({"_name", "_nsaddr", "_safe_default", "_record", "_methods", "_next"})


_NOTHING: tuple[str, float | None] = ("", None)


class _Next(threading.local):
    """What a thread has said for its next call through one proxy: mode, or nothing; seconds."""

    said = _NOTHING


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
        self.__setstate__((name, locate(nsaddr, timeout=3.0), bool(config["SAFE"] if safe is None else safe)))
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
                raise CommunicationError(f"the name server at {self._nsaddr} is gone: {error}") from None
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
                    raise CommunicationError(f"agent {self._name!r}: {error}") from None
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
            try:
                return self._call(name, arguments, named, mode, seconds)
            except Exception as error:  # noqa: BLE001 - raised again, whatever it is
                # What lies below this line is the way to the agent, and of no interest to who called.
                raise error.with_traceback(None) from error.__cause__

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
        except BaseException as error:
            # `oneway` and the like were said for this call, not for the next.
            self._take_said()
            if isinstance(error, Exception):
                raise error.with_traceback(None) from error.__cause__
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


def proxy_of(record: Record, nsaddr: SocketAddress, *, safe: bool | None, methods: Iterable[str] = ()) -> Proxy:
    """A proxy to an agent that is known to run. No method of the class: it would hide a member of this name.

    Args:
        methods: names that are known to be methods; of others the agent is asked, over a connection of their own.
    """
    made = Proxy.__new__(Proxy)
    made.__setstate__((record.name, nsaddr, bool(config["SAFE"] if safe is None else safe)))
    object.__setattr__(made, "_record", record)
    made._methods.update(methods)  # noqa: SLF001 - this is the class's own function
    return made
