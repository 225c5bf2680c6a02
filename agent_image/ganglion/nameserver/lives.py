"""Lives of replicas, and who hears of their ends. Pure: time is an argument (monotonic seconds).

Behind a sidecar a replica lives as long as its agent process, whichever sidecar is beside it; else as long as its runtime.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping

from ganglion.nameserver.member import Member
from ganglion.wire.admin import Domain
from ganglion.wire.control import Ends
from ganglion.wire.departures import Lives, Reason, WatchBook


def life_of(member: Member) -> str | None:
    """Id of the life that a replica is in; None: its agent has not come, or has gone."""
    report = member.report
    if member.claimed is None or report.goodbye or report.process == "":
        return None
    who = member.incarnation
    # A sidecar that was killed takes no agent with it.
    text = f"{who.uid}/{who.start}" if report.process is None else f"{who.uid}/{report.process}"
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


class LifeBook:
    """See the module.

    Args:
        now: the name server's start.
        lease: seconds.
        settle: seconds after which a name that nobody has is unknown.
        say: (session, message) to a member.
    """

    def __init__(self, now: float, *, lease: float, settle: float, say: Callable[[bytes, Ends], None]) -> None:
        self._lease = lease
        self._say = say
        self._watches = WatchBook(now, lease, settle)
        self._lives: dict[str, Lives] = {}
        """Lives by replica, by agent."""
        self._returning: dict[str, tuple[str, str, float]] = {}
        """Replicas whose sidecar was replaced: agent, life, and until when its agent process is waited for."""

    def opened(self, now: float) -> None:
        """Members can come only from now on."""
        self._watches.opened(now)

    def reported(self, member: Member) -> None:
        """A member was told of, or has said a report."""
        agent, replica, now_in = member.agent, member.replica, life_of(member)
        waited = self._returning.get(replica)
        if waited is not None:
            if now_in is None and not member.report.goodbye:
                return
            del self._returning[replica]
        before = self._lives.get(agent, {}).get(replica)
        if before == now_in:
            return
        if now_in is not None:
            self._lives.setdefault(agent, {})[replica] = now_in
        if before is not None:
            if now_in is None:
                self._drop(agent, replica)
            self._tell(agent, replica, before, "Shutdown" if member.report.goodbye else "Killed")

    def left(self, member: Member, reason: Reason, now: float, *, returns: bool = False) -> None:
        """A member's lease has ended.

        Args:
            returns: another sidecar has come in its place; the agent process may still be there.
        """
        agent, replica = member.agent, member.replica
        self._watches.forget(replica)
        life = self._lives.get(agent, {}).get(replica)
        if life is None:
            return
        if returns and member.report.process:
            self._returning[replica] = (agent, life, now + self._lease)
            return
        self._returning.pop(replica, None)
        self._drop(agent, replica)
        self._tell(agent, replica, life, reason)

    def tick(self, now: float) -> None:
        """Agents that did not come to their new sidecar have ended."""
        for replica in [replica for replica, (_, _, until) in self._returning.items() if until <= now]:
            agent, life, _ = self._returning.pop(replica)
            self._drop(agent, replica)
            self._tell(agent, replica, life, "LeaseEnded")

    def wants(self, member: Member, wanted: Mapping[str, Lives], now: float, domain: Domain | None, *, goes_on: bool) -> None:
        """A member has said whom it watches.

        Args:
            domain: what is declared; None: not known yet.
            goes_on: this is in addition to what it said before.
        """

        def living(name: str) -> Lives | None:
            found = self._lives.get(name)
            if found is not None:
                return dict(found)
            agent, _, index = name.rpartition("-")
            if name in self._lives.get(agent, {}):
                return {name: self._lives[agent][name]}
            if domain is None or name in domain.agents:
                return {}
            declared = domain.agents.get(agent)
            return {} if declared is not None and index.isdecimal() and int(index) < declared.replicas else None

        news = self._watches.wants(member.replica, member.session, wanted, now, living, goes_on=goes_on)
        if news:
            self._say(member.session, Ends(news=news))

    def _drop(self, agent: str, replica: str) -> None:
        lives = self._lives[agent]
        del lives[replica]
        if not lives:
            del self._lives[agent]

    def _tell(self, agent: str, replica: str, life: str, reason: Reason) -> None:
        for session, news in self._watches.departed((agent, replica), replica, life, reason):
            self._say(session, Ends(news=[news]))
