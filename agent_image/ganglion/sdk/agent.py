"""The class that users derive from: hooks to override, and what hooks and handlers may call.

Everything is called in the agent's main thread; `send` and the logging methods may be called from any thread.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable, Iterator
from threading import get_ident
from typing import TYPE_CHECKING, Any

from ganglion.sdk.errors import AgentNotRunning, AttributeTaken

if TYPE_CHECKING:
    from ganglion.runtime.plane import MessageId
    from ganglion.sdk.core import Core
    from ganglion.sdk.handlers import Handlers

REQUEST_SECONDS = 10.0
"""Default timeout of a request: no remote call waits for ever."""


class Agent:
    """An agent: override hooks, write handlers, send.

    The runtime makes the object, sets the manifest's attributes, and calls the hooks in this order: `__init__()`, `on_init`, `before_loop`,
    then handlers, timers, `idle` and `on_end` as they come due, and `on_exit` at the end. Each hook and handler may be `async def`.
    """

    _core: Core

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
        return tuple(self._runtime.channels.wirings)

    # -- messages

    def send(self, alias: str, value: Any, *, topic: str | bytes = b"", timeout: float | None = None) -> MessageId | None:
        """Send one message (Push, Pub), or reply to the request taken last by `recv` (Rep). Any thread.

        Blocks while `highWaterMark` messages are unacknowledged; no handler runs meanwhile. From another thread it waits for the loop.

        Args:
            alias: channel alias.
            value: what the channel's codec can encode.
            topic: Pub only; any bytes, text goes out as UTF-8.
            timeout: seconds to block at most; None: until there is room.
        Returns:
            Id of the message; None for a reply.
        Raises:
            AliasError, EncodeError, MessageTooLarge, SendTimeout, ChannelClosed: nothing was sent.
            AgentStopping: in an agent's function, when the agent was told to stop.
        """
        core = self._core
        if get_ident() != core.thread:
            return core.send_from_thread(alias, value, topic, timeout)
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

    def subscribe(self, alias: str, topic: str | bytes) -> None:
        """Sub: also receive topics that begin with `topic`."""
        self._runtime.subscribe(alias, topic)

    def unsubscribe(self, alias: str, topic: str | bytes) -> None:
        """Sub: undo one `subscribe`."""
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
        return self._runtime.streams.ended(alias)

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
        self._runtime.timers.stop(alias)

    @property
    def timers(self) -> tuple[str, ...]:
        """Aliases of the timers that will run again."""
        return self._runtime.timers.aliases

    # -- attributes

    def set_attr(self, **attributes: Any) -> None:
        """Set attributes, new ones or such as were set before.

        Raises:
            AttributeTaken: a name belongs to a member of the class.
        """
        for name in attributes:
            if name.startswith("_") or hasattr(type(self), name):
                raise AttributeTaken(f"attribute {name!r}: {type(self).__name__} has a member of this name; choose another")
        for name, value in attributes.items():
            setattr(self, name, value)

    def get_attr(self, name: str) -> Any:
        """An attribute's value.

        Raises:
            AttributeError: there is none.
        """
        return getattr(self, name)

    # -- logging

    @property
    def log(self) -> logging.Logger:
        """This agent's logger; its lines carry the replica and, in a handler, the message id."""
        return self._runtime.log

    def log_debug(self, message: str, *args: object) -> None:
        """Log at DEBUG."""
        self._runtime.log.debug(message, *args)

    def log_info(self, message: str, *args: object) -> None:
        """Log at INFO."""
        self._runtime.log.info(message, *args)

    def log_warning(self, message: str, *args: object) -> None:
        """Log at WARNING."""
        self._runtime.log.warning(message, *args)

    def log_error(self, message: str, *args: object) -> None:
        """Log at ERROR."""
        self._runtime.log.error(message, *args)

    # -- ending

    @property
    def stopping(self) -> bool:
        """The agent was told to end; a function that runs as an agent should return."""
        return self._runtime.stopping

    def shutdown(self) -> None:
        """End this agent in order: intake stops, what was sent is settled, `on_exit`; with `run: Once` it has completed. Returns at once."""
        self._runtime.shutdown()

    def stop(self) -> None:
        """Leave within the drain bound without having completed; otherwise as `shutdown`."""
        self._runtime.stop()

    # -- inside

    @property
    def _runtime(self) -> Core:
        return self._core

    if not TYPE_CHECKING:
        # Only asked for what is missing, so that `send` pays nothing for the check; hidden from type checkers, which then see typos.
        def __getattr__(self, name: str) -> Any:
            kind = type(self).__name__
            if name == "_core":
                raise AgentNotRunning(f"{kind}: made by hand; agents get channels from the runtime that starts them")
            raise AttributeError(f"{kind!r} agent has no attribute {name!r}")
