"""One agent process: starts its planes and its agent, runs it, and takes it to its end."""

from __future__ import annotations

import asyncio
import functools
import inspect
import logging
import secrets
import threading
import time
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, cast

from ganglion.runtime.control import ControlListener, ControlThread
from ganglion.runtime.errors import ConfigurationError
from ganglion.runtime.logs import DeclaredLevel
from ganglion.runtime.plane import Plane
from ganglion.runtime.reactor import Reactor
from ganglion.sdk.agent import Agent
from ganglion.sdk.channels import Channels
from ganglion.sdk.core import Core
from ganglion.sdk.errors import HandlerError
from ganglion.sdk.faults import Faults
from ganglion.sdk.flow import Flow
from ganglion.sdk.function import FunctionRun
from ganglion.sdk.gate import Gate
from ganglion.sdk.hooks import Hooks
from ganglion.sdk.lifecycle import BYE_SECONDS, EXIT_FAILED, Facts, Lifecycle, Stage
from ganglion.sdk.link import Link
from ganglion.sdk.mailbox import HandedBack
from ganglion.sdk.orders import Orders
from ganglion.sdk.report import build_report
from ganglion.sdk.target import Target, where
from ganglion.wire.control import ChannelState, Peer, Phase, Refuse, Report
from ganglion.wire.departures import Departure
from ganglion.wiring import WiringDocument

log = logging.getLogger(__name__)

LOOK_SECONDS = 0.02
"""How often conditions without a callback (ledger at rest, handlers idle) are looked at while something waits for them."""
CONTROL_FAILED = "ControlThreadFailed"
"""Refusal reason of the control thread itself: no configuration would heal it, a restart may."""
WAITING_LINE_SECONDS = 10.0
"""A line for people so often while the name server does not answer."""


def _nothing_more_to_do(_level: str) -> None:
    """The main thread's half of a change of the log level."""


class AgentProcess:
    """See the module. Made and used in the main thread.

    Args:
        wiring: the document.
        replica: name of this replica.
        target: what to run.
        link: makes the data plane and the way upwards.
        loop: an event loop that is not running.
        level: what changes the level of the log.
    Raises:
        ConfigurationError: a codec is unknown or forbidden.
    """

    def __init__(
        self,
        wiring: WiringDocument,
        replica: str,
        target: Target,
        link: Link,
        loop: asyncio.AbstractEventLoop,
        level: DeclaredLevel,
    ) -> None:
        self.wiring = wiring
        self.target = target
        self.loop = loop
        self.link = link
        self.reactor = Reactor(loop)
        self.gate = Gate(loop, self.reactor, self._tick)
        self.drain_seconds = float(wiring.agent.drain_timeout_seconds)
        self.lifecycle = Lifecycle(
            once=wiring.agent.run == "Once", drain_seconds=self.drain_seconds, domain_seconds=wiring.domain_end_seconds
        )
        self.faults = Faults(wiring, self.lifecycle, giving_up=lambda: self.reactor.stopped, changed=self._wake)
        self._fatal: Refuse | None = None
        self._phase: Phase = "Starting"
        self._counter = secrets.token_hex(6)
        self._joined = False
        self._directory = False
        self._nothing_more = False
        self._hook_done = False
        self._bye_done = False
        self._wrecked = False
        """SystemExit left a handler: its message is never finished, so nothing waits for it."""
        self.hooks = Hooks(loop, self.faults, self._wake)
        self._changed = asyncio.Event()
        self._made = False
        self.orders = Orders(self.lifecycle, self.drain_seconds, wiring.domain_end_seconds, self._wake)
        self.control = self._start_control(level)
        self.plane: Plane | None = None
        try:
            self.plane = link.make_plane(self.reactor)
            self.channels = Channels(wiring, self.plane, loop, on_error=self.faults.handler, wake=self._arrived)
            self.core = Core(
                target.cls.__new__(target.cls),
                wiring=wiring,
                replica=replica,
                module=target.module,
                loop=loop,
                reactor=self.reactor,
                channels=self.channels,
                on_timer_error=self.faults.timer,
                on_shutdown=self._asked_to_end,
                spawn=self.hooks.spawn,
                on_watch=self.control.watch,
                is_function=target.function is not None,
            )
        except BaseException:
            self._close_surroundings()
            raise
        self.flow = Flow(self.core, self.lifecycle)
        once = wiring.agent.run == "Once"
        self.function = FunctionRun(self.core, self.faults, self.lifecycle, once=once, changed=self._wake)
        self.orders.attach(self.core, self.control, self.gate)
        self._made = True

    def _start_control(self, level: DeclaredLevel) -> ControlThread:
        """Before anything binds: the thread answers ZAP."""
        # In the control thread alone: who hangs, or computes, is who must be made to tell more. In the main thread an earlier level would come
        # after a later one, and over what the agent's code has set meanwhile.
        self.gate.urgent(_nothing_more_to_do, level.declare)
        listener = ControlListener(
            on_joined=self._on_joined,
            on_directory=self._on_directory,
            on_command=self.orders.on_command,
            on_fatal=self._on_fatal,
            on_stay=self.orders.on_stay,
            on_log_level=_nothing_more_to_do,
            on_departure=self._on_departure,
        )
        # The gate is the part of a loop that the control thread uses; what it calls waits until the loop runs, when all is made.
        control = self.link.make_control(cast("asyncio.AbstractEventLoop", self.gate), self._report, listener)
        try:
            control.start()
        except BaseException:
            self.gate.close()
            self.reactor.close()
            self.link.close()
            raise
        return control

    @property
    def agent(self) -> Agent:
        """The user's object."""
        return self.core.agent

    def log_context(self) -> Mapping[str, str]:
        """Fields of the message whose handler runs, for log lines. Any thread."""
        if self._made and threading.get_ident() == self.core.thread:
            for alias, inlet in self.channels.inlets.items():
                current = inlet.current
                if current is not None:
                    return {"message_id": str(current), "alias": self.channels.called(alias)}
        return {}

    def run(self) -> int:
        """Start, run, end; everything is closed when it returns.

        Returns:
            The process's exit code.
        Raises:
            ConfigurationError: `__init__`, `on_init`, `before_loop` or a handler's definition is wrong, or the name server refused for good.
        """
        try:
            self.orders.watch_signals()
            if not self._complete(self._start()):
                # Told to end before it began: there is no function to wait for.
                self.core.function_returned()
            elif self.target.function is not None:
                self.function.run(self.target.function)
            self._complete(self._serve())
            self._check_refusal()
            return self.lifecycle.exit_code if self._fatal is None else EXIT_FAILED
        except ConfigurationError:
            if self._joined:
                # The name is free at once for the corrected life of this replica.
                self._complete(self.control.bye(False, BYE_SECONDS))
            raise
        finally:
            self._close()

    def _check_refusal(self) -> None:
        if self._fatal is not None and self._fatal.reason != CONTROL_FAILED:
            self._joined = False
            raise ConfigurationError(f"name server {self.wiring.name_server.name!r}: {self._fatal.reason}: {self._fatal.message}")

    def _complete(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        """Run to its end, whatever `sys.exit` a handler calls meanwhile."""
        task = self.loop.create_task(coroutine)
        while True:
            try:
                return self.loop.run_until_complete(task)
            except SystemExit as error:
                if task.done():
                    raise
                self._wrecked = True
                self.faults.exit_asked(error)

    # -- start

    async def _start(self) -> bool:
        """Whether the agent is running: false when it was told to end before."""
        agent = self.agent
        await self._configured("__init__", agent.__init__)  # type: ignore[misc]  # made without it, so that the runtime is there in it
        try:
            agent.set_attr(**self.wiring.agent.attributes)
        except AttributeError as error:
            raise ConfigurationError(f"attributes: {error}") from error
        await self._configured("on_init", agent.on_init)
        self._make_timers()
        for alias in self.channels.receiving:
            if self.channels.has_handler(alias) or self.target.function is None:
                self.channels.open_inlet(agent, self.target.module, alias)
        if not await self._known():
            return False
        await self._configured("before_loop", agent.before_loop)
        self.core.looping = True
        self.core.watched.start()
        for inlet in self.channels.inlets.values():
            inlet.start()
        self.core.timers.start()
        if type(agent).idle is not Agent.idle:
            self.hooks.watch_idle(agent.idle, lambda: self.channels.idle and not self.lifecycle.ending, lambda: self.channels.delivered)
        self._phase = "Ready"
        self.control.poke()
        return True

    def _make_timers(self) -> None:
        for timer in self.wiring.agent.timers:
            try:
                self.core.each(timer.period_seconds, timer.method, (), {}, alias=timer.name, delay=timer.initial_delay_seconds)
            except (HandlerError, ValueError) as error:
                raise ConfigurationError(f"timers[{timer.name}]: {error}") from error

    async def _configured(self, name: str, hook: Callable[[], Any]) -> None:
        """Run a hook whose exception means that this agent cannot work."""
        try:
            result = hook()
            if inspect.isawaitable(result):
                await result
        except Exception as error:
            log.debug("%s raised", name, exc_info=True)
            raise ConfigurationError(f"class: {self.wiring.agent.target!r}: {name} raised {where(error)}") from error

    async def _known(self) -> bool:
        """Wait for the name server's first directory; false when told to end before."""
        waiting = self.loop.call_later(WAITING_LINE_SECONDS, self._still_waiting)
        try:
            while not (self._joined and self._directory) and not self.lifecycle.ending and self._fatal is None:
                self._changed.clear()
                await self._changed.wait()
        finally:
            waiting.cancel()
        return not self.lifecycle.ending and self._fatal is None

    def _still_waiting(self) -> None:
        if not (self._joined and self._directory):
            log.info("waiting for %s", self.link.upstream)
            self.loop.call_later(WAITING_LINE_SECONDS, self._still_waiting)

    # -- serve

    async def _serve(self) -> None:
        while self.lifecycle.stage is not Stage.ENDED and self._fatal is None:
            self._look()
            look = self.loop.call_later(LOOK_SECONDS, self._wake) if self.lifecycle.ending or self.core.streams.pending else None
            self._changed.clear()
            await self._changed.wait()
            if look is not None:
                look.cancel()

    def _wake(self) -> None:
        self._changed.set()

    def _arrived(self) -> None:
        """A mailbox got something."""
        self.core.wake()

    def _look(self) -> None:
        """Streams that end, and the next stages of the end."""
        now = time.monotonic()
        streams = self.core.streams
        if streams.pending:
            for alias, inlet in self.channels.inlets.items():
                if streams.look(alias, now, idle=inlet.idle, delivered=inlet.delivered):
                    name = self.channels.called(alias)
                    log.info("channel %r: the stream has ended", name)
                    self.hooks.spawn(f"on_end({name!r})", functools.partial(self.agent.on_end, name))
                    self.core.wake()
        self._judge_end(now)
        if self.lifecycle.ending:
            self.flow.look(now)
            self.orders.stop_function_if_due()
            for stage in self.lifecycle.advance(now, self._facts()):
                self._enter(stage)
            self._show_phase()
            self.orders.arm_exit()

    def _show_phase(self) -> None:
        if self._phase != self.lifecycle.phase:
            self._phase = self.lifecycle.phase
            # Whether it may leave at once depends on what the name server answers.
            self.control.poke()

    def _judge_end(self, now: float) -> None:
        """When all inputs have ended nothing more will be sent, unless a timer, a hook or the function still does."""
        core = self.core
        quiet = (
            core.streams.all_ended and not core.streams.reopened and not self.hooks.busy and not core.in_function and len(core.timers) == 0
        )
        if quiet == self._nothing_more:
            return
        self._nothing_more = quiet
        self.control.poke()
        if quiet and self.wiring.agent.run == "Once":
            self.lifecycle.complete(now, "all streams have ended")

    def _facts(self) -> Facts:
        core = self.core
        idle = self._wrecked or self.channels.idle
        return Facts(
            sources_done=not core.in_function,
            # Told to end before it began, it takes no input that it could wait for.
            inputs_at_rest=not core.looping or (core.streams.at_rest and idle),
            handlers_idle=idle and not core.timers.busy and not self.hooks.busy,
            outputs_at_rest=self.channels.at_rest,
            hook_done=self._hook_done,
            bye_done=self._bye_done,
        )

    def _enter(self, stage: Stage) -> None:
        log.debug("ending: %s", stage.name)
        match stage:
            case Stage.HANDLERS:
                self.core.timers.close()
                self.channels.stop_intake()
                for mailbox in self.channels.mailboxes.values():
                    mailbox.drop(HandedBack())
            case Stage.EXIT_HOOK:
                self.hooks.cancel()
                self.function.cancel()
                self.reactor.resume()
                self.hooks.spawn("on_exit", self._exit_hook)
            case Stage.LAST_FLUSH:
                if self.lifecycle.says_end:
                    for outlet in self.channels.outlets.values():
                        outlet.end()
            case Stage.BYE:
                if self.lifecycle.unsettled:
                    counts = ", ".join(f"{alias}: {count}" for alias, count in self.channels.unsettled().items())
                    log.warning("leaving with messages unsettled (%s)", counts or "unknown")
                self._phase = self.lifecycle.phase
                self.hooks.spawn("goodbye", self._bye)
            case _:
                pass
        self.core.flush()

    async def _exit_hook(self) -> None:
        try:
            result = self.agent.on_exit()
            if inspect.isawaitable(result):
                await result
        finally:
            self._hook_done = True

    async def _bye(self) -> None:
        try:
            await self.control.bye(self.lifecycle.completed, BYE_SECONDS)
        finally:
            self._bye_done = True

    def _asked_to_end(self, completed: bool) -> None:
        now = time.monotonic()
        if completed:
            self.lifecycle.complete(now, "shutdown() was called")
        else:
            self.lifecycle.leave(now, "stop() was called")
        self.orders.stop_function_if_due()
        self._wake()

    # -- news of the control thread

    def _on_joined(self, _epoch: str) -> None:
        self._joined = True
        self._wake()

    def _on_directory(self, peers: Mapping[str, Peer], channels: Mapping[str, ChannelState]) -> None:
        self._directory = True
        self.link.apply(peers, channels)
        self.flow.directory(peers.values(), time.monotonic())
        self.core.streams.directory(peers, channels)
        self._wake()

    def _on_departure(self, departure: Departure) -> None:
        self.core.watched.ended(departure)

    def _on_fatal(self, refuse: Refuse) -> None:
        self._fatal = refuse
        self.core.stop_function()
        self._wake()

    def _tick(self, now: float) -> None:
        """About every 100 ms, also while a handler blocks in a send or the agent's function waits."""
        if self.lifecycle.ending:
            self.lifecycle.expire(now)
            self._show_phase()
            self.flow.look(now)
            self.orders.stop_function_if_due()
            self.orders.arm_exit()
            if self.lifecycle.overdue(now):
                self.reactor.stop()
        if self.core.in_function and self.core.streams.pending:
            # `_serve` only runs when the function has returned.
            self._look()

    def _report(self) -> Report:
        """Control thread: reads only."""
        if not self._made:
            return Report()
        return build_report(
            self._phase, self.channels, self.core.streams, self.link.ports(), nothing_more=self._nothing_more, counter=self._counter
        )

    # -- close

    def _close(self) -> None:
        self.core.foreign.close()
        self.core.timers.close()
        self.channels.close(0.0)
        self._close_surroundings()
        pending = asyncio.all_tasks(self.loop)
        for task in pending:
            task.cancel()
        if pending:
            self.loop.run_until_complete(asyncio.gather(*pending, return_exceptions=True))
        self.loop.run_until_complete(self.loop.shutdown_asyncgens())

    def _close_surroundings(self) -> None:
        if self.plane is not None:
            self.plane.close()
        self.gate.close()
        self.reactor.close()
        # After the data plane, whose handshakes it answers, and before the context that both share.
        self.control.stop()
        self.link.close()
