"""The control thread: everything that must not wait for a handler.

It owns a ZeroMQ context of its own (the only one in which names are resolved), the ZAP handler of the data plane's, the leg upwards,
and the signal wake-up descriptor. It shares no socket with the main thread; the main loop hears of it through `ControlListener`.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import zmq
from zmq.utils.monitor import parse_monitor_message

from ganglion.runtime import stacks
from ganglion.runtime.app_session import AppSession
from ganglion.runtime.member_session import MemberSession
from ganglion.runtime.session import BEAT_SECONDS
from ganglion.runtime.sockets import FEW_SOCKETS, Context, Socket, ipc_endpoint, make_context, make_ipc_socket, make_socket
from ganglion.runtime.uplink import ControlListener, NameServerUplink, Session, SidecarUplink, decode_or_none
from ganglion.runtime.zap import PATIENCE_SECONDS, Allowed, ZapHandler, ZapPolicy
from ganglion.wire.control import AdHocTerms, ChannelState, Notice, Peer, Refuse, Report, Watch

__all__ = ["ControlListener", "ControlThread", "NameServerUplink", "SidecarUplink"]

log = logging.getLogger(__name__)

_LOOK_SECONDS = 0.25
"""How often the report is looked at without a `poke`."""
_RECONNECT_MAX_MS = 1000
"""The name server is one small peer: a member that waited 5 s for it would be late by half a lease."""
_RENEW_SECONDS = 0.5
"""Shortest time between two sockets made for the same leg."""
_STALE_SECONDS = 30.0
"""A socket that was refused for good (ZAP 400) never tries again by itself: without a connection for so long it is made anew."""
_RECEIVE_BUDGET = 256
_CONNECTION_EVENTS = zmq.EVENT_HANDSHAKE_SUCCEEDED | zmq.EVENT_DISCONNECTED | zmq.EVENT_MONITOR_STOPPED


@dataclass
class _Leg:
    """The socket of the leg upwards and the monitor that tells when it stands."""

    socket: Socket
    monitor: Socket
    made: float
    down_since: float

    def close(self, linger_ms: int) -> None:
        with contextlib.suppress(zmq.ZMQError):
            self.socket.disable_monitor()
        self.monitor.close(0)
        self.socket.close(linger_ms)


class ControlThread:
    """Start it before the data plane binds; stop it after the data plane has closed.

    Args:
        uplink: to the name server, or to the sidecar.
        loop: the main loop; callbacks run there.
        report: called in the control thread whenever a beat may be due. It may only read, and must be cheap.
        listener: what the main loop hears.
        policy: allow lists for ZAP; None: everybody is refused.
        admits: peers of the directory → allow lists by ZAP domain. Called in the control thread: who is new in the directory may connect
            even while a handler blocks the main one. None: somebody else sets the policy.
        data_context: context whose servers ask our ZAP handler; None when this process binds no network sockets.
        on_ad_hoc: as of the listener, called in the control thread instead: also while a handler blocks the main one.
    """

    def __init__(
        self,
        uplink: NameServerUplink | SidecarUplink,
        *,
        loop: asyncio.AbstractEventLoop,
        report: Callable[[], Report],
        listener: ControlListener,
        policy: ZapPolicy | None = None,
        admits: Callable[[Iterable[Peer]], Mapping[str, Allowed]] | None = None,
        data_context: Context | None = None,
        on_ad_hoc: Callable[[AdHocTerms | None], None] | None = None,
    ) -> None:
        self.uplink = uplink
        self.policy = policy if policy is not None else ZapPolicy()
        self._loop = loop
        self._data_context = data_context
        self._admits = admits
        self._tell_directory = self._in_loop(listener.on_directory)
        relayed = ControlListener(
            on_joined=self._in_loop(listener.on_joined),
            on_directory=self._on_directory,
            on_command=self._in_loop(listener.on_command),
            on_fatal=self._in_loop(listener.on_fatal),
            on_stay=self._in_loop(listener.on_stay),
            on_log_level=self._in_loop(listener.on_log_level),
            on_ad_hoc=on_ad_hoc or self._in_loop(listener.on_ad_hoc),
            on_departure=self._in_loop(listener.on_departure),
            on_ends=None if listener.on_ends is None else self._in_loop(listener.on_ends),
            on_lost=self._in_loop(listener.on_lost),
        )
        self._on_fatal = relayed.on_fatal
        self._session: Session = (
            MemberSession(uplink, report, relayed) if isinstance(uplink, NameServerUplink) else AppSession(uplink, report, relayed)
        )
        self._thread = threading.Thread(target=self._run, name="ganglion-control", daemon=True)
        self._started = threading.Event()
        self._failure: BaseException | None = None
        self._stopping = False
        self._wake_receive, self._wake_send = socket.socketpair()
        self._wake_receive.setblocking(False)
        self._wake_send.setblocking(False)
        self._woken = False
        self._asked_bye: tuple[bool, asyncio.Future[bool], float] | None = None
        self._bye_said = False
        self._exit_at: tuple[float, int] | None = None
        self._due: tuple[float, Callable[[], None]] | None = None
        self._on_signal: Callable[[int], None] | None = None
        self._grace: float | None = None
        self._previous_handlers: dict[int, Any] = {}
        self._handlers: list[ZapHandler] = []

    # -- main thread ---------------------------------------------------------------------------------------------------------------

    def start(self, timeout: float = 10.0) -> None:
        """Start the thread; returns when ZAP answers, so that the data plane may bind.

        Args:
            timeout: seconds.
        Raises:
            zmq.ZMQError: a ZAP handler is bound in a context already.
            TimeoutError: the thread did not get going.
        """
        self._thread.start()
        if not self._started.wait(timeout):
            raise TimeoutError(f"control thread: not started after {timeout} s")
        if self._failure is not None:
            self.stop()
            raise self._failure

    def stop(self, timeout: float = 5.0) -> None:
        """End the thread and close its sockets, from the main thread; idempotent. Signal handlers are given back."""
        self._stopping = True
        self._wake()
        if self._thread.is_alive():
            self._thread.join(timeout)
            if self._thread.is_alive():
                log.error("control thread did not end within %s s", timeout)
                return
        self._unwatch_signals()
        self._wake_receive.close()
        self._wake_send.close()

    def poke(self) -> None:
        """The report has changed: look at it now. Any thread."""
        self._wake()

    def notice(self, notice: Notice) -> None:
        """Tell people about something (an Event in a cluster). Any thread."""
        self._session.notice(notice)
        self._wake()

    def watch(self, name: str, on: bool) -> None:
        """Hear of the ends of who has this name (`on_departure`), or no more. Any thread."""
        self._session.watch(name, on)
        self._wake()

    def relay_watch(self, watch: Watch) -> None:
        """Pass on what the agent process watches; the answers go to `on_ends`. Any thread."""
        self._session.relay_watch(watch)
        self._wake()

    def set_data_key(self, key: str) -> None:
        """The data plane's public key (Z85), when it is not this process's own. Any thread."""
        self._session.set_data_key(key)
        self._wake()

    async def bye(self, completed: bool, within: float) -> bool:
        """End the lease: say goodbye with the last report and wait for the answer.

        Args:
            completed: a `run: Once` replica finished its work.
            within: seconds.
        Returns:
            Whether it was acknowledged.
        """
        future: asyncio.Future[bool] = self._loop.create_future()
        self._asked_bye = (completed, future, time.monotonic() + within)
        self._wake()
        try:
            async with asyncio.timeout(within + 1.0):
                return await future
        except TimeoutError:
            return False

    def watch_signals(self, signals: Collection[int], on_signal: Callable[[int], None], *, grace: float | None = None) -> None:
        """Call `on_signal(number)` in the main loop for each of these signals. Main thread only.

        The interpreter's C handler writes to our descriptor whatever the main thread is doing, so the control thread sees the signal
        even while a handler blocks the main one. The loop's own `add_signal_handler` must not be used beside it: there is one such
        descriptor.

        Args:
            signals: numbers.
            on_signal: called in the main loop.
            grace: seconds after the first signal in which the process must have ended; then it is ended with code 1 as by
                `force_exit_after`, which also moves or lifts that. None: no such bound.
        """
        self._on_signal = on_signal
        self._grace = grace
        for number in signals:
            self._previous_handlers.setdefault(number, signal.signal(number, lambda _number, _frame: None))
        signal.set_wakeup_fd(self._wake_send.fileno(), warn_on_full_buffer=False)
        stacks.watched(True)

    def force_exit_after(self, seconds: float | None, code: int = 1) -> None:
        """End the process with `os._exit(code)` from the control thread in so many seconds; None takes it back. Any thread."""
        self._exit_at = None if seconds is None else (time.monotonic() + seconds, code)
        self._wake()

    def call_after(self, seconds: float | None, callback: Callable[[], None] = lambda: None) -> None:
        """Call back in so many seconds, whatever the main thread does; another call replaces it, None takes it back.

        Control thread only, as the callback, which must be quick and must not raise.
        """
        self._due = None if seconds is None else (time.monotonic() + seconds, callback)

    @property
    def refused_peers(self) -> int:
        """Handshakes that ZAP refused."""
        return sum(handler.refused for handler in self._handlers)

    def _unwatch_signals(self) -> None:
        if not self._previous_handlers:
            return
        signal.set_wakeup_fd(-1)
        stacks.watched(False)
        for number, handler in self._previous_handlers.items():
            signal.signal(number, handler)
        self._previous_handlers.clear()

    def _wake(self) -> None:
        if self._woken:
            # One byte is enough, and signals must find room: the interpreter drops what does not fit.
            return
        self._woken = True
        # A closed socket pair means that the thread has ended.
        with contextlib.suppress(OSError):
            self._wake_send.send(b"\0")

    def _in_loop(self, callback: Callable[..., None]) -> Callable[..., None]:
        def call(*args: object) -> None:
            # The loop may close while the thread still beats.
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(callback, *args)

        return call

    # -- control thread ------------------------------------------------------------------------------------------------------------

    def _on_directory(self, peers: Mapping[str, Peer], channels: Mapping[str, ChannelState]) -> None:
        if self._admits is not None:
            self.policy.replace(self._admits(peers.values()))
        self._tell_directory(peers, channels)

    def _run(self) -> None:
        context: Context | None = None
        leg: _Leg | None = None
        try:
            context = make_context(max_sockets=FEW_SOCKETS)
            # Nothing is bound in our own context; what was would be refused, for want of a handler.
            if self._data_context is not None:
                self._handlers.append(ZapHandler(self._data_context, self.policy, patience=PATIENCE_SECONDS))
            leg = self._make_leg(context)
            self._started.set()
            while not self._stopping:
                leg = self._turn(context, leg)
        except BaseException as error:
            self._failure = error
            if self._started.is_set():
                # Without beats the lease ends and peers let go of us: a process in that state is better restarted.
                log.exception("control thread failed; the process should end")
                self._on_fatal(Refuse(reason="ControlThreadFailed", message=f"{type(error).__name__}: {error}", retry=False))
        finally:
            if leg is not None:
                leg.close(500 if self._session.left else 0)
            for handler in self._handlers:
                handler.close()
            if context is not None:
                context.term()
            self._started.set()

    def _make_leg(self, context: Context) -> _Leg:
        uplink = self.uplink
        if isinstance(uplink, NameServerUplink):
            leg = make_socket(context, zmq.DEALER, curve=uplink.keys, server_key=uplink.server_key if uplink.keys is not None else None)
            leg.set(zmq.RECONNECT_IVL_MAX, _RECONNECT_MAX_MS)
            endpoint = uplink.endpoint
        else:
            endpoint = ipc_endpoint(uplink.path)
            leg = make_ipc_socket(context, zmq.DEALER)
        # Nothing is queued for a connection that does not stand: what it would say is stale by then.
        leg.set(zmq.IMMEDIATE, 1)
        monitor = leg.get_monitor_socket(_CONNECTION_EVENTS)
        leg.connect(endpoint)
        now = time.monotonic()
        return _Leg(leg, monitor, made=now, down_since=now)

    def _turn(self, context: Context, leg: _Leg) -> _Leg:
        session = self._session
        now = time.monotonic()
        self._serve_bye(now)
        session.tick(now)
        self._flush(leg)
        stale = not session.up and now - leg.down_since >= _STALE_SECONDS
        if stale or (session.wants_new_socket and now - leg.made >= _RENEW_SECONDS):
            leg.close(0)
            session.wants_new_socket = False
            session.disconnected(now)
            return self._make_leg(context)
        self._poll(leg, now)
        now = time.monotonic()
        self._drain_wakeups()
        # Received before the monitor is read: a goodbye's answer and the end of the connection may arrive together.
        # And before handshakes are judged: the directory may tell of the peers that ask.
        self._receive(leg.socket, now)
        for handler in self._handlers:
            handler.answer()
        self._watch_connection(leg, now)
        due = self._due
        if due is not None and now >= due[0]:
            self._due = None
            due[1]()
        if self._exit_at is not None and now >= self._exit_at[0]:
            log.critical("not finished in time; the process ends now with code %d", self._exit_at[1])
            logging.shutdown()
            os._exit(self._exit_at[1])
        return leg

    def _poll(self, leg: _Leg, now: float) -> None:
        poller = zmq.Poller()
        poller.register(self._wake_receive, zmq.POLLIN)
        poller.register(leg.socket, zmq.POLLIN | (zmq.POLLOUT if self._session.outbox else 0))
        poller.register(leg.monitor, zmq.POLLIN)
        for handler in self._handlers:
            poller.register(handler.socket, zmq.POLLIN)
        wait = min(_LOOK_SECONDS, self._session.next_tick(now), BEAT_SECONDS)
        for due in (self._exit_at, self._due):
            if due is not None:
                wait = min(wait, max(0.0, due[0] - now))
        poller.poll(max(1, int(wait * 1000)))

    def _drain_wakeups(self) -> None:
        try:
            data = self._wake_receive.recv(4096)
        except BlockingIOError:
            return
        finally:
            # After the bytes, before the state: whoever came in between is seen in this turn.
            self._woken = False
        if self._on_signal is not None:
            for number in data:
                if number == stacks.SIGNAL and number:
                    stacks.answer()
                elif number:
                    if self._grace is not None:
                        self._exit_at = self._exit_at or (time.monotonic() + self._grace, 1)
                        self._grace = None
                    self._in_loop(self._on_signal)(number)

    def _flush(self, leg: _Leg) -> None:
        outbox = self._session.outbox
        while outbox:
            try:
                leg.socket.send(outbox[0], zmq.NOBLOCK)
            except zmq.Again:
                return
            outbox.popleft()

    def _receive(self, leg: Socket, now: float) -> None:
        for _ in range(_RECEIVE_BUDGET):
            try:
                frames = leg.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return
            message = decode_or_none(frames[0]) if len(frames) == 1 else None
            if message is None:
                log.warning("control message of %d frames cannot be read; ignored", len(frames))
                continue
            self._session.received(message, now)

    def _watch_connection(self, leg: _Leg, now: float) -> None:
        while True:
            try:
                frames = leg.monitor.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return
            event = parse_monitor_message(frames)["event"]
            if event == zmq.EVENT_HANDSHAKE_SUCCEEDED:
                self._session.connected(now)
            elif event == zmq.EVENT_DISCONNECTED:
                leg.down_since = now
                self._session.disconnected(now)

    def _serve_bye(self, now: float) -> None:
        if self._asked_bye is None:
            return
        completed, future, deadline = self._asked_bye
        if self._session.left or now >= deadline:
            left = self._session.left
            self._asked_bye = None
            self._in_loop(lambda: None if future.done() else future.set_result(left))()
        elif not self._bye_said:
            self._bye_said = True
            self._session.say_bye(completed, now)
