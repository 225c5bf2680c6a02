"""A registry with a clock, and members that are spoken for."""

from __future__ import annotations

from collections.abc import Mapping

from ganglion.nameserver.registry import Registry
from ganglion.wire.admin import DeclaredAgent, DeclaredChannel, Domain
from ganglion.wire.control import (
    Beat,
    Bye,
    ChannelReport,
    Message,
    Part,
    Refuse,
    Report,
    decode,
)
from ganglion.wire.join import Join

PARTS = {"source": {"out": Part("lines", "Push")}, "worker": {"in": Part("lines", "Pull")}}


def declared(sources: int = 2, workers: int = 2, *, completed: int = 0, pattern: str = "PushPull", delivery: str = "AtLeastOnce") -> Domain:
    send, receive = ("Pub", "Sub") if pattern == "PubSub" else ("Push", "Pull")
    return Domain(
        agents={
            "source": DeclaredAgent(name="source", replicas=sources, run="Once", roles={"lines": [send]}, completed=completed),
            "worker": DeclaredAgent(name="worker", replicas=workers, roles={"lines": [receive]}),
        },
        channels={"lines": DeclaredChannel(name="lines", pattern=pattern, delivery=delivery)},  # type: ignore[arg-type]
    )


class Desk:
    """A registry with a clock and members that are spoken for."""

    def __init__(self, domain: Domain | None = None) -> None:
        self.now = 100.0
        self.registry = Registry(self.now)
        if domain is not None:
            self.registry.set_domain(domain, self.now)

    def said(self, session: str) -> list[Message]:
        """What was sent to a session since it was last asked; flushes first."""
        self.registry.flush()
        mine = [decode(frame) for target, frame in self.registry.outbox if target == session.encode()]
        self.registry.outbox = [entry for entry in self.registry.outbox if entry[0] != session.encode()]
        return mine

    def join(
        self,
        replica: str,
        *,
        session: str | None = None,
        uid: str = "uid",
        start: int = 1,
        issued: int = 10,
        key: str | None = None,
        user: str | None = None,
        rejoin: bool = False,
    ) -> Refuse | None:
        session = session or replica
        frame = Join(
            replica.split("-", maxsplit=1)[0], replica, uid, start, issued, (key or replica).ljust(40, "0"), "10.0.0.1", "", b"", rejoin
        )
        return self.registry.join(session.encode(), user or session, frame, issued, self.now)

    def beat(self, replica: str, parts: Mapping[str, Part] | None = None, *, session: str | None = None, **report: object) -> None:
        session = session or replica
        alias = next(iter(PARTS[replica.split("-", maxsplit=1)[0]]))
        whole = Report(phase="Ready", channels={alias: ChannelReport(**report)})  # type: ignore[arg-type]
        self.registry.beat(
            session.encode(),
            session,
            Beat(epoch=self.registry.epoch, seq=0, report=whole, parts=dict(parts or PARTS[replica.split("-", maxsplit=1)[0]])),
            self.now,
        )

    def report(self, replica: str, channels: Mapping[str, ChannelReport], *, session: str = "") -> None:
        """A beat with the reports of several aliases."""
        parts = PARTS[replica.split("-", maxsplit=1)[0]]
        whole = Report(phase="Ready", channels=dict(channels))
        beat = Beat(epoch=self.registry.epoch, seq=0, report=whole, parts=dict(parts))
        self.registry.beat((session or replica).encode(), session or replica, beat, self.now)

    def member(self, replica: str, **report: object) -> None:
        assert self.join(replica) is None
        self.beat(replica, **report)  # type: ignore[arg-type]

    def bye(self, replica: str, *, completed: bool = False, **report: object) -> None:
        alias = next(iter(PARTS[replica.split("-", maxsplit=1)[0]]))
        last = Report(channels={alias: ChannelReport(**report)})  # type: ignore[arg-type]
        self.registry.bye(replica.encode(), replica, Bye(report=last, completed=completed), self.now)

    def pass_time(self, seconds: float) -> None:
        for _ in range(int(seconds * 4)):
            self.now += 0.25
            self.registry.tick(self.now)

    def ended(self) -> bool:
        self.registry.flush()
        return self.registry.channels()[0].ended
