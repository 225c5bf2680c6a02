"""The class that users derive from: hooks to override, and what hooks and handlers may call.

Everything is called in the agent's main thread; `send` and the logging methods may be called from any thread.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable, Iterator
from threading import get_ident
from types import MethodType
from typing import TYPE_CHECKING, Any

from ganglion.runtime.logs import level_number
from ganglion.sdk.errors import AgentNotRunning, AttributeTaken

if TYPE_CHECKING:
    from ganglion.runtime.plane import MessageId
    from ganglion.sdk.base import AgentCore
    from ganglion.sdk.handlers import Handlers

REQUEST_SECONDS = 10.0
"""Default timeout of a request: no remote call waits for ever."""


class Agent:
    """An agent: override hooks, write handlers, send.

    The runtime makes the object, sets the manifest's attributes, and calls the hooks in this order: `__init__()`, `on_init`, `before_loop`,
    then handlers, timers, `idle` and `on_end` as they come due, and `on_exit` at the end. Each hook and handler may be `async def`.
    """

    _core: AgentCore

    # -- hooks

    def on_init(self) -> Any:
        """Attributes are set, channels exist, nothing is received yet. Set handlers and timers here. An exception ends the process (78)."""

    def before_loop(self) -> Any:
        """The name server knows the agent and told its peers; receiving begins when this returns."""

    def idle(self) -> Any:
        """Called once for each second in which nothing was received (only when overridden)."""

    def on_end(self, alias: str) -> Any:
        """Every sender of `alias` has ended and what it sent is handled. Called once per alias and process."""

    def on_exit(self) -> Any:
        """The agent ends in order: intake has stopped, handlers are through. What is sent here is still delivered."""

    # -- who

    @property
    def name(self) -> str:
        """Name of the Agent object."""
        return self._runtime.name

    @property
    def replica(self) -> str:
        """Name of this replica, e.g. `worker-0`."""
        return self._runtime.replica

    @property
    def channels(self) -> tuple[str, ...]:
        """Aliases, in the manifest's order."""
        return self._runtime.aliases

    # -- messages

    @property
    def sent_by(self) -> str | None:
        """Replica that sent the message that is being handled, or was taken last by `recv`, e.g. `worker-3`: what a Router's `send` takes as `to`.

        It is the name that the peer's key is registered under, whatever the message says. None where nobody knows: outside handlers, in other
        threads, and on channels that are not acknowledged and have no replies.
        """
        return self._runtime.sent_by

    def send(
        self,
        alias: Any,
        value: Any,
        topic: str | bytes | None = b"",
        handler: Any = None,
        wait: float | None = None,
        on_error: Any = None,
        *,
        to: str | None = None,
        timeout: float | None = None,
    ) -> MessageId | None:
        """Send one message (Push, Pub, Binder, Connector, Router, Dealer, SyncPub), a request (Req, SyncSub; REQ, channels), or reply to the
        request taken last by `recv` (Rep). Any thread.

        Blocks while `highWaterMark` messages are unacknowledged; no handler runs meanwhile. From another thread it waits for the loop.

        Args:
            alias: channel alias; of sockets that a program made, their address too.
            value: what the channel's codec can encode.
            topic: Pub, SyncPub: any bytes, text goes out as UTF-8. ROUTER: the peer that it is for, as the handler got it.
            handler, wait, on_error: of requests (Req, SyncSub; ASYNC_REP and SYNC_PUB of programs): what gets the reply, seconds to wait for
                it (Req, SyncSub: 10 when None), and what is called with the agent when there was none. As many may be under way as one
                likes. Of a SyncSub the reply is handled in its place among the publications.
            to: Router: the replica that it is for, e.g. `worker-3`, or what `sent_by` was.
            timeout: seconds to block at most; None: until there is room.
        Returns:
            Id of the message; None for a reply.
        Raises:
            AliasError, EncodeError, MessageTooLarge, SendTimeout, ChannelClosed: nothing was sent.
            UnknownReceiver, ReceiverAbsent: Router: nothing was sent, because no such replica is declared, or because it is away and
                `highWaterMark` messages wait for it.
            AgentStopping: in an agent's function, when the agent was told to stop.
        """
        core = self._core
        if handler is not None or wait is not None or on_error is not None:
            core.send_request(alias, value, topic, handler, wait, on_error)
            return None
        if to is not None:
            topic = core.receiver(alias, to)
        elif topic is None:
            topic = b""
        if get_ident() != core.thread:
            sent: MessageId | None = core.send_from_thread(alias, value, topic, timeout)
            return sent
        try:
            send = core.senders[alias]
        except KeyError:
            send = core.unknown(alias)
        return send(value, topic, timeout)

    def recv(self, alias: str, timeout: float | None = None) -> Any:
        """Take one message from a channel without a handler. It is acknowledged when the next one is asked for.

        For functions run as agents. In an `async def` use `await receive()`. For Sub the result is `(topic, value)`.

        Args:
            timeout: seconds to wait; None: until one comes, the stream ends, or the agent is told to stop.
        Raises:
            RecvTimeout, StreamEnded, AgentStopping; AliasError: the alias has a handler or does not receive.
        """
        return self._runtime.recv(alias, timeout)

    async def receive(self, alias: str, timeout: float | None = None) -> Any:  # noqa: ASYNC109 - one timeout argument everywhere
        """`recv` for `async def` functions and handlers."""
        return await self._runtime.receive(alias, timeout)

    def messages(self, alias: str) -> Iterator[Any]:
        """`recv` until the stream ends or the agent is told to stop."""
        return self._runtime.messages(alias)

    def stream(self, alias: str) -> AsyncIterator[Any]:
        """`receive` until the stream ends or the agent is told to stop."""
        return self._runtime.stream(alias)

    def send_recv(self, alias: str, value: Any, timeout: float = REQUEST_SECONDS) -> Any:
        """Send a request (Req) and wait for its reply. Timers and handlers wait too, unless this is called in an agent's function.

        Raises:
            RequestTimeout, ReplierLost, RemoteError; AgentStopping; and what `send` raises.
        """
        return self._runtime.send_recv(alias, value, timeout)

    async def request(self, alias: str, value: Any, timeout: float = REQUEST_SECONDS) -> Any:  # noqa: ASYNC109
        """`send_recv` for `async def` functions and handlers: others run meanwhile."""
        return await self._runtime.request(alias, value, timeout)

    def handle(self, alias: str, handlers: Handlers) -> None:
        """Set the handler of a receiving alias: a name, a method, a function, a list, or for Sub a mapping topic → handler.

        Call it in `on_init` or `before_loop`; in a function run as an agent, before the alias is used. It wins over the manifest's.

        Raises:
            AliasError: no such alias, it does not receive, or it receives already.
        """
        self._runtime.handle(alias, handlers)

    def subscribe(self, alias: Any, topic: Any) -> None:
        """Sub: also receive topics that begin with `topic`. Of sockets that a program made: a mapping topic → handler, or a handler for all."""
        self._runtime.subscribe(alias, topic)

    def unsubscribe(self, alias: Any, topic: Any) -> None:
        """Sub: undo one `subscribe`; of sockets that a program made also several, as a list."""
        self._runtime.unsubscribe(alias, topic)

    def flush(self) -> None:
        """Put what is coalesced on the wire now (only a function in a loop of quick sends ever needs it)."""
        self._runtime.flush()

    def end(self, alias: str) -> None:
        """Send no more on `alias`: receivers learn that this stream has ended once all of it is settled."""
        self._runtime.end(alias)

    def wired(self, alias: str) -> int:
        """Peers with a live link on this alias, in both directions."""
        return self._runtime.wired(alias)

    def ended(self, alias: str) -> bool:
        """Whether the stream of a receiving alias has ended."""
        return self._runtime.ended(alias)

    # -- sockets (agents of run_agent)

    def bind(
        self,
        kind: str,
        alias: Any = None,
        handler: Any = None,
        addr: Any = None,
        transport: str | None = None,
        serializer: str | None = None,
    ) -> Any:
        """Make a socket that others connect to.

        Args:
            kind: REQ, REP, PUSH, PULL, PUB, SUB, PAIR, DEALER or ROUTER; ASYNC_REP or SYNC_PUB for a channel.
            alias: name for `send` and `recv`; the address serves too.
            handler: what gets the messages; required where nothing else could take them. Of a ROUTER: (message, peer), where peer is
                what `send` takes as topic.
            addr: tcp: `host`, `host:port` or a SocketAddress; ipc, inproc: a name. A random one when None.
            transport: tcp, ipc or inproc.
            serializer: codec of its messages.
        Returns:
            AgentAddress, or AgentChannel for a channel.
        Raises:
            ValueError: no such kind, transport or codec, or the handler is missing.
            NotSupported: the channels of this agent are declared in a manifest.
        """
        return self._runtime.bind(kind, alias, handler, addr, transport, serializer)

    def connect(self, server: Any, alias: Any = None, handler: Any = None) -> Any:
        """Connect to a socket or channel that was bound; otherwise as `bind`. Returns the address of this end."""
        return self._runtime.connect(server, alias, handler)

    def addr(self, alias: Any) -> Any:
        """Address of a socket; KeyError: there is none."""
        return self._runtime.addr(alias)

    def has_socket(self, alias: Any) -> bool:
        """Whether there is such a socket."""
        return self._runtime.has_socket(alias)

    def close(self, alias: Any, linger: float | None = None) -> None:
        """Close a socket under all its aliases.

        Args:
            linger: seconds for what is not yet sent; negative: for ever; None: the configured time.
        """
        self._runtime.close(alias, linger)

    def close_all(self, linger: float | None = None) -> None:
        """Close all sockets."""
        self._runtime.close_all(linger)

    # -- timers

    def each(
        self, period: float, method: str | Callable[..., Any], *args: Any, alias: str | None = None, delay: float = 0.0, **kwargs: Any
    ) -> str:
        """Run a method every `period` seconds, first in `delay` seconds; never twice at a time, missed times are skipped.

        Args:
            method: a method, its name, or a function (called with the agent first).
            args: further arguments of it.
            alias: name of the timer; random when None.
        Returns:
            The alias.
        """
        return self._runtime.each(period, method, args, kwargs, alias=alias, delay=delay)

    def after(self, delay: float, method: str | Callable[..., Any], *args: Any, alias: str | None = None, **kwargs: Any) -> str:
        """Run a method once, in `delay` seconds; otherwise as `each`."""
        return self._runtime.after(delay, method, args, kwargs, alias=alias)

    def stop_timer(self, alias: str) -> None:
        """Never start this timer again.

        Raises:
            KeyError: no such timer.
        """
        self._runtime.stop_timer(alias)

    def stop_all_timers(self) -> None:
        """Stop every timer."""
        for alias in self._runtime.timer_aliases:
            self._runtime.stop_timer(alias)

    def list_timers(self) -> list[str]:
        """`timers`, as a list."""
        return list(self._runtime.timer_aliases)

    @property
    def timers(self) -> tuple[str, ...]:
        """Aliases of the timers that will run again."""
        return self._runtime.timer_aliases

    # -- ends of others

    def watch(self, name: str, handler: Any) -> None:
        """Hear of the end of another agent: handler(departure) runs once for each of its lives that ends, also after restarts of it and of the name server.

        Args:
            name: of the agent; somebody who gets the name later is watched, too. Watching it again replaces the handler. Agents of a manifest
                watch agents of their domain's manifests: all replicas (`worker`), or one (`worker-0`). Agents of programs watch each other.
            handler: a method, its name, a function (called with the agent first), or a list of these; may be `async def`. It gets a
                `ganglion.Departure`: who has ended, and why. While nobody has the name it is told so once, with the reason `Unknown`.
        Raises:
            HandlerError: the handler cannot be called with a departure.
            ValueError: the name is no text, empty or longer than 255 bytes, or 1,000 names are watched already.
        """
        self._runtime.watch(name, handler)

    def unwatch(self, name: str) -> None:
        """Hear no more of it.

        Raises:
            KeyError: it is not watched.
        """
        self._runtime.unwatch(name)

    def list_watched(self) -> list[str]:
        """Names that are watched."""
        return list(self._runtime.watched_names)

    # -- attributes

    def set_attr(self, **attributes: Any) -> None:
        """Set attributes, new ones or such as were set before.

        Raises:
            AttributeTaken: a name belongs to a member of the class (agents of a manifest).
        """
        core = self.__dict__.get("_core")
        for name in attributes if core is None or core.GUARDS_ATTRIBUTES else ():
            if name.startswith("_") or hasattr(type(self), name):
                raise AttributeTaken(f"attribute {name!r}: {type(self).__name__} has a member of this name; choose another")
        for name, value in attributes.items():
            setattr(self, name, value)
            if core is not None:
                core.attribute_set(name, value)

    def get_attr(self, name: str) -> Any:
        """An attribute's value.

        Raises:
            AttributeError: there is none.
        """
        return getattr(self, name)

    def set_method(self, *functions: Callable[..., Any], **named: Callable[..., Any]) -> str:
        """Make functions methods of this agent, under their own or the given names. Returns the last name."""
        name = ""
        for name, function in ({f.__name__: f for f in functions} | named).items():
            setattr(self, name, MethodType(function, self))
        return name

    def execute_as_function(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Call a function here."""
        return function(*args, **kwargs)

    def execute_as_method(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Call a function here with the agent as its first argument."""
        return function(self, *args, **kwargs)

    # -- logging

    def set_logger(self, logger: Any, alias: str = "_logger") -> None:
        """Send log messages to a logger (a proxy or an address) from now on."""
        self._runtime.set_logger(logger, alias)

    def set_log_level(self, level: int | str) -> None:
        """From now on log what is at least as important as this: DEBUG, INFO (the default), WARNING, ERROR or CRITICAL.

        In an agent of a manifest it is the level of all loggers of the process that have none of their own, as GANGLION_LOG_LEVEL is at its start,
        until `spec.logLevel` of the Agent changes;
        in an agent that a program has made, that of the agent's own messages, whether they go to a logger or to the terminal.

        Args:
            level: its name, or its number in the standard library.
        Raises:
            ValueError: it is no level.
        """
        self._runtime.set_log_level(level_number(level))

    @property
    def log(self) -> logging.Logger:
        """This agent's logger; its lines carry the replica and, in a handler, the message id."""
        return self._runtime.log

    def log_debug(self, message: object, *args: object, logger: str = "_logger") -> None:
        """Log at DEBUG."""
        self._runtime.log_message(logging.DEBUG, message, args, logger)

    def log_info(self, message: object, *args: object, logger: str = "_logger") -> None:
        """Log at INFO."""
        self._runtime.log_message(logging.INFO, message, args, logger)

    def log_warning(self, message: object, *args: object, logger: str = "_logger") -> None:
        """Log at WARNING."""
        self._runtime.log_message(logging.WARNING, message, args, logger)

    def log_error(self, message: object, *args: object, logger: str = "_logger") -> None:
        """Log at ERROR."""
        self._runtime.log_message(logging.ERROR, message, args, logger)

    # -- ending

    @property
    def stopping(self) -> bool:
        """The agent was told to end; a function that runs as an agent should return."""
        return self._runtime.stopping

    def shutdown(self) -> None:
        """End this agent in order: intake stops, what was sent is settled, `on_exit`; with `run: Once` it has completed. Returns at once."""
        self._runtime.shutdown()

    def stop(self) -> Any:
        """Leave within the drain bound without having completed; otherwise as `shutdown`. An agent of run_agent stops its loop, and stays."""
        return self._runtime.stop()

    def kill(self) -> None:
        """End this agent now, whatever it does (agents of run_agent)."""
        self._runtime.kill()

    def is_running(self) -> bool:
        """Whether the main loop runs."""
        return self._runtime.running

    def ping(self) -> str:
        """`pong`."""
        return "pong"

    def raise_exception(self) -> None:
        """Raise a RuntimeError; for tests of what happens then."""
        raise RuntimeError("User raised an exception!")

    # -- inside

    @property
    def _runtime(self) -> AgentCore:
        return self._core

    if not TYPE_CHECKING:
        # Only asked for what is missing, so that `send` pays nothing for the check; hidden from type checkers, which then see typos.
        def __getattr__(self, name: str) -> Any:
            kind = type(self).__name__
            if name == "_core":
                raise AgentNotRunning(f"{kind}: made by hand; agents get channels from the runtime that starts them")
            raise AttributeError(f"{kind!r} agent has no attribute {name!r}")
