"""libzmq's own proxy in a thread, rewired while it runs.

The proxy runs in C without the interpreter lock. To change its connections it is ended over its control socket, the change is made in
the same thread (a socket is never used by two), and it is entered again: what is queued in the sockets stays there, so nothing is lost.

Two properties of libzmq 4.3.5's proxy need care when the backend can block (PUSH; an XPUB never does):

- Input is ready and the backend is full: it polls without pause and burns a core. `tend()` sees that the thread is never at rest and tries
  forwarding in Python, which waits for the backend; if messages flow there, the load is real and the proxy gets it back.
- Inside a burst it sends blocking and does not look at its control socket. `tend()` then lends it a way out: an inproc socket that takes
  the rest of the burst, whose messages are forwarded first after the rewiring.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import zmq

from ganglion.runtime.connections import Change

log = logging.getLogger(__name__)

Socket = zmq.Socket[bytes]

_BURST = 100
"""Messages forwarded in Python between two looks at the control socket."""
_TRIAL_SECONDS = 0.25
"""Length of the window in which forwarding in Python is judged."""
_BUSY = 0.4
"""Share of the time above which a C proxy that is never at rest may be polling in vain."""
_FLOWING = 1250
"""Messages forwarded in one window that prove a real load: it goes back to the C proxy."""
_PATIENCE = (1.0, 64.0)
"""First and longest time in seconds between two trials; doubled by every trial that gained nothing."""
_STUCK_SECONDS = 0.1
"""A proxy that has not obeyed for this long sits in a blocking send."""


@dataclass(slots=True)
class ProxyStats:
    """What a proxy can count; messages are not among it, since they never leave C.

    Attributes:
        rewirings: times that it was left and entered again.
        stalls: times that forwarding in Python took over from a proxy that polled in vain.
        reliefs: times that a blocked burst needed a way out.
        errors: errors that ended the proxy without being asked to.
    """

    rewirings: int = 0
    stalls: int = 0
    reliefs: int = 0
    errors: int = 0


def rewire(socket: Socket, change: Change, *, curve: bool) -> None:
    """Disconnect and connect; must run in the thread that uses `socket`.

    Args:
        curve: set each peer's key before its connect (libzmq copies the options of a connection when it is made).
    """
    for where in {peer.endpoint for peer in change.disconnect}:
        with suppress(zmq.ZMQError):  # ENOENT: libzmq gave the connection up by itself
            socket.disconnect(where)
    for peer in change.connect:
        try:
            if curve:
                socket.curve_serverkey = peer.key.encode()
            socket.connect(peer.endpoint)
        except zmq.ContextTerminated:
            raise
        except zmq.ZMQError as error:
            # A peer says itself what its key and port are: the others must not suffer.
            log.warning("cannot connect to %s at %s: %s", peer.link, peer.endpoint, error)


class SteerableProxy:
    """Forwards between two sockets in a thread of its own; all methods are for one owner thread.

    Args:
        context: of the two sockets.
        frontend: PULL or XSUB, bound or connected by the caller; belongs to the proxy from `start()` on.
        backend: PUSH or XPUB; likewise.
        name: for the thread and the log.
        capture: PUB socket that gets a copy of everything; costs nothing while nobody subscribes.
    """

    def __init__(self, context: zmq.Context[Any], frontend: Socket, backend: Socket, *, name: str, capture: Socket | None = None) -> None:
        self.name = name
        self.stats = ProxyStats()
        self._context = context
        self._frontend, self._backend, self._capture = frontend, backend, capture
        self._blocks = backend.type == zmq.PUSH
        self._relief_at = f"inproc://proxy-relief-{id(self)}"
        self._control = context.socket(zmq.PAIR)
        self._steering = context.socket(zmq.PAIR)
        for end in (self._control, self._steering):
            end.linger = 0
        self._control.bind(f"inproc://proxy-control-{id(self)}")
        self._steering.connect(f"inproc://proxy-control-{id(self)}")
        if self._blocks:
            backend.bind(self._relief_at)
        self._actions: deque[Callable[[], None]] = deque()
        self._reliefs: deque[Socket] = deque()
        self._held: deque[list[bytes]] = deque()
        self._by_hand = False
        self._in_c_since: float | None = None
        self._asked_at: float | None = None
        self._patience = _PATIENCE[0]
        self._cpu = (0.0, 0.0)
        self._stop_drain: float | None = None
        self._closed = False
        self._thread = threading.Thread(target=self._run, name=f"proxy-{name}", daemon=True)

    def start(self) -> None:
        """Start forwarding. The sockets belong to the proxy's thread from now on."""
        self._thread.start()

    @property
    def alive(self) -> bool:
        """Whether the thread runs."""
        return self._thread.is_alive()

    def steer(self, action: Callable[[], None]) -> None:
        """Run `action` in the proxy's thread while nothing is forwarded; it may connect, disconnect and send on the sockets.

        Returns at once. An exception is logged and counted; the proxy goes on.
        """
        self._actions.append(action)
        self._interrupt()

    def rewire(self, socket: Socket, change: Change, *, curve: bool) -> None:
        """Apply `change` to `socket`, one of the two."""
        if change:
            self.steer(lambda: rewire(socket, change, curve=curve))

    def tend(self) -> None:
        """Look after the thread; call it several times a second."""
        now = time.monotonic()
        if not self._blocks or not self._thread.is_alive():
            return
        if self._asked_at is not None and now - self._asked_at > _STUCK_SECONDS:
            self._relieve()
            self._asked_at = now
        clock = self._runnable()
        since, cpu = self._cpu
        entered = self._in_c_since
        if entered is None or entered > since:
            self._cpu = (now, clock)
        elif now - since >= self._patience:
            self._cpu = (now, clock)
            if clock - cpu > _BUSY * (now - since):
                self.steer(self._take_over)

    def ask_to_stop(self, drain: float) -> None:
        """Begin what `stop` waits for: forward what has arrived for at most `drain` seconds, then close the sockets."""
        if self._stop_drain is None:
            self._stop_drain = drain
            self._interrupt()

    def stop(self, *, drain: float = 0.0, timeout: float = 5.0) -> bool:
        """Stop and close all sockets.

        Args:
            drain: seconds to go on forwarding at most, until the frontend is empty.
            timeout: seconds to wait for the thread beyond `drain`.
        Returns:
            False if the thread did not end in time: then its sockets stay open until the context is destroyed.
        """
        if self._closed:
            return True
        if self._thread.ident is None:
            self._close_all()
        else:
            self.ask_to_stop(drain)
            deadline = time.monotonic() + (self._stop_drain or 0.0) + timeout
            while self._thread.is_alive() and time.monotonic() < deadline:
                self._thread.join(_STUCK_SECONDS)
                self.tend()
        if self._thread.is_alive():
            return False
        self._steering.close()
        self._closed = True
        return True

    # owner's thread, inside

    def _interrupt(self) -> None:
        if self._asked_at is None:
            self._asked_at = time.monotonic()
        with suppress(zmq.ZMQError):  # full: it has been told often enough; ended: nobody is there to be told
            self._steering.send(b"TERMINATE", zmq.NOBLOCK)

    def _relieve(self) -> None:
        relief = self._context.socket(zmq.PULL)
        relief.linger = 0
        relief.rcvhwm = 0  # a burst has at most 1,000 messages; it must end
        relief.connect(self._relief_at)
        self.stats.reliefs += 1
        self._reliefs.append(relief)
        self._interrupt()  # the first request may have been answered meanwhile; then this one hands the relief over

    def _runnable(self) -> float:
        """Seconds for which the thread has run or waited for a processor; on a busy machine it polls in vain with a small share of one."""
        with suppress(OSError, ValueError):
            ran, waited, _ = Path(f"/proc/self/task/{self._thread.native_id}/schedstat").read_text(encoding="ascii").split()
            if int(ran):
                return (int(ran) + int(waited)) / 1e9
        # Not Linux, or a kernel that does not count (the file is missing, or all zeros): time on a processor alone.
        ident = self._thread.ident
        try:
            return time.clock_gettime(time.pthread_getcpuclockid(ident)) if ident is not None else 0.0
        except (OSError, AttributeError):  # the thread has just ended; or macOS, which has no such clock
            return 0.0

    # the proxy's thread

    def _run(self) -> None:
        try:
            while self._obey():
                if self._blocks and (self._by_hand or self._held or not self._writable()):
                    self._forward()
                else:
                    self._forward_in_c()
            self._drain(self._stop_drain or 0.0)
        except zmq.ContextTerminated:
            log.debug("proxy %s: the context was terminated", self.name)
        finally:
            self._close_all()

    def _obey(self) -> bool:
        """Do what was asked for; False to stop."""
        with suppress(zmq.Again):
            while True:
                self._control.recv(zmq.NOBLOCK)
        # cleared before the actions are taken: whoever adds one later asks again
        self._asked_at = None
        self._take_back(self._reliefs)
        while self._actions:
            action = self._actions.popleft()
            try:
                action()
            except zmq.ContextTerminated:
                raise
            except Exception:
                self.stats.errors += 1
                log.exception("proxy %s: a rewiring failed", self.name)
        self.stats.rewirings += 1
        return self._stop_drain is None

    def _take_back(self, reliefs: deque[Socket]) -> None:
        while reliefs:
            relief = reliefs.popleft()
            with suppress(zmq.Again):
                while True:
                    self._held.append(relief.recv_multipart(zmq.NOBLOCK))
            # Disconnected before it is closed, and the backend made to notice: else a message could still be written into the dead pipe.
            relief.disconnect(self._relief_at)
            self._writable()
            relief.close()

    def _writable(self) -> bool:
        return bool(int(self._backend.getsockopt(zmq.EVENTS)) & zmq.POLLOUT)

    def _take_over(self) -> None:
        self.stats.stalls += 1
        self._by_hand = True

    def _forward_in_c(self) -> None:
        self._in_c_since = time.monotonic()
        try:
            zmq.proxy_steerable(self._frontend, self._backend, self._capture, self._control)
        except zmq.ContextTerminated:
            raise
        except zmq.ZMQError as error:
            self.stats.errors += 1
            log.warning("proxy %s: %s; entering it again", self.name, error)
            self._control.poll(min(1000, 10 * self.stats.errors))
        finally:
            self._in_c_since = None

    def _forward(self) -> None:
        """Forward in Python until asked for something, or until the C proxy does better."""
        window, moved, blocked = time.monotonic(), 0, 0
        while not int(self._control.getsockopt(zmq.EVENTS)) & zmq.POLLIN:
            count, waiting_for = self._burst()
            moved += count
            if waiting_for is self._backend:
                blocked += 1
            now = time.monotonic()
            over = now - window >= _TRIAL_SECONDS
            if not self._held and (moved >= _FLOWING or (over and not blocked)):
                # The load is real, or nothing is in the way any more.
                self._by_hand = False
                self._patience = min(_PATIENCE[1], 2 * self._patience)
                return
            if over:
                self._by_hand = True
                self._patience = _PATIENCE[0]
                window, moved, blocked = now, 0, 0
            if waiting_for is not None:
                self._wait(waiting_for)

    def _burst(self) -> tuple[int, Socket | None]:
        """Forward a few messages; how many, and the socket that has to be waited for, if any."""
        for count in range(_BURST):
            if not self._held:
                try:
                    parts = self._frontend.recv_multipart(zmq.NOBLOCK)
                except zmq.Again:
                    return count, self._frontend
                if self._capture is not None:
                    self._capture.send_multipart(parts)
                self._held.append(parts)
            try:
                self._backend.send_multipart(self._held[0], zmq.NOBLOCK)
            except zmq.Again:
                return count, self._backend
            self._held.popleft()
        return _BURST, None

    def _wait(self, socket: Socket) -> None:
        poller = zmq.Poller()
        poller.register(self._control, zmq.POLLIN)
        poller.register(socket, zmq.POLLOUT if socket is self._backend else zmq.POLLIN)
        poller.poll(int(_TRIAL_SECONDS * 1000))

    def _drain(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        self._take_back(self._reliefs)
        while time.monotonic() < deadline:
            waiting_for = self._burst()[1]
            if waiting_for is self._frontend and not self._frontend.poll(int(_TRIAL_SECONDS * 1000)):
                return
            if waiting_for is self._backend:
                self._backend.poll(int(_TRIAL_SECONDS * 1000), zmq.POLLOUT)

    def _close_all(self) -> None:
        sockets: Iterable[Socket | None] = (self._frontend, self._backend, self._capture, self._control, *self._reliefs)
        for socket in sockets:
            if socket is not None:
                socket.close()
