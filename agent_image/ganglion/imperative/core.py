"""What stands behind an agent that a program made: its sockets, timers and waits. Main thread, unless said otherwise."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import inspect
import logging
from collections.abc import Awaitable, Callable
from threading import get_ident
from typing import Any, TypeVar

from ganglion.imperative import receiving
from ganglion.imperative.addresses import AgentAddress, AgentChannel, AgentChannelKind, guess_kind
from ganglion.imperative.errors import format_exception
from ganglion.imperative.logs import logger_address, write
from ganglion.imperative.requests import Requests
from ganglion.imperative.sending import sender_of
from ganglion.imperative.serializers import serializer_name
from ganglion.imperative.settings import config
from ganglion.imperative.sockets import Entry, Key, Sockets, need_handler
from ganglion.imperative.topics import add_topics, remove_topics, subscriber_of
from ganglion.imperative.waits import Waits
from ganglion.runtime.loop import DataLoop
from ganglion.runtime.sockets import Context
from ganglion.sdk.agent import Agent
from ganglion.sdk.base import AgentCore
from ganglion.sdk.channels import Sender
from ganglion.sdk.errors import AgentStopping, HandlerError
from ganglion.sdk.foreign import ForeignCalls
from ganglion.sdk.handlers import resolve, topic_bytes
from ganglion.sdk.timers import Timers
from ganglion.sdk.watched import Watched
from ganglion.wire.departures import Departure

T = TypeVar("T")


class Core(AgentCore):
    """See the module.

    Args:
        agent: the user's object; gets `_core`.
        name: of the agent.
        host: bound by tcp sockets that name none.
        loop: the main loop.
        context: of data sockets; its ZAP handler runs.
        transport, serializer: defaults of this agent; None: the configured ones.
        stop_on_error: an exception of a handler or timer ends the agent.
        on_end: the agent is to end: argument: at once.
        on_watch: hear of the ends of who has this name, or hear of them no more.
    """

    ADVICE = "only agents of a manifest have it; agents of run_agent bind() and connect() sockets"
    GUARDS_ATTRIBUTES = False

    def __init__(
        self,
        agent: Agent,
        *,
        name: str,
        host: str,
        loop: DataLoop,
        context: Context,
        transport: str | None,
        serializer: str | None,
        stop_on_error: bool,
        on_end: Callable[[bool], None],
        on_change: Callable[[], None],
        on_watch: Callable[[str, bool], None],
    ) -> None:
        self.agent = agent
        self.name = self.replica = name
        self.loop = loop
        self.thread = get_ident()
        self.log = logging.getLogger(f"ganglion.agent.{name}")
        # An earlier agent of this name may have lived in this process.
        self.log.setLevel(logging.NOTSET)
        self.senders: dict[Key, Sender] = {}
        self.sockets = Sockets(context, host)
        self.timers = Timers(loop, self._timer_failed)
        self.foreign = ForeignCalls(loop)
        self.requests = Requests(self)
        self.waits = Waits()
        self.watched = Watched(on_watch, self._run_watch)
        self.stopping = False
        self.looping = False
        """In the main loop, and not stopped: handlers run."""
        self.tasks: set[asyncio.Task[Any]] = set()
        self.handled = 0
        """Messages, for `idle`."""
        self._transport = transport
        self._serializer = serializer_name(serializer) if serializer else None
        self._stop_on_error = stop_on_error
        self._on_end = on_end
        self._on_change = on_change
        agent._core = self  # noqa: SLF001 - the two halves of one object

    # -- threads

    def here(self, function: Callable[[], T]) -> T:
        """Run in the main thread, whoever calls."""
        if get_ident() == self.thread:
            return function()
        result: T = self.foreign.call(function, float(config["CALL_TIMEOUT"]))
        return result

    def interrupt(self) -> None:
        """Any thread: waits of the main thread raise AgentStopping from now on."""
        self.stopping = True
        self.waits.interrupt()

    # -- making sockets

    @property
    def aliases(self) -> tuple[str, ...]:
        """Aliases that are text."""
        return tuple(key for entry in self.sockets.entries() for key in self.sockets.keys(entry) if isinstance(key, str))

    @property
    def transport(self) -> str:
        """Of sockets for which none is given."""
        return self._transport or str(config["TRANSPORT"])

    @property
    def serializer(self) -> str:
        """Of sockets for which none is given."""
        return serializer_name(self._serializer or config["SERIALIZER"])

    def bind(self, kind: str, alias: Key, handler: Any, addr: Any, transport: str | None, serializer: str | None) -> Any:
        """See `Agent.bind`."""
        return self.here(lambda: self._bind(kind, alias, handler, addr, transport, serializer))

    def _bind(self, kind: str, alias: Key, handler: Any, addr: Any, transport: str | None, serializer: str | None) -> Any:
        guessed = guess_kind(kind)
        transport = transport or self.transport
        serializer = serializer_name(serializer or self.serializer)
        if isinstance(guessed, AgentChannelKind):
            return self.requests.bind(guessed, alias, handler, addr, transport, serializer)
        need_handler(handler, required=guessed.requires_handler())
        topics = self.resolve_topics(handler) if guessed == "SUB" else {}
        resolved = self._handler(guessed, handler)
        entry = self.sockets.bind(guessed, transport, addr, serializer)
        entry.handler = resolved
        self.add(entry, alias, entry.place)
        add_topics(entry, topics)
        return entry.place

    def connect(self, server: Any, alias: Key, handler: Any) -> Any:
        """See `Agent.connect`."""
        return self.here(lambda: self._connect(server, alias, handler))

    def _connect(self, server: Any, alias: Key, handler: Any) -> Any:
        if isinstance(server, AgentChannel):
            return self.requests.connect(server, alias, handler)
        if not isinstance(server, AgentAddress):
            raise TypeError(f"connect: found a {type(server).__name__}; pass what bind() returned, an AgentAddress or AgentChannel")
        assert server.role == "server", "Incorrect address! A server address must be provided!"
        client = server.twin()
        need_handler(handler, required=client.kind.requires_handler())
        if client in self.sockets:
            entry = self.sockets.get(client)
            if client.kind == "SUB":
                self.sockets.register(entry, alias)
                add_topics(entry, self.resolve_topics(handler))
                return client
            if handler is not None:
                raise NotImplementedError(f"connect: {client} is connected already; close it first to give it another handler")
            self.add(entry, alias)
            return client
        topics = self.resolve_topics(handler) if client.kind == "SUB" else {}
        resolved = self._handler(client.kind, handler)
        entry = self.sockets.connect(client)
        entry.handler = resolved
        self.add(entry, alias, client)
        add_topics(entry, topics)
        return client

    def _handler(self, kind: str, handler: Any) -> Any:
        if handler is None or kind == "SUB":
            return None
        if kind == "ROUTER":
            return resolve(self.agent, {}, handler, topics=True, may_yield=False)
        return self.resolve(handler, may_yield=kind == "REP")

    def resolve(self, handler: Any, *, may_yield: bool = False) -> Any:
        """A handler as it is called: (message). What it yields is a reply, where it may."""
        return resolve(self.agent, {}, handler, topics=False, may_yield=may_yield)

    def resolve_topics(self, handler: Any) -> dict[bytes, Any]:
        """Handlers by topic; a handler alone is for all topics."""
        mapping = handler if isinstance(handler, dict) else {"": handler}
        return {topic_bytes(topic): resolve(self.agent, {}, one, topics=True, may_yield=False) for topic, one in mapping.items()}

    def add(self, entry: Entry, *keys: Key) -> None:
        """Register a socket, and receive from it when the loop runs."""
        self.sockets.register(entry, *keys)
        send = sender_of(self, entry)
        for key in self.sockets.keys(entry):
            if send is not None:
                self.senders[key] = send
            else:
                self.senders.pop(key, None)
        if entry.drain is None and receiving.receives(entry):
            entry.drain = receiving.drain_of(self, entry)
        if self.looping and entry.drain is not None and not entry.open:
            self._open(entry)

    def _open(self, entry: Entry) -> None:
        entry.open = True
        self.loop.add_direct_reader(entry.socket.fileno(), entry.drain)
        # The descriptor tells of changes only: what has come before is looked for now.
        self.loop.call_soon(entry.drain)

    # -- topics

    def subscribe(self, alias: Key, topic: Any) -> None:
        """See `Agent.subscribe`: a mapping topic → handler, or a handler."""

        def add() -> None:
            entry, prefix = subscriber_of(self.sockets.get(alias), alias)
            add_topics(entry, self.resolve_topics(topic), prefix)

        self.here(add)

    def unsubscribe(self, alias: Key, topic: Any) -> None:
        """See `Agent.unsubscribe`."""
        topics = [topic_bytes(one) for one in (topic if isinstance(topic, (list, tuple)) else [topic])]

        def remove() -> None:
            entry, prefix = subscriber_of(self.sockets.get(alias), alias)
            remove_topics(entry, topics, prefix)

        self.here(remove)

    # -- sending

    def unknown(self, alias: Key) -> Sender:
        """For a key that is not in `senders`."""
        entry = self.sockets.get(alias)
        raise NotImplementedError(f"alias {alias!r}: found kind {entry.kind}, which does not send")

    def send_from_thread(self, alias: Key, value: Any, topic: str | bytes, timeout: float | None) -> Any:
        """`Agent.send` in another thread."""
        return self.foreign.call(lambda: (self.senders.get(alias) or self.unknown(alias))(value, topic, timeout), timeout)

    def send_request(self, alias: Key, value: Any, topic: Any, handler: Any, wait: float | None, on_error: Any) -> None:
        """`Agent.send` with a handler, a wait or both."""
        self.here(lambda: self.requests.send(self.sockets.get(alias), value, topic, handler, wait, on_error))

    def recv(self, alias: Key, timeout: float | None) -> Any:
        """The reply to the request that was sent last; of a socket without a handler, the next message."""
        return self.here(lambda: self._recv(alias, timeout))

    def _recv(self, alias: Key, timeout: float | None) -> Any:
        return receiving.receive_one(self, self.sockets.get(alias), timeout)

    def send_recv(self, alias: Key, value: Any, timeout: float) -> Any:
        """A request and its reply."""

        def both() -> Any:
            (self.senders.get(alias) or self.unknown(alias))(value, b"", timeout)
            return self._recv(alias, timeout)

        return self.here(both)

    # -- known sockets

    def addr(self, alias: Key) -> Any:
        """See `Agent.addr`."""
        return self.sockets.get(alias).place

    def has_socket(self, alias: Key) -> bool:
        """See `Agent.has_socket`."""
        return alias in self.sockets

    def close(self, alias: Key, linger: float | None) -> None:
        """See `Agent.close`."""
        self.here(lambda: self._close(self.sockets.get(alias), linger))

    def _close(self, entry: Entry, linger: float | None) -> None:
        for one in (entry, entry.partner):
            if one is None or one.closed:
                continue
            for key in self.sockets.keys(one):
                self.senders.pop(key, None)
            if one.drain is not None:
                self.loop.remove_direct_reader(one.socket.fileno())
            self.sockets.close(one, linger)
            self.requests.closed(one)

    def close_all(self, linger: float | None) -> None:
        """See `Agent.close_all`."""

        def each() -> None:
            for entry in self.sockets.entries():
                self._close(entry, linger)
            self.requests.forget()

        self.here(each)

    # -- the loop

    def open_all(self) -> None:
        """The loop begins: handlers and timers run."""
        self.looping = True
        for entry in self.sockets.entries():
            # What before_loop made is open already.
            if entry.drain is not None and not entry.open:
                self._open(entry)
        self.timers.start()
        self.watched.start()

    def pause(self) -> None:
        """The loop ends: no handler runs any more."""
        self.looping = False
        for entry in self.sockets.entries():
            entry.open = False
            if entry.drain is not None:
                self.loop.remove_direct_reader(entry.socket.fileno())

    def spawn(self, awaitable: Awaitable[Any], what: str) -> asyncio.Task[Any]:
        """Run what a handler returned."""

        async def finish() -> Any:
            try:
                return await awaitable
            except Exception as error:  # noqa: BLE001 - user code
                self.failed(what, error)
                return None

        task = self.loop.create_task(finish())
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)
        return task

    def failed(self, what: str, error: BaseException) -> None:
        """A handler, timer or hook raised: it is logged with its traceback, and the agent goes on, or ends when it was made to."""
        if isinstance(error, AgentStopping) and self.stopping:
            return
        with contextlib.suppress(Exception):
            # The agent's own logging may be what failed.
            self.agent.log_error(f"An exception occurred while running! ({what}: {error})\n{format_exception(error)}")
        if self._stop_on_error:
            self._on_end(False)

    def _timer_failed(self, name: str, error: BaseException) -> None:
        self.failed(f"timer {name}", error)

    @property
    def running(self) -> bool:
        """See `Agent.is_running`."""
        return self.looping

    # -- timers

    def each(
        self,
        period: float,
        method: str | Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        *,
        alias: str | None,
        delay: float,
    ) -> str:
        """See `Agent.each`."""
        call = self._callable(method, args, kwargs)
        return self.here(lambda: self.timers.each(period, call, alias=alias or None, delay=delay))

    def after(
        self, delay: float, method: str | Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], *, alias: str | None
    ) -> str:
        """See `Agent.after`."""
        call = self._callable(method, args, kwargs)
        return self.here(lambda: self.timers.after(delay, call, alias=alias or None))

    def _callable(self, method: str | Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Callable[[], Any]:
        if not isinstance(method, str) and not callable(method):
            raise HandlerError(f"timer: found a {type(method).__name__}; must be a method, its name, or a function")
        if inspect.isfunction(method):
            # As if it were a method from now on: proxies may call it too.
            method = self.agent.set_method(method)
        if isinstance(method, str):
            name = method
            # Looked up at each run: set_method may replace it.
            return lambda: getattr(self.agent, name)(*args, **kwargs)
        return functools.partial(method, *args, **kwargs)

    def stop_timer(self, alias: str) -> None:
        """See `Agent.stop_timer`."""
        self.here(lambda: self.timers.stop(alias))

    @property
    def timer_aliases(self) -> tuple[str, ...]:
        """See `Agent.timers`."""
        return self.timers.aliases

    def attribute_set(self, name: str, value: Any) -> None:
        """See `AgentCore.attribute_set`."""
        self.agent.log_debug(f"SET self.{name} = {value}")

    # -- ends of others

    def watch(self, name: str, handler: Any) -> None:
        """See `Agent.watch`."""
        resolved = self.resolve(handler)
        self.here(lambda: self.watched.watch(name, resolved))

    def unwatch(self, name: str) -> None:
        """See `Agent.unwatch`."""
        self.here(lambda: self.watched.unwatch(name))

    @property
    def watched_names(self) -> tuple[str, ...]:
        """See `Agent.list_watched`."""
        return self.watched.names

    def _run_watch(self, handler: Callable[[Departure], Any], departure: Departure) -> None:
        if not self.looping:
            return
        what = f"watch of {departure.agent}"
        self.handled += 1
        try:
            result = handler(departure)
        except Exception as error:  # noqa: BLE001 - user code
            self.failed(what, error)
            return
        if inspect.isawaitable(result):
            self.spawn(result, what)

    # -- logging

    def set_logger(self, logger: Any, alias: str) -> None:
        """See `Agent.set_logger`."""
        self.connect(logger_address(logger), alias, None)

    def set_log_level(self, level: int) -> None:
        """See `AgentCore.set_log_level`; other agents of this process keep their levels."""
        self.log.setLevel(level)

    def log_message(self, level: int, message: object, args: tuple[object, ...], logger: str) -> None:
        """See `AgentCore.log_message`."""
        write(self, level, message, args, logger)

    # -- ending

    def shutdown(self) -> None:
        """See `Agent.shutdown`."""
        self._on_end(False)

    def stop(self) -> str:
        """See `Agent.stop`: the process stays, and so do its sockets."""
        self.here(self.pause)
        self._on_change()
        return "OK"

    def kill(self) -> None:
        """See `Agent.kill`."""
        self._on_end(True)

    def finish(self) -> None:
        """Free what is not a socket of the data plane."""
        self.foreign.close()
        self.timers.close()
        for task in self.tasks:
            task.cancel()
        self.waits.close()
