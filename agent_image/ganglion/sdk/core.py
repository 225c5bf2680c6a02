"""What stands behind an `Agent` object: its channels, timers and waits. One per process; main thread unless said otherwise."""

from __future__ import annotations

import asyncio
import functools
import inspect
import logging
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping
from threading import get_ident
from typing import Any, TypeVar

from ganglion.runtime import causal
from ganglion.runtime.errors import ChannelClosed
from ganglion.runtime.plane import MessageId
from ganglion.runtime.reactor import Reactor
from ganglion.sdk.agent import REQUEST_SECONDS, Agent
from ganglion.sdk.base import AgentCore
from ganglion.sdk.channels import Channels, Sender
from ganglion.sdk.errors import AgentStopping, AliasError, HandlerError, RecvTimeout, StreamEnded
from ganglion.sdk.foreign import ForeignCalls
from ganglion.sdk.handlers import Handlers, resolve, topic_bytes
from ganglion.sdk.mailbox import Mailbox
from ganglion.sdk.streams import Streams
from ganglion.sdk.timers import Timers
from ganglion.sdk.watched import Watched
from ganglion.wiring import WiringDocument

T = TypeVar("T")

TURN_SECONDS = 0.005
"""A function that keeps sending gives the loop a turn so often: acknowledgements, timers, and its last messages go out."""


class Core(AgentCore):
    """See the module.

    Args:
        agent: the user's object; gets `_core`.
        wiring: the document.
        replica: name of this replica.
        module: names of the agent's module.
        loop: the main loop.
        reactor: drives the plane's sockets.
        channels: made by the caller, because its errors are configuration errors.
        on_timer_error: (alias or name of the method, exception).
        on_shutdown: the agent wants to end; argument: completed.
        spawn: (name, hook): calls a hook soon, beside the messages, and judges what it raises.
        is_function: the agent is a plain function.
    """

    ADVICE = "the channels of this agent are declared; add a Channel and an entry of spec.channels, or start the agent with run_agent()"

    def __init__(
        self,
        agent: Agent,
        *,
        wiring: WiringDocument,
        replica: str,
        module: Mapping[str, Any],
        loop: asyncio.AbstractEventLoop,
        reactor: Reactor,
        channels: Channels,
        on_timer_error: Callable[[str, BaseException], None],
        on_shutdown: Callable[[bool], None],
        spawn: Callable[[str, Callable[[], Any]], None],
        on_watch: Callable[[str, bool], None],
        is_function: bool,
    ) -> None:
        self.agent = agent
        self.name = wiring.agent.name
        self.replica = replica
        self.module = module
        self.loop = loop
        self.reactor = reactor
        self.channels = channels
        self.thread = get_ident()
        self.log = logging.getLogger(self.name)
        self.streams = Streams(tuple(channels.wirings.values()))
        self.timers = Timers(loop, on_timer_error)
        self.foreign = ForeignCalls(loop)
        self.stopping = False
        self.in_function = is_function
        """The agent's function has not returned yet."""
        self.looping = False
        """Inlets are open: handlers can no longer be set."""
        self._on_shutdown = on_shutdown
        self._spawn = spawn
        # A task of its own: news come also while a handler blocks in a send.
        self.watched = Watched(on_watch, lambda run, end: spawn(f"watch of {end.agent}", functools.partial(run, end)))
        self._waiters: set[asyncio.Future[None]] = set()
        self._last_turn = 0.0
        self.senders: dict[str, Sender] = channels.senders
        if is_function:
            self.senders = {alias: self._function_sender(send) for alias, send in channels.senders.items()}
        agent._core = self  # noqa: SLF001 - the two halves of one object

    @property
    def aliases(self) -> tuple[str, ...]:
        """Aliases, in the manifest's order."""
        return self.channels.aliases

    @property
    def running(self) -> bool:
        """In the main loop."""
        return self.looping and not self.stopping

    # -- sending

    def unknown(self, alias: str) -> Sender:
        """For an alias that is not in `senders`: raises AliasError."""
        self.channels.wiring(alias)
        raise AliasError(f"channel {alias!r}: cannot send")

    def _function_sender(self, send: Sender) -> Sender:
        def guarded(value: Any, topic: str | bytes, timeout: float | None) -> MessageId | None:
            if self.stopping and self.in_function:
                raise AgentStopping("the agent was told to stop")
            try:
                sent = send(value, topic, timeout)
            except ChannelClosed:
                if self.stopping and self.in_function:
                    raise AgentStopping("the agent was told to stop") from None
                raise
            if time.monotonic() - self._last_turn > TURN_SECONDS:
                self.turn()
            return sent

        return guarded

    def turn(self) -> None:
        """Let the loop run once, when it stands still because the agent's function runs."""
        if not self.loop.is_running():
            self.loop.run_until_complete(asyncio.sleep(0))
        self._last_turn = time.monotonic()

    def receiver(self, alias: str, to: str) -> str:
        """What `send` takes as topic so that a message goes to one replica.

        Raises:
            AliasError: no such alias, or its role does not name receivers.
        """
        if not self.channels.wiring(alias).addressed:
            raise AliasError(f"channel {alias!r}: only a Router says whom a message is for; leave out to={to!r}")
        return to

    @property
    def sent_by(self) -> str | None:
        """See `Agent.sent_by`."""
        token = causal.current.get()
        return token.sender or None if token is not None else None

    def send_from_thread(self, alias: str, value: Any, topic: str | bytes, timeout: float | None) -> MessageId | None:
        """`Agent.send` in another thread."""
        send = self.channels.senders.get(alias) or self.unknown(alias)
        sent: MessageId | None = self.foreign.call(lambda: send(value, topic, timeout), timeout)
        return sent

    def flush(self) -> None:
        """Put what is coalesced on the wire."""
        for outlet in self.channels.outlets.values():
            outlet.flush()

    def end(self, alias: str) -> None:
        """END for one outlet."""
        channel = self.channels.wiring(alias)
        if not channel.sends:
            raise AliasError(f"channel {alias!r}: role {channel.role} does not send, so it cannot end the stream")
        self.channels.outlets[alias].end()

    def wired(self, alias: str) -> int:
        """Live links."""
        outlet = self.channels.outlets.get(alias)
        return outlet.wired if outlet is not None else self.channels.inlet(alias).wired

    def ended(self, alias: str) -> bool:
        """See `Agent.ended`."""
        return self.streams.ended(alias)

    # -- requests

    async def request(self, alias: str, value: Any, timeout: float) -> Any:  # noqa: ASYNC109 - the reply's own timeout
        """See `Agent.request`."""
        self._check_listening(alias)
        return await self.channels.request(alias, value, timeout)

    def send_recv(self, alias: str, value: Any, timeout: float) -> Any:
        """See `Agent.send_recv`."""
        self._check_listening(alias)
        if self.loop.is_running() and self.channels.asker(alias) is not None:
            raise AliasError(
                f"channel {alias!r}: what was published before the reply is to be handled before it, so a handler cannot wait for it; use"
                " `await request`, or give send() a handler for the reply"
            )
        if not self.loop.is_running():
            return self._run(self._stoppable(self.channels.request(alias, value, timeout)))
        future = self.channels.request(alias, value, timeout)
        # The plane answers every request within its timeout; the margin only covers a reply that arrives with it.
        try:
            if not self.reactor.pump(future.done, time.monotonic() + timeout + 1.0):
                raise TimeoutError(f"channel {alias!r}: the request was not settled in {timeout} s")
        finally:
            # Who is told to leave waits no longer, and nobody would hear what becomes of the request.
            future.cancel()
        return future.result()

    def _check_listening(self, alias: str) -> None:
        if not self.looping and self.channels.asker(alias) is not None:
            raise AliasError(
                f"channel {alias!r}: replies come among the publications, and nothing is received before the loop begins; give send() a"
                " handler for the reply, or ask from a handler or timer"
            )

    def send_request(self, alias: str, value: Any, topic: Any, handler: Any, wait: float | None, on_error: Any) -> None:
        """`Agent.send` with a handler for the reply. Main thread, or any other."""
        del topic  # requests have none
        if handler is None:
            raise HandlerError(f"channel {alias!r}: send() with wait or on_error is a request; give a handler for its reply too")
        reply = resolve(self.agent, self.module, handler, topics=False, may_yield=False)
        failed = None if on_error is None else self._callable(on_error, (), {}, what="on_error")
        in_place = self.channels.asker(alias) is not None

        def replied(value: Any, error: Exception | None) -> Any:
            if error is None and in_place:
                return reply(value)
            # At once: an agent that is leaving waits for the handler only when it hears of it before the request is settled.
            if error is None:
                self._spawn(f"handler of replies on {alias!r}", functools.partial(reply, value))
            elif failed is not None:
                self._spawn(f"on_error of a request on {alias!r}", failed)
            else:
                self.log.warning("channel %r: a request has no reply: %s: %s", alias, type(error).__name__, error)
            return None

        def request() -> None:
            self.channels.ask(alias, value, REQUEST_SECONDS if wait is None else wait, replied)

        if get_ident() == self.thread:
            request()
        else:
            self.foreign.call(request, None)

    async def _stoppable(self, future: asyncio.Future[Any]) -> Any:
        await self._until(future.done, None, future)
        if not future.done():
            future.cancel()
            raise AgentStopping("the agent was told to stop")
        return future.result()

    # -- receiving

    def handle(self, alias: str, handlers: Handlers) -> None:
        """See `Agent.handle`."""
        self.channels.handle(alias, handlers)
        if self.looping:
            alias = self.channels.inward.get(alias, alias)
            self.channels.open_inlet(self.agent, self.module, alias).start()

    def _mailbox(self, alias: str) -> Mailbox:
        mailbox = self.channels.mailboxes.get(alias)
        if mailbox is not None:
            return mailbox
        inward = self.channels.inward.get(alias)
        if inward is not None:
            return self._mailbox(inward)
        if alias in self.channels.publishers:
            raise AliasError(f"channel {self.channels.called(alias)!r}: role SyncPub receives requests, which need a handler that replies")
        channel = self.channels.wiring(alias)
        if channel.sends:
            raise AliasError(f"channel {alias!r}: role {channel.role} receives nothing")
        if self.channels.has_handler(alias):
            raise AliasError(f"channel {self.channels.called(alias)!r}: its messages go to a handler; recv() is for channels without one")
        if not self.looping:
            raise AliasError(f"channel {alias!r}: nothing is received before the loop begins")
        self.channels.open_inlet(self.agent, self.module, alias).start()
        return self.channels.mailboxes[alias]

    async def _arrival(self, alias: str, mailbox: Mailbox, timeout: float | None) -> None:  # noqa: ASYNC109
        mailbox.finish()
        deadline = None if timeout is None else self.loop.time() + timeout
        await self._until(lambda: len(mailbox) > 0 or self.streams.ended(alias), deadline)
        if len(mailbox):
            return
        if self.streams.ended(alias):
            raise StreamEnded(f"channel {alias!r}: every sender has ended")
        if self.stopping:
            raise AgentStopping("the agent was told to stop")
        raise RecvTimeout(f"channel {alias!r}: nothing arrived within {timeout} s")

    def recv(self, alias: str, timeout: float | None) -> Any:
        """See `Agent.recv`."""
        mailbox = self._mailbox(alias)
        if self.in_function and self.stopping:
            raise AgentStopping("the agent was told to stop")
        if not len(mailbox):
            if self.loop.is_running():
                return self._recv_in_handler(alias, mailbox, timeout)
            self._run(self._arrival(alias, mailbox, timeout))
        return mailbox.take()

    def _recv_in_handler(self, alias: str, mailbox: Mailbox, timeout: float | None) -> Any:
        mailbox.finish()
        deadline = None if timeout is None else time.monotonic() + timeout
        if not self.reactor.pump(lambda: len(mailbox) > 0 or self.streams.ended(alias), deadline):
            raise RecvTimeout(f"channel {alias!r}: nothing arrived within {timeout} s")
        if not len(mailbox):
            raise StreamEnded(f"channel {alias!r}: every sender has ended")
        return mailbox.take()

    async def receive(self, alias: str, timeout: float | None) -> Any:  # noqa: ASYNC109
        """See `Agent.receive`."""
        mailbox = self._mailbox(alias)
        if not len(mailbox):
            await self._arrival(alias, mailbox, timeout)
        return mailbox.take()

    def messages(self, alias: str) -> Iterator[Any]:
        """See `Agent.messages`."""
        while True:
            try:
                value = self.recv(alias, None)
            except (StreamEnded, AgentStopping):
                return
            yield value

    async def stream(self, alias: str) -> AsyncIterator[Any]:
        """See `Agent.stream`."""
        while True:
            try:
                value = await self.receive(alias, None)
            except (StreamEnded, AgentStopping):
                return
            yield value

    def subscribe(self, alias: str, topic: str | bytes) -> None:
        """See `Agent.subscribe`."""
        self.channels.subscribe(alias, topic_bytes(topic))

    def unsubscribe(self, alias: str, topic: str | bytes) -> None:
        """See `Agent.unsubscribe`."""
        self.channels.unsubscribe(alias, topic_bytes(topic))

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
        return self.timers.each(period, self._callable(method, args, kwargs), alias=alias, delay=delay)

    def after(
        self, delay: float, method: str | Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], *, alias: str | None
    ) -> str:
        """See `Agent.after`."""
        return self.timers.after(delay, self._callable(method, args, kwargs), alias=alias)

    def stop_timer(self, alias: str) -> None:
        """See `Agent.stop_timer`."""
        self.timers.stop(alias)

    @property
    def timer_aliases(self) -> tuple[str, ...]:
        """See `Agent.timers`."""
        return self.timers.aliases

    def _callable(
        self, method: str | Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], *, what: str = "timer"
    ) -> Callable[[], Any]:
        if isinstance(method, str):
            found = getattr(self.agent, method, None)
            if callable(found):
                return functools.partial(found, *args, **kwargs)
            function = self.module.get(method)
            if not callable(function):
                raise HandlerError(f"{what}: {type(self.agent).__name__} has no method {method!r}, and its module has no such function")
            return functools.partial(function, self.agent, *args, **kwargs)
        if not callable(method):
            raise HandlerError(f"{what}: found a {type(method).__name__}; must be a method, its name, or a function")
        if inspect.isfunction(method) and inspect.signature(method).parameters:
            return functools.partial(method, self.agent, *args, **kwargs)
        return functools.partial(method, *args, **kwargs)

    # -- ends of others

    def watch(self, name: str, handler: Any) -> None:
        """See `Agent.watch`."""
        resolved = resolve(self.agent, self.module, handler, topics=False, may_yield=False)
        self._here(lambda: self.watched.watch(name, resolved))

    def unwatch(self, name: str) -> None:
        """See `Agent.unwatch`."""
        self._here(lambda: self.watched.unwatch(name))

    @property
    def watched_names(self) -> tuple[str, ...]:
        """See `Agent.list_watched`."""
        return self.watched.names

    def _here(self, function: Callable[[], T]) -> T:
        """Run in the main thread, whoever calls."""
        if get_ident() == self.thread:
            return function()
        result: T = self.foreign.call(function, REQUEST_SECONDS)
        return result

    # -- waiting

    def wake(self) -> None:
        """A condition of `_until` may have changed."""
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)

    async def _until(self, condition: Callable[[], bool], deadline: float | None, future: asyncio.Future[Any] | None = None) -> None:
        """Return when the condition holds, the deadline (loop time) has passed, or the agent's function must stop."""
        while not condition() and not (self.stopping and self.in_function):
            waiter = self.loop.create_future()
            self._waiters.add(waiter)
            wake = None if deadline is None else self.loop.call_at(deadline, _set, waiter)
            if future is not None:
                future.add_done_callback(functools.partial(_settled, waiter))
            try:
                await waiter
            finally:
                self._waiters.discard(waiter)
                if wake is not None:
                    wake.cancel()
            if deadline is not None and self.loop.time() >= deadline:
                return

    def _run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        try:
            return self.loop.run_until_complete(coroutine)
        finally:
            self._last_turn = time.monotonic()

    # -- ending

    def shutdown(self) -> None:
        """See `Agent.shutdown`."""
        self._on_shutdown(True)

    def stop(self) -> None:
        """See `Agent.stop`."""
        self._on_shutdown(False)

    def stop_function(self) -> None:
        """Blocking calls of the agent's function raise AgentStopping from now on. Any thread."""
        if self.stopping:
            return
        self.stopping = True
        if self.in_function:
            self.reactor.stop()
        self.loop.call_soon_threadsafe(self.wake)

    def function_returned(self) -> None:
        """Handlers that still run may send again."""
        self.in_function = False
        for mailbox in self.channels.mailboxes.values():
            mailbox.finish()
        causal.current.set(None)
        self.reactor.resume()


def _settled(waiter: asyncio.Future[None], _done: asyncio.Future[Any]) -> None:
    _set(waiter)


def _set(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)
