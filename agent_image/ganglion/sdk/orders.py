"""Orders from outside: commands of the name server and signals.

Each has an urgent half that runs in the control thread, because the main one may be computing for longer than it is given: it arms the
forced exit and tells a function to stop.
"""

from __future__ import annotations

import logging
import math
import signal
import time
from collections.abc import Callable
from typing import Any

from ganglion.runtime.control import ControlThread
from ganglion.sdk.core import Core
from ganglion.sdk.gate import Gate
from ganglion.sdk.lifecycle import EXIT_FAILED, Lifecycle
from ganglion.wire.control import Command, tarry_seconds

log = logging.getLogger(__name__)

EXIT_INTERRUPTED_TWICE = 130
"""128 + SIGINT."""
LATE_SECONDS = 0.5
"""The control thread stops a function so much later than the main one does when it turns."""


class Orders:
    """See the module.

    Args:
        lifecycle: told what to do.
        drain_seconds: bound of leaving.
        domain_seconds: bound of the domain's end, when a signal is a part of it.
        changed: called when the process should look at its lifecycle.
    """

    def __init__(self, lifecycle: Lifecycle, drain_seconds: float, domain_seconds: float, changed: Callable[[], Any]) -> None:
        self._lifecycle = lifecycle
        self._drain = drain_seconds
        self._domain = domain_seconds
        self._changed = changed
        self._core: Core | None = None
        self._control: ControlThread | None = None
        self._interrupts = 0
        self._exit_at = math.inf
        self._armed_for = math.inf

    def attach(self, core: Core, control: ControlThread, gate: Gate) -> None:
        """Whose function is stopped, the thread that forces the exit, and the gate that calls the urgent halves."""
        self._core = core
        self._control = control
        gate.urgent(self.on_command, self._urgent_command)
        gate.urgent(self.on_signal, self._urgent_signal)

    def watch_signals(self) -> None:
        """SIGTERM and SIGINT are ours from now on."""
        if self._control is not None:
            self._control.watch_signals({signal.SIGTERM, signal.SIGINT}, self.on_signal)

    # -- main thread

    def on_command(self, command: Command) -> None:
        """A command of the name server or the sidecar."""
        log.info(
            "told to %s within %.0f s%s", command.kind.lower(), command.deadline_seconds, f": {command.reason}" if command.reason else ""
        )
        now = time.monotonic()
        if command.kind == "Shutdown":
            self._flow(now, command)
        else:
            self._lifecycle.leave(now, command.reason, seconds=command.deadline_seconds, tarry=self._has_senders)
        self._changed()

    def _flow(self, now: float, command: Command) -> None:
        core = self._core
        if core is not None:
            core.streams.set_loops(command.loops)
        # A function that was told to stop reads no mailbox any more.
        handled = core is not None and not core.channels.mailboxes
        if self._lifecycle.flow(now, command.deadline_seconds, command.reason, back=handled) and core is not None:
            core.channels.resume_intake()

    def on_signal(self, number: int) -> None:
        """SIGTERM or SIGINT."""
        name = signal.Signals(number).name
        log.info("%s: leaving within %.0f s", name, self._drain)
        self._lifecycle.leave(time.monotonic(), name, gentle=True, tarry=self._has_senders)
        self._changed()

    def on_stay(self, stay: bool) -> None:
        """The name server's answer to an agent that leaves: whether nobody else would take what is sent to it."""
        if not stay and self._lifecycle.relieve(time.monotonic()):
            log.info("others take what is sent here: leaving at once")
            self._changed()

    @property
    def _has_senders(self) -> bool:
        """Any thread. Publishers do not wait for subscribers."""
        return self._core is not None and self._core.looping and self._core.streams.awaited

    def stop_function_if_due(self) -> None:
        """A source stops at once; a function that receives goes on until its senders are at rest."""
        core = self._core
        if core is None or not self._lifecycle.ending or core.stopping:
            return
        if self._lifecycle.in_flow and core.channels.receiving and not (core.streams.at_rest and core.channels.idle):
            return
        core.stop_function()

    def arm_exit(self) -> None:
        """Bring the forced exit to what the lifecycle says now."""
        at = self._lifecycle.forced_at
        if at not in (self._armed_for, math.inf) and self._control is not None:
            self._armed_for = self._exit_at = at
            self._control.force_exit_after(max(0.0, at - time.monotonic()), EXIT_FAILED)

    # -- control thread

    def _urgent_command(self, command: Command) -> None:
        leave = command.kind == "Leave"
        self._force_exit(command.deadline_seconds + (0.0 if leave else self._drain))
        if leave:
            self._stop_function(command.deadline_seconds)
            return
        if self._control is not None:
            self._control.call_after(None)
        if self._core is not None and not self._core.channels.receiving:
            self._core.stop_function()

    def _stop_function(self, seconds: float) -> None:
        """Told to leave within so many seconds: stop the function at once, or when it has tarried."""
        if self._core is None or self._control is None:
            return
        if self._lifecycle.may_tarry and self._has_senders:
            # The main thread does it in time, unless the function computes.
            self._control.call_after(tarry_seconds(seconds) + LATE_SECONDS, self._core.stop_function)
        else:
            self._core.stop_function()

    def _urgent_signal(self, number: int) -> None:
        self._interrupts += number == signal.SIGINT
        if self._interrupts > 1 and self._control is not None:
            self._control.force_exit_after(0.0, EXIT_INTERRUPTED_TWICE)
            return
        alone = self._lifecycle.may_tarry or not self._lifecycle.in_flow
        self._force_exit(self._drain if alone else self._domain)
        if alone:
            self._stop_function(self._drain)

    def _force_exit(self, seconds: float) -> None:
        at = time.monotonic() + seconds
        if at < self._exit_at and self._control is not None:
            self._exit_at = at
            self._control.force_exit_after(seconds, EXIT_FAILED)
