"""How an agent ends: stages, bounds and exit codes. Pure: time is an argument (monotonic seconds).

An agent ends for one of three causes, and a later one may only be more urgent:

- COMPLETE: it ended itself (`run: Once` returned, `shutdown()`). Nothing hurries it.
- FLOW: the whole domain ends. Sources stop; a receiver takes input until its senders are at rest. Then as LEAVE.
- LEAVE: this replica goes (scale-down, rollout, signal). Intake stops now; what was not started is handed back.

All run through the same stages; a stage ends when its condition holds or its bound has passed.
"""

from __future__ import annotations

import enum
import math
from dataclasses import dataclass

from ganglion.wire.control import Phase, tarry_seconds

COMPLETE_SECONDS = 3600.0
"""A finished `run: Once` process waits so long for its last acknowledgements (e.g. for a receiver that is still being scheduled)."""
CUT_FLUSH_SECONDS = 0.5
"""What `on_exit` sent gets so long when other messages cannot be settled any more."""
BYE_SECONDS = 2.0
"""Bound of the goodbye: the lease ends by itself too."""
EXIT_FAILED = 1
EXIT_INTERRUPTED = 143
"""128 + SIGTERM: a `run: Once` replica was asked to leave before it had finished; its work is not done."""


class Cause(enum.IntEnum):
    """Why the agent ends, in order of urgency."""

    NONE = 0
    COMPLETE = 1
    TARRY = 2
    """About to leave; becomes FLOW when it turns out that the domain ends, else LEAVE."""
    FLOW = 3
    LEAVE = 4


class Stage(enum.IntEnum):
    """What is waited for."""

    RUNNING = 0
    SOURCES = 1
    """The agent's function returns."""
    INPUTS = 2
    """TARRY and FLOW: all senders are at rest and what they sent is handled."""
    HANDLERS = 3
    """Intake has stopped; running handlers and timers end, causal acknowledgements are through."""
    FLUSH = 4
    """Outputs are settled, and handlers of replies have ended."""
    EXIT_HOOK = 5
    """`on_exit` returns."""
    LAST_FLUSH = 6
    """What `on_exit` sent is settled."""
    BYE = 7
    """The goodbye is acknowledged."""
    ENDED = 8


@dataclass(frozen=True, slots=True)
class Facts:
    """What the driver sees; each is true when the stage of that name may end."""

    sources_done: bool = False
    inputs_at_rest: bool = False
    handlers_idle: bool = False
    outputs_at_rest: bool = False
    hook_done: bool = False
    bye_done: bool = False


class Lifecycle:
    """One agent process's way to its end.

    Args:
        once: `run: Once`.
        drain_seconds: bound of leaving, when no command says another.
        domain_seconds: bound of the domain's end, from the moment in which this replica is told to leave as a part of it.
    """

    def __init__(self, *, once: bool, drain_seconds: float, domain_seconds: float) -> None:
        self.cause = Cause.NONE
        self.stage = Stage.RUNNING
        self.reason = ""
        self.completed = False
        """`run: Once`: the work is done and nothing it sent is unsettled; meaningful from BYE on."""
        self.unsettled = False
        """A flush ran into its bound."""
        self._once = once
        self._drain = drain_seconds
        self._domain = max(drain_seconds, domain_seconds)
        self._code = 0
        self._own_end = False
        self._domain_ends = False
        self._cut = False
        self._outside = False
        """A signal or a command said to leave."""
        self._told_at = math.inf
        """When it first did: in a cluster the pod is killed so long after that."""
        self._flow_by = math.inf
        """TARRY and FLOW become LEAVE."""
        self._soft = math.inf
        self._hook_by = math.inf
        self._last = math.inf
        self._bye_by = math.inf
        self.forced_at = math.inf
        """When the process must be gone, whatever it does."""

    @property
    def ending(self) -> bool:
        """Told to end, for whatever cause."""
        return self.cause is not Cause.NONE

    @property
    def in_flow(self) -> bool:
        """Input is still taken, until the senders are at rest."""
        return self.cause in (Cause.TARRY, Cause.FLOW) and not self._own_end

    @property
    def may_tarry(self) -> bool:
        """An order to leave may turn out to be a part of the domain's end."""
        return self.cause in (Cause.NONE, Cause.TARRY) and not self._domain_ends

    @property
    def says_end(self) -> bool:
        """Outlets end their streams: no other life of this replica will send what this one has not."""
        return self.cause in (Cause.COMPLETE, Cause.FLOW)

    def overdue(self, now: float) -> bool:
        """User code that blocks in a send has had its time: the send must give up."""
        if self.stage in (Stage.RUNNING, Stage.ENDED):
            return False
        return now >= (self._soft if self.stage < Stage.EXIT_HOOK else self._hook_by)

    @property
    def phase(self) -> Phase:
        """As reported, once ending."""
        if self.stage is Stage.ENDED:
            return "Stopped"
        return "AtRest" if self.stage is Stage.BYE and not self.unsettled else "Draining"

    @property
    def exit_code(self) -> int:
        """Code of the process; meaningful at ENDED."""
        if self._code:
            return self._code
        if self._own_end:
            return EXIT_FAILED if self._once and not self.completed else 0
        return EXIT_INTERRUPTED if self._once and self.cause is Cause.LEAVE else 0

    def complete(self, now: float, reason: str) -> None:
        """The agent ends itself."""
        self._own_end = True
        if self.cause is not Cause.NONE:
            return
        self._begin(Cause.COMPLETE, reason)
        self._soft = self._hook_by = self._last = now + COMPLETE_SECONDS

    def flow(self, now: float, seconds: float, reason: str, *, back: bool = False) -> bool:
        """The domain shuts down: with the flow for `seconds`, then leave.

        Args:
            back: a leave that was told from outside may turn out to be a part of it (a cascade deletes pods before their name server has
                spoken): while there is time, go back to taking input. The domain's bound, from that leave on, is kept.
        Returns:
            Whether intake, which has stopped, must be resumed.
        """
        self._domain_ends = True
        if self.cause is Cause.TARRY:
            self.cause = Cause.FLOW
            self._bound_flow(now, now + seconds)
            return False
        if self.cause is Cause.LEAVE and back and self._outside and self.stage < Stage.EXIT_HOOK and now < self._soft:
            self.cause = Cause.FLOW
            self._bound_flow(now, now + seconds)
            self._soft = self._hook_by = self._last = math.inf
            stopped = self.stage >= Stage.HANDLERS
            self.stage = min(self.stage, Stage.INPUTS)
            return stopped
        if self.cause >= Cause.FLOW:
            return False
        self._begin(Cause.FLOW, reason)
        self._bound_flow(now, now + seconds)
        return False

    def leave(
        self, now: float, reason: str, *, seconds: float | None = None, code: int = 0, gentle: bool = False, tarry: bool = False
    ) -> None:
        """This replica goes, within `seconds` (default: the drain bound).

        Args:
            code: exit code; the first that is not 0 wins.
            gentle: a shutdown with the flow that is under way goes on, within the domain's bound from now on (a signal that comes with it).
            tarry: senders are there that would wait for another receiver: go on until they are at rest, for a part of the time.
        """
        bound = self._drain if seconds is None else seconds
        self._code = self._code or code
        self._outside = (gentle or seconds is not None) and not self._code
        if self._outside:
            self._told_at = min(self._told_at, now)
        if gentle and self.cause is Cause.FLOW:
            self._bound_flow(now, self._flow_by)
            return
        if tarry and self.may_tarry:
            self.forced_at = min(self.forced_at, now + bound)
            self._flow_by = min(self._flow_by, now + tarry_seconds(bound))
            self._begin(Cause.TARRY, reason)
            return
        if self.cause is Cause.LEAVE and now + bound >= self.forced_at:
            return
        self._begin(Cause.LEAVE, reason)
        self._set_leave_bounds(now, min(bound, self.forced_at - now))

    def relieve(self, now: float) -> bool:
        """There is no reason to tarry. Returns whether it did."""
        if self.cause is not Cause.TARRY:
            return False
        self._flow_by = now
        self.expire(now)
        return True

    def expire(self, now: float) -> None:
        """Leave when the time for taking input is up. Call it often while the agent ends, also while a handler blocks in a send."""
        if self.cause in (Cause.TARRY, Cause.FLOW) and now >= self._flow_by:
            self.cause = Cause.LEAVE
            self._set_leave_bounds(now, max(0.0, min(self._drain, self.forced_at - now)))

    @property
    def may_cut(self) -> bool:
        """The domain ends, and waiting may turn out to be in vain."""
        return self._domain_ends and not self._cut and self.stage not in (Stage.RUNNING, Stage.ENDED)

    def cut_short(self, now: float, reason: str, *, seconds: float) -> None:
        """Waiting leads nowhere: leave as soon as what runs now has ended, or in so many seconds. `on_exit` has its time as ever."""
        if not self.may_cut:
            return
        self._cut = True
        soft = min(self._soft, now + seconds)
        self._begin(Cause.LEAVE, reason)
        self._set_leave_bounds(now, max(0.0, min(self._drain, self.forced_at - now)))
        self._soft = min(self._soft, soft)

    def _begin(self, cause: Cause, reason: str) -> None:
        self.cause = cause
        self.reason = self.reason or reason
        if self.stage is Stage.RUNNING:
            self.stage = Stage.SOURCES

    def _bound_flow(self, now: float, flow_by: float) -> None:
        # Told to leave before its domain's end was known, it was given less time than there is.
        self.forced_at = min(flow_by + self._drain, self._told_at + self._domain)
        self._flow_by = min(flow_by, max(self.forced_at - self._drain, now + (self.forced_at - now) / 2))

    def _set_leave_bounds(self, now: float, seconds: float) -> None:
        self._soft = now + 0.6 * seconds
        self._hook_by = now + 0.75 * seconds
        self._last = now + 0.85 * seconds
        # Looked at late, an end does not move.
        self.forced_at = min(self.forced_at, now + seconds)

    def advance(self, now: float, facts: Facts) -> list[Stage]:
        """Move on as far as the facts allow.

        Returns:
            The stages entered, in order; the driver does for each what it asks for, before the next call.
        """
        entered: list[Stage] = []
        if self.cause is Cause.TARRY and (facts.inputs_at_rest or self._own_end):
            self.relieve(now)
        self.expire(now)
        while self.stage not in (Stage.RUNNING, Stage.ENDED) and self._passed(now, facts):
            self.stage = Stage(self.stage + 1)
            entered.append(self.stage)
            if self.stage in (Stage.HANDLERS, Stage.EXIT_HOOK, Stage.LAST_FLUSH, Stage.BYE):
                # The facts are older than what entering such a stage starts.
                if self.stage is Stage.LAST_FLUSH and self._cut:
                    self._last = min(self._last, now + CUT_FLUSH_SECONDS)
                if self.stage is Stage.BYE:
                    self._bye_by = min(now + BYE_SECONDS, self._last + 0.6 * (self.forced_at - self._last))
                    self.completed = self._once and self._own_end and not self._code and not self.unsettled
                break
        return entered

    def _passed(self, now: float, facts: Facts) -> bool:
        match self.stage:
            case Stage.SOURCES:
                return facts.sources_done or now >= self._soft
            case Stage.INPUTS:
                return self.cause not in (Cause.TARRY, Cause.FLOW) or self._own_end or facts.inputs_at_rest
            case Stage.HANDLERS:
                return facts.handlers_idle or now >= self._soft
            case Stage.FLUSH:
                # A reply is an output's rest and its handler's start.
                return (facts.outputs_at_rest and facts.handlers_idle) or now >= self._soft
            case Stage.EXIT_HOOK:
                return facts.hook_done or now >= self._hook_by
            case Stage.LAST_FLUSH:
                if now >= self._last:
                    self.unsettled = not facts.outputs_at_rest
                    return True
                return facts.outputs_at_rest and facts.handlers_idle
            case Stage.BYE:
                return facts.bye_done or now >= self._bye_by
            case _:
                return False
