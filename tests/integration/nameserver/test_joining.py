"""Real name server processes, real members: joining, directories, restarts, the end."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from ganglion.wire.control import ChannelReport, Ledger, Report
from tests.support.nameserver import Members, NameServerProcess, members, pipeline
from tests.support.wait import wait_for

SOURCE = {"out": ("lines", "Push")}
WORKER = {"in": ("lines", "Pull")}


@pytest.fixture
def directory() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="gns") as path:
        yield Path(path)


@pytest.fixture
def server(directory: Path) -> Iterator[NameServerProcess]:
    process = NameServerProcess(directory)
    try:
        yield process.start(pipeline(workers=2))
    finally:
        process.close()


@pytest.fixture
def join(server: NameServerProcess) -> Iterator[Members]:
    with members(server) as factory:
        yield factory


def _listening(port: int, **other: object) -> Report:
    return Report(phase="Ready", channels={"out": ChannelReport(port=port, **other)})  # type: ignore[arg-type]


def test_members_see_exactly_the_opposite_role(server: NameServerProcess, join: Members) -> None:
    source = join("source-0", SOURCE).joined()
    one, two = join("worker-0", WORKER).joined(), join("worker-1", WORKER).joined()
    source.say(_listening(7600))
    wait_for(lambda: set(source.heard.peers) == {"worker-0", "worker-1"}, what="workers at the source")
    for worker in (one, two):
        wait_for(lambda worker=worker: worker.heard.peers["source-0"].channels["lines"].port == 7600, what="the source's port")  # type: ignore[misc]
        assert set(worker.heard.peers) == {"source-0"}
    peer = one.heard.peers["source-0"]
    assert (peer.key, peer.host, peer.phase) == (source.keys.public, "127.0.0.1", "Ready")
    assert one.heard.channels["lines"].declared_senders == 1
    assert one.heard.channels["lines"].declared_receivers == 2
    status = server.admin.status()
    assert [(agent.name, agent.joined) for agent in status.agents] == [("source", 1), ("worker", 2)]


def test_goodbye_takes_effect_without_the_lease(server: NameServerProcess, join: Members) -> None:
    source, worker = join("source-0", SOURCE).joined(), join("worker-0", WORKER).joined()
    wait_for(lambda: "worker-0" in source.heard.peers, what="the worker")
    assert worker.bye()
    wait_for(lambda: not source.heard.peers, what="the worker's departure")
    assert "worker-0: lease over" not in server.log.read_text()


def test_lease_of_a_silent_member_ends(server: NameServerProcess, join: Members) -> None:
    source, worker = join("source-0", SOURCE).joined(), join("worker-0", WORKER).joined()
    wait_for(lambda: "worker-0" in source.heard.peers, what="the worker")
    worker.close()
    wait_for(lambda: not source.heard.peers, what="the end of the lease", timeout=30)


def test_restart_is_invisible(server: NameServerProcess, join: Members) -> None:
    source = join("source-0", SOURCE).joined()
    workers = [join(f"worker-{index}", WORKER).joined() for index in range(2)]
    wait_for(lambda: len(source.heard.peers) == 2, what="workers")
    keys = {replica: peer.key for replica, peer in source.heard.peers.items()}
    source.heard.smallest = 2
    server.kill()
    wait_for(lambda: source.heard.lost, what="loss of the connection")
    assert len(source.heard.peers) == 2
    server.start(pipeline(workers=2))
    wait_for(lambda: all(len(member.heard.epochs) == 2 for member in (source, *workers)), what="members back")
    wait_for(lambda: len(server.admin.status().members) == 3, what="a full registry")
    source.say(_listening(7700))
    for worker in workers:
        wait_for(lambda worker=worker: worker.heard.peers["source-0"].channels["lines"].port == 7700, what="news after the restart")  # type: ignore[misc]
    assert source.heard.smallest == 2, "a peer vanished from the directory"
    assert {replica: peer.key for replica, peer in source.heard.peers.items()} == keys


def test_peers_that_died_with_the_name_server_are_let_go(server: NameServerProcess, join: Members) -> None:
    source, worker = join("source-0", SOURCE).joined(), join("worker-0", WORKER).joined()
    wait_for(lambda: "worker-0" in source.heard.peers, what="the worker")
    server.kill()
    worker.close()
    server.start(pipeline())
    wait_for(lambda: len(source.heard.epochs) == 2, what="the source back")
    wait_for(lambda: not source.heard.peers, what="the worker let go", timeout=40)


def test_end_of_stream_survives_a_restart(server: NameServerProcess, join: Members) -> None:
    source, worker = join("source-0", SOURCE).joined(), join("worker-0", WORKER).joined()
    source.say(_listening(7600, sent=Ledger(accepted=5, acked=5), ended=True))
    wait_for(lambda: worker.heard.channels["lines"].ended, what="the end")
    worker.say(Report(phase="Ready", channels={"in": ChannelReport(delivered=5, ended=True)}))
    wait_for(lambda: server.admin.status().channels[0].delivered == 5, what="the worker's report")
    assert source.bye(completed=True)
    server.kill()
    server.start(pipeline())
    wait_for(lambda: len(worker.heard.epochs) == 2, what="the worker back")
    late = join("worker-1", WORKER).joined()
    wait_for(lambda: late.heard.channels["lines"].ended, what="the end, told to a late receiver")


def test_counts_keep_what_completed_replicas_did(server: NameServerProcess, join: Members) -> None:
    source = join("source-0", SOURCE).joined()
    source.say(_listening(7600, sent=Ledger(accepted=9, acked=9), ended=True))
    wait_for(lambda: server.admin.status().channels[0].ended, what="the end")
    assert source.bye(completed=True)
    status = server.admin.status()
    assert not status.members
    assert (status.channels[0].accepted, status.channels[0].acked, status.channels[0].ended) == (9, 9, True)


def test_newer_life_fences_the_older(join: Members) -> None:
    old = join("worker-0", WORKER, uid="pod", start=1).joined()
    new = join("worker-0", WORKER, uid="pod", start=2).joined()
    wait_for(lambda: old.heard.refusals, what="the old life's refusal")
    assert old.heard.refusals[0].reason == "Fenced"
    again = join("worker-0", WORKER, uid="pod", start=1)
    wait_for(lambda: again.heard.refusals, what="refusal of the old life's return")
    assert not again.heard.directories
    assert new.heard.refusals == []


def test_roles_must_be_declared(server: NameServerProcess, join: Members) -> None:
    worker = join("worker-0", WORKER).joined()
    intruder = join("worker-1", {"in": ("lines", "Push"), "other": ("secret", "Pull")}).joined()
    source = join("source-0", SOURCE).joined()
    wait_for(lambda: "source-0" in worker.heard.peers, what="the source")
    wait_for(lambda: "worker-0" in source.heard.peers, what="the worker")
    assert set(worker.heard.peers) == {"source-0"}
    assert set(source.heard.peers) == {"worker-0"}
    assert not intruder.heard.peers
    domain = pipeline(workers=2)
    wider = msgspec.structs.replace(domain.agents["worker"], roles={"lines": ["Pull", "Push"]})
    server.admin.set_domain(msgspec.structs.replace(domain, agents={**domain.agents, "worker": wider}))
    wait_for(lambda: "worker-1" in worker.heard.peers, what="the role that is declared now")


def test_undeclared_agent_joins_once_it_is_declared(server: NameServerProcess, join: Members) -> None:
    late = join("late-0", WORKER)
    wait_for(lambda: "join of late-0 refused: NotDeclared" in server.log.read_text(), what="the refusal")
    domain = pipeline()
    late_agent = msgspec.structs.replace(domain.agents["worker"], name="late")
    server.admin.set_domain(msgspec.structs.replace(domain, agents={**domain.agents, "late": late_agent}))
    late.joined()


def test_shutdown_tells_all_and_leaves_last(server: NameServerProcess, join: Members) -> None:
    source, worker = join("source-0", SOURCE).joined(), join("worker-0", WORKER).joined()
    server.admin.shutdown(30)
    for member in (source, worker):
        wait_for(lambda member=member: member.heard.commands, what="the command")  # type: ignore[misc]
        assert member.heard.commands[0].kind == "Shutdown"
        assert 10 < member.heard.commands[0].deadline_seconds <= 15
    newcomer = join("worker-1", WORKER)
    wait_for(lambda: newcomer.heard.commands, what="the newcomer's refusal")
    assert newcomer.heard.commands[0].kind == "Leave"
    assert not newcomer.heard.directories
    assert source.bye(completed=True)
    assert server.process.poll() is None
    assert worker.bye()
    assert server.process.wait(10) == 0


def test_shutdown_does_not_wait_for_a_frozen_member(server: NameServerProcess, join: Members) -> None:
    stubborn = join("worker-0", WORKER).joined()
    server.admin.shutdown(6)
    wait_for(lambda: len(stubborn.heard.commands) == 2, what="both commands")
    assert [command.kind for command in stubborn.heard.commands] == ["Shutdown", "Leave"]
    assert server.process.wait(15) == 0


def test_sigterm_without_deletion_tells_nobody(server: NameServerProcess, join: Members) -> None:
    worker = join("worker-0", WORKER).joined()
    server.process.terminate()
    assert server.process.wait(10) == 0
    server.start(pipeline())
    wait_for(lambda: len(worker.heard.epochs) == 2, what="the worker back")
    assert worker.heard.commands == []
