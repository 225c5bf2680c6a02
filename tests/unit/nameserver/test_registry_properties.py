"""Random lives of a domain: whatever happens, every member's directory is exactly what it should see."""

from __future__ import annotations

from dataclasses import dataclass, field

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from ganglion.nameserver.registry import LEASE_SECONDS, Registry
from ganglion.runtime.directory import DirectoryMirror
from ganglion.wire.admin import DeclaredAgent, DeclaredChannel, Domain
from ganglion.wire.control import Beat, Bye, ByeAck, ChannelReport, Directory, Part, Refuse, Report, Welcome, decode
from ganglion.wire.join import Join

ROLES = {
    "source": {"out": Part("lines", "Push")},
    "worker": {"in": Part("lines", "Pull"), "result": Part("words", "Push"), "letters": Part("dead", "Push")},
    "sink": {"in": Part("words", "Pull"), "letters": Part("dead", "Pull")},
    "loop": {"a": Part("lines", "Push"), "b": Part("lines", "Pull"), "c": Part("lines", "Push")},
    "idle": {},
}
agents = st.sampled_from(sorted(ROLES))
slots = st.integers(0, 2)


@dataclass
class Client:
    """A replica as the test knows it."""

    agent: str
    replica: str
    session: bytes
    start: int
    key: str
    report: Report
    mirror: DirectoryMirror = field(default_factory=DirectoryMirror)
    welcomed: bool = False
    silent: bool = False


def domain(replicas: int = 3, *, without: str = "") -> Domain:
    declared = {}
    for agent, parts in ROLES.items():
        roles: dict[str, list[str]] = {}
        for part in parts.values():
            roles.setdefault(part.channel, [])
            if part.role not in roles[part.channel]:
                roles[part.channel].append(part.role)
        if agent != without:
            declared[agent] = DeclaredAgent(name=agent, replicas=replicas, roles=roles)
    return Domain(agents=declared, channels={name: DeclaredChannel(name=name, pattern="PushPull") for name in ("lines", "words", "dead")})


class Lives(RuleBasedStateMachine):
    """See the module."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 1000.0
        self.registry = Registry(self.now, epoch="e")
        self.clients: dict[str, Client] = {}
        self.lives = 0

    @initialize()
    def declare(self) -> None:
        self.registry.set_domain(domain(), self.now)

    def deliver(self) -> None:
        by_session = {client.session: client for client in self.clients.values()}
        for session, frame in self.registry.outbox:
            client = by_session.get(session)
            if client is None:
                continue
            message = decode(frame)
            match message:
                case Welcome():
                    client.welcomed = True
                    client.mirror.enter(message.epoch, self.now, LEASE_SECONDS)
                case Directory():
                    assert client.mirror.apply(message), "a gap without a loss"
                case Refuse():
                    client.welcomed = False
        self.registry.outbox.clear()

    def beat(self, client: Client, *, parts: bool = False) -> None:
        self.registry.beat(
            client.session,
            client.key,
            Beat(epoch="e", seq=client.mirror.seq, report=client.report, parts=ROLES[client.agent] if parts else {}),
            self.now,
        )

    @rule(agent=agents, slot=slots, port=st.integers(0, 3))
    def join(self, agent: str, slot: int, port: int) -> None:
        self.lives += 1
        replica = f"{agent}-{slot}"
        report = Report(channels={alias: ChannelReport(port=port) for alias in ROLES[agent]})
        key = f"{self.lives:040d}"
        client = Client(agent, replica, f"s{self.lives}".encode(), self.lives, key, report)
        join = Join(agent, replica, "uid", self.lives, 1, key, "10.0.0.1", "", b"")
        assert self.registry.join(client.session, key, join, 0, self.now) is None
        self.clients[replica] = client
        self.deliver()
        self.beat(client, parts=True)
        self.deliver()

    def alive(self) -> list[Client]:
        return [client for _, client in sorted(self.clients.items()) if client.welcomed and not client.silent]

    @precondition(lambda self: self.alive())
    @rule(data=st.data(), port=st.integers(0, 3), wired=st.integers(0, 2), ended=st.booleans())
    def report(self, data: st.DataObject, port: int, wired: int, ended: bool) -> None:
        client = data.draw(st.sampled_from(self.alive()))
        parts = {alias: ChannelReport(port=port, wired=wired, ended=ended) for alias in ROLES[client.agent]}
        client.report = Report(phase="Ready", channels=parts)
        self.beat(client)
        self.deliver()

    @precondition(lambda self: self.alive())
    @rule(data=st.data())
    def reconnect(self, data: st.DataObject) -> None:
        client = data.draw(st.sampled_from(self.alive()))
        self.lives += 1
        client.session = f"s{self.lives}".encode()
        join = Join(client.agent, client.replica, "uid", client.start, 1, client.key, "10.0.0.1", "", b"", rejoin=True)
        assert self.registry.join(client.session, client.key, join, 0, self.now) is None
        self.deliver()
        self.beat(client, parts=True)
        self.deliver()

    @precondition(lambda self: self.alive())
    @rule(data=st.data(), completed=st.booleans())
    def goodbye(self, data: st.DataObject, completed: bool) -> None:
        client = data.draw(st.sampled_from(self.alive()))
        self.registry.bye(client.session, client.key, Bye(report=client.report, completed=completed), self.now)
        assert any(isinstance(decode(frame), ByeAck) for session, frame in self.registry.outbox if session == client.session)
        self.deliver()
        del self.clients[client.replica]

    @precondition(lambda self: self.alive())
    @rule(data=st.data())
    def fall_silent(self, data: st.DataObject) -> None:
        data.draw(st.sampled_from(self.alive())).silent = True

    @rule(seconds=st.floats(0.1, 1.5))
    def time_passes(self, seconds: float) -> None:
        for _ in range(12):
            self.now += seconds
            for client in self.alive():
                self.beat(client)
            gone = {member.replica for member in self.registry.tick(self.now)}
            assert all(self.clients[replica].silent for replica in gone), "a beating member was dropped"
            for replica in gone:
                del self.clients[replica]
            self.deliver()

    @rule(replicas=st.integers(1, 4))
    def scale(self, replicas: int) -> None:
        self.registry.set_domain(domain(replicas), self.now)
        self.deliver()

    @precondition(lambda self: self.alive())
    @rule(data=st.data())
    def lose_a_directory(self, data: st.DataObject) -> None:
        client = data.draw(st.sampled_from(self.alive()))
        client.mirror.seq = 0
        self.registry.asks_snapshot(client.session)

    @invariant()
    def directories_are_exact(self) -> None:
        self.registry.flush()
        assert not self.registry.pending
        self.deliver()
        assert {member.replica for member in self.registry.members()} == {replica for replica, c in self.clients.items() if c.welcomed}
        for client in self.alive():
            mine = {(part.channel, part.role) for part in ROLES[client.agent].values()}
            expected: dict[str, set[tuple[str, str, int]]] = {}
            for other in self.clients.values():
                if not other.welcomed:
                    continue
                for alias, part in ROLES[other.agent].items():
                    if any(channel == part.channel and role != part.role for channel, role in mine):
                        port = other.report.channels[alias].port
                        expected.setdefault(other.replica, set()).add((part.channel, part.role, port))
            seen = {
                replica: {(channel, entry.role, entry.port) for channel, first in peer.channels.items() for entry in (first, *first.also)}
                for replica, peer in client.mirror.peers.items()
            }
            assert seen == expected
            assert {peer.key for peer in client.mirror.peers.values()} == {self.clients[replica].key for replica in expected}

    @invariant()
    def ends_are_exact(self) -> None:
        for channel in ("lines", "words"):
            senders = [
                client.report.channels[alias].ended
                for client in self.clients.values()
                if client.welcomed
                for alias, part in ROLES[client.agent].items()
                if part.channel == channel and part.role == "Push"
            ]
            for client in self.alive():
                state = client.mirror.channels.get(channel)
                if state is not None and state.ended:
                    assert all(senders), "ended over a live sender that has not"

    @invariant()
    def fences_hold(self) -> None:
        for replica, client in self.clients.items():
            if client.start > 1 and client.welcomed:
                join = Join(client.agent, replica, "uid", client.start - 1, 1, "z" * 40, "10.0.0.1", "", b"")
                refuse = self.registry.join(b"old", "old", join, 0, self.now)
                assert refuse is not None
                assert refuse.reason == "Fenced"
                assert not refuse.retry
        self.registry.outbox.clear()


TestLives = Lives.TestCase
TestLives.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
