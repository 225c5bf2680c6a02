"""The called side: a ROUTER that takes calls and gives replies. It belongs to one thread."""

from __future__ import annotations

import inspect
import logging
import threading
from collections import deque
from collections.abc import Callable
from typing import Any

import zmq

from ganglion.codecs.errors import DecodeError
from ganglion.imperative import frames
from ganglion.imperative.failures import encode_error
from ganglion.imperative.sockets import plain_send
from ganglion.imperative.trust import call_loads, peer_dumps
from ganglion.runtime.sockets import Socket

log = logging.getLogger(__name__)

_NOBLOCK, _MORE = int(zmq.NOBLOCK), int(zmq.NOBLOCK | zmq.SNDMORE)
_EVENTS, _POLLIN, _RCVMORE = int(zmq.EVENTS), int(zmq.POLLIN), int(zmq.RCVMORE)
"""Plain integers: an enum's member costs as much as the call."""
BUDGET = 100
"""Calls taken in one turn."""
MAX_THREADS = 16
"""Unsafe calls that run at once; more wait."""
MAX_WAITING = 4096


class Call:
    """A call that arrived: whose it is, and what it asks for."""

    __slots__ = ("arguments", "method", "named", "number", "oneway", "session")

    def __init__(self, session: bytes, number: int, oneway: bool, method: str, arguments: tuple[Any, ...], named: dict[str, Any]) -> None:
        self.session = session
        self.number = number
        self.oneway = oneway
        self.method = method
        self.arguments = arguments
        self.named = named


class CallPort:
    """See the module.

    Args:
        socket: a bound ROUTER.
        life: the life that answers here; a call that is meant for another is refused.
        on_call: gets each call; replies with `reply`, `fail` or not at all.
        on_other: gets (session, kind, flags, life, id, rest of the frames) of what is no call.
        load: loads the body of a call; None: as this process trusts its peers.
    """

    def __init__(
        self,
        socket: Socket,
        life: bytes,
        on_call: Callable[[Call], None],
        on_other: Callable[[bytes, int, int, bytes, int, list[bytes]], None] | None = None,
        load: Callable[[bytes], Any] | None = None,
    ) -> None:
        self.socket = socket
        self._load = load or call_loads(life)
        self._send = plain_send(socket)
        self.malformed = 0
        self._life = life
        self._on_call = on_call
        self._on_other = on_other

    def drain(self) -> bool:
        """Take what has arrived, within the budget. Whether there may be more."""
        recv, get = self.socket.recv, self.socket.getsockopt
        for taken in range(BUDGET):
            # One call alone is the rule, and to ask is cheaper than a receive in vain; where there are two there are many.
            if taken == 1 and not int(get(_EVENTS)) & _POLLIN:
                return False
            try:
                parts = [recv(_NOBLOCK), recv()]
            except zmq.Again:
                return False
            while get(_RCVMORE):
                parts.append(recv())
            self._take(parts)
        return True

    def _take(self, parts: list[bytes]) -> None:
        try:
            session, head, *rest = parts
            kind, flags, number, life = frames.read_header(head)
        except ValueError as error:
            self.malformed += 1
            log.warning("a call was malformed: %s", error)
            return
        if kind != frames.CALL:
            if self._on_other is not None:
                self._on_other(session, kind, flags, life, number, rest)
            return
        if life not in (frames.NO_LIFE, self._life):
            self._answer(session, number, frames.WRONG_LIFE, b"")
            return
        try:
            (body,) = rest
            call = Call(session, number, bool(flags & frames.ONEWAY), *_checked(self._load(body)))
        except Exception as error:  # noqa: BLE001 - what cannot be loaded here is the caller's to know
            self._answer(session, number, frames.FAILED, encode_error(error))
            return
        self._on_call(call)

    def reply(self, call: Call, value: Any) -> None:
        """The call's result."""
        if call.oneway:
            return
        self.answer(call, *encode_result(value))

    def fail(self, call: Call, error: BaseException, *, safe: bool) -> None:
        """The call raised."""
        if not call.oneway:
            self.answer(call, frames.FAILED, encode_error(error, (call.method, call.arguments, call.named) if safe else None))

    def answer(self, call: Call, flags: int, body: bytes) -> None:
        """A reply that is encoded already."""
        if not call.oneway:
            self._answer(call.session, call.number, flags, body)

    def _answer(self, session: bytes, number: int, flags: int, body: bytes) -> None:
        self.send(session, frames.header(frames.REPLY, number, self._life, flags), body)

    def send(self, session: bytes, *parts: bytes) -> bool:
        """Frames to one connection; False when it is gone or takes nothing."""
        try:
            send = self._send
            send(session, _MORE)
            for part in parts[:-1]:
                send(part, _MORE)
            send(parts[-1], _NOBLOCK)
        except zmq.ZMQError as error:
            log.debug("an answer was not taken: %s", error)
            return False
        return True

    def close(self) -> None:
        """Idempotent."""
        self.socket.close(200)


def _checked(loaded: Any) -> tuple[str, tuple[Any, ...], dict[str, Any]]:
    """(method, args, kwargs) of what was loaded."""
    method, arguments, named = loaded
    # Exactly: to make these of something else a peer's value might be shown, counted through or hashed for ever.
    if type(method) is not str or type(arguments) is not tuple or type(named) is not dict:
        raise DecodeError("call", "found something else than the name of a method, a tuple and a dict")
    if method[:1] == "_":
        raise AttributeError(f"{method}: names with a leading underscore are the agent's own")
    return method, arguments, named


def encode_result(value: Any) -> tuple[int, bytes]:
    """(flags, body) of a reply with a result; a result that cannot travel is an error of the call."""
    try:
        return 0, peer_dumps()(value)
    except Exception as error:  # noqa: BLE001 - the value's own code
        return frames.FAILED, encode_error(error)


def execute(target: object, call: Call) -> tuple[int, bytes]:
    """Call a method in this thread: (flags, body) of the reply."""
    try:
        value = getattr(target, call.method)(*call.arguments, **call.named)
    except Exception as error:  # noqa: BLE001 - the method's errors are the caller's
        return frames.FAILED, encode_error(error)
    if inspect.iscoroutine(value):
        value.close()
        return frames.FAILED, encode_error(TypeError(f"{call.method}() is async; call it safely: it runs in the agent's loop"))
    return encode_result(value)


class Pool:
    """Threads for calls that must not wait for the main loop. They are daemons: a call that never ends does not hold up the process."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._jobs: deque[Callable[[], None]] = deque()
        self._changed = threading.Condition()
        self._threads: list[threading.Thread] = []
        self._idle = 0
        self._closed = False

    def run(self, job: Callable[[], None]) -> bool:
        """Run a job in some thread; False when too many wait.

        After `close` it is dropped like those that wait then: its caller hears that the connection ends.
        """
        with self._changed:
            if self._closed:
                return True
            if len(self._jobs) >= MAX_WAITING:
                return False
            self._jobs.append(job)
            if self._idle >= len(self._jobs):
                self._changed.notify()
            elif len(self._threads) < MAX_THREADS:
                thread = threading.Thread(target=self._work, name=f"{self._name}-calls", daemon=True)
                self._threads.append(thread)
                thread.start()
            return True

    def _work(self) -> None:
        while True:
            with self._changed:
                self._idle += 1
                while not self._jobs and not self._closed:
                    self._changed.wait()
                self._idle -= 1
                if not self._jobs:
                    return
                job = self._jobs.popleft()
            try:
                job()
            except Exception:
                log.exception("a call's own handling failed")
            finally:
                # What it refers to must not live on in a waiting thread.
                del job

    def close(self, seconds: float) -> None:
        """End the threads that are idle now; wait for the others at most so long."""
        with self._changed:
            self._closed = True
            self._jobs.clear()
            self._changed.notify_all()
        for thread in self._threads:
            if thread is not threading.current_thread():
                thread.join(seconds)
