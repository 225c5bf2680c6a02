"""Copies of templates that programs ask for: which are wanted, and until when. Pure: time is an argument (monotonic seconds).

The list of them is `NameServer.status.copies`, and the only thing that outlives a name server. Whose agent a copy is follows from its name.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, NamedTuple

from ganglion.wire.admin import Copy, Domain
from ganglion.wiring.copies import copy_name

ASKED_SECONDS = 15.0
"""A program asks about every second while it waits; who has not asked for so long waits no more."""
RESTART_SECONDS = 30.0
"""After a start of the name server or of its directory: agents are heard again within a few beats, and programs ask again."""
_PAUSE_SECONDS = 2.0


class Answer(NamedTuple):
    """To a program that asks.

    Attributes:
        state: `Waiting`: ask again. `Ending`: the same, while a former copy is removed. `Refused`: the spec does not allow it.
            `Failed`: the copy has ended before its agent was there.
        text: for people.
    """

    state: Literal["Waiting", "Ending", "Refused", "Failed"]
    text: str = ""


@dataclass(slots=True)
class _Wanted:
    template: str
    until: float
    """As long as its agent is not there."""
    here: bool = False


class Copies:
    """See the module.

    Args:
        nameserver: `namespace/name`, for texts.
    """

    def __init__(self, nameserver: str) -> None:
        self._nameserver = nameserver
        self._domain: Domain | None = None
        self._wanted: dict[str, _Wanted] = {}
        self._last = 0.0
        self.refused = 0
        """Asks that were refused."""

    def declare(self, domain: Domain, now: float) -> None:
        """What the spec allows now. The first time the list of the name server before this one is taken over."""
        if self._domain is None:
            self._wanted = {copy.name: _Wanted(copy.template, now + RESTART_SECONDS) for copy in domain.copies}
            self._last = now
        self._domain = domain
        if domain.deleting or domain.templates is None:
            # They end with the domain, in order; what is not understood ends nobody.
            return
        room = {name: template.max_copies for name, template in domain.templates.items()}
        for name, wanted in list(self._wanted.items()):
            room[wanted.template] = room.get(wanted.template, 0) - 1
            if room[wanted.template] < 0:
                del self._wanted[name]

    def ask(self, agent: str, template: str, now: float) -> Answer:
        """A program waits for an agent that runs in a copy of a template.

        Args:
            agent: name under which programs know it.
        """
        domain = self._domain
        if domain is None:
            return Answer("Waiting", "the name server does not know its domain yet")
        name = copy_name(template, agent)
        declared = domain.agents.get(name)
        wanted = self._wanted.get(name)
        if wanted is not None:
            wanted.until = now + ASKED_SECONDS
            if declared is not None and declared.over and not wanted.here:
                return Answer("Failed", f"Agent {name!r}: {declared.problem or 'it ended before its agent was there'}")
            return Answer("Waiting", f"Agent {name!r}: {declared.problem or 'starting' if declared is not None else 'not made yet'}")
        problem = self._problem(domain, template)
        if problem:
            self.refused += 1
            return Answer("Refused", f"NameServer {self._nameserver}: {problem}")
        if declared is not None:
            if declared.template != template:
                self.refused += 1
                return Answer("Refused", f"Agent {name!r} exists and is no copy of {template!r}; delete it")
            # It must be seen to be gone first: whoever makes copies could miss that it was asked for no more for a moment.
            return Answer("Ending", f"Agent {name!r}: a former copy is being removed")
        self._wanted[name] = _Wanted(template, now + ASKED_SECONDS)
        return Answer("Waiting", f"Agent {name!r}: not made yet")

    def _problem(self, domain: Domain, template: str) -> str:
        if domain.deleting:
            return "it is being deleted"
        if domain.templates is None:
            return "its spec has fields or values that this name server does not know; use an image that knows its schema"
        allowed = domain.templates.get(template)
        if allowed is None:
            return f"spec.templates does not list {template!r}; add `{{name: {template}, maxCopies: ...}}`"
        if allowed.problem:
            return allowed.problem
        if sum(wanted.template == template for wanted in self._wanted.values()) >= allowed.max_copies:
            return f"spec.templates allows {allowed.max_copies} copies of {template!r}, and as many exist; raise its maxCopies, or shut one down"
        return ""

    def forget(self, agent: str, template: str) -> None:
        """The program that asked has given up, unless the agent is there."""
        wanted = self._wanted.get(copy_name(template, agent))
        if wanted is not None and not wanted.here:
            del self._wanted[copy_name(template, agent)]

    def heard(self, here: Iterable[str]) -> None:
        """The directory tells whose agents are there: all of them. Copies whose agent was there and has gone are wanted no more."""
        present = frozenset(here)
        for name, wanted in list(self._wanted.items()):
            if name in present:
                wanted.here = True
            elif wanted.here:
                del self._wanted[name]

    def silence(self, now: float) -> None:
        """The directory begins anew: that it knows nobody yet means nothing."""
        for wanted in self._wanted.values():
            # Also who waits: nobody could ask while no directory listened.
            wanted.here, wanted.until = False, max(wanted.until, now + RESTART_SECONDS)

    def tick(self, now: float) -> None:
        """Forget what nobody has asked for again and never came. Call it about ten times a second."""
        pause, self._last = now - self._last, now
        if pause > _PAUSE_SECONDS:
            # We stood still, not they: what they say waits in our pipe.
            for wanted in self._wanted.values():
                wanted.until += pause
        for name, wanted in list(self._wanted.items()):
            if not wanted.here and wanted.until <= now:
                del self._wanted[name]

    def listed(self) -> list[Copy]:
        """The list to publish; not before `declare`: a list that is not known yet is not empty."""
        return [Copy(name=name, template=wanted.template) for name, wanted in self._wanted.items()]
