"""How many replicas the limits of a machine let run."""

from __future__ import annotations

import asyncio
import errno
import gc
import json
import os
import socket
from pathlib import Path
from typing import Any, cast
from unittest.mock import Mock

import pytest

from ganglion.api import Agent, load_object
from ganglion.local import limits
from ganglion.local.child import Child, State
from ganglion.local.group import Group
from ganglion.local.limits import Limits, excess
from ganglion.local.logs import LogPipe
from ganglion.local.replica import Host
from ganglion.local.spawner import Program, Spawner
from ganglion.local.zygote import Zygote
from ganglion.planner import AgentPlan
from tests.support import manifests

MANY = Limits(20_000, None)


def agents(**replicas: int) -> dict[str, Agent]:
    return {name: agent(name, replicas=count) for name, count in replicas.items()}


def agent(name: str, **spec: Any) -> Agent:
    found = load_object(manifests.agent(name, **spec))
    assert isinstance(found, Agent)
    return found


@pytest.mark.parametrize(
    ("spec", "fit"),
    [
        ({}, 117),
        ({"dataPlane": "InProcess"}, 234),
        ({"dataPlane": "InProcess", "run": "Once"}, 234),
    ],
)
def test_the_most_that_fit_are_told_and_can_run(spec: dict[str, Any], fit: int) -> None:
    limits = Limits(1000, None)
    found = excess({}, {"a": agent("a", replicas=5000, **spec)}, limits)
    assert found is not None
    assert found[0] == "a"
    assert found[1].startswith(f"spec.replicas: found 5000; at most {fit} can run here: with them the domain takes ")
    assert "and the limit is 1000; lower it, or raise the hard limit (ulimit -Hn)" in found[1]
    assert excess({}, {"a": agent("a", replicas=fit, **spec)}, limits) is None
    assert excess({}, {"a": agent("a", replicas=fit + 1, **spec)}, limits) is not None


def test_what_is_suspended_takes_nothing() -> None:
    assert excess({}, {"a": agent("a", replicas=5000, suspend=True)}, MANY) is None


def test_the_sum_counts_and_the_one_that_grows_most_is_named() -> None:
    before = agents(a=2000, b=100)
    found = excess(before, agents(a=2000, b=1000, c=200), MANY)
    assert found is not None
    assert found[0] == "b"
    assert "found 1000; at most 292 can run here" in found[1]
    assert excess(before, agents(a=2000, b=292, c=200), MANY) is None
    found = excess({}, agents(a=2400, b=2300), MANY)
    assert found is not None
    assert "found 2400; at most 192 can run here" in found[1]
    found = excess({}, agents(a=2000, b=2000, c=2000), MANY)
    assert found is not None
    assert "found 2000; they cannot run here beside the other agents: " in found[1]


def test_less_is_never_too_much() -> None:
    assert excess(agents(a=5000), agents(a=4999), MANY) is None
    assert excess(agents(a=5000), agents(a=5000), MANY) is None
    assert excess(agents(a=5000, b=1), agents(a=5000, b=0), MANY) is None
    assert excess(agents(a=5000), agents(a=4000, b=1), MANY) is None


def test_processes_and_threads_of_the_user_bound_it_too() -> None:
    found = excess({}, agents(a=100), Limits(None, 600))
    assert found is not None
    assert (
        "found 100; at most 50 can run here: with them the domain takes 1200 more processes and threads (12 for each replica)" in found[1]
    )
    assert found[1].endswith("this user may start 600; lower it, or raise the limit of processes (ulimit -u)")
    assert excess({}, agents(a=50), Limits(None, 600)) is None
    # What runs already is not asked for again.
    assert excess(agents(a=100), agents(a=150), Limits(None, 600)) is None


def test_no_limits() -> None:
    assert excess({}, agents(a=10_000), Limits(None, None)) is None
    assert excess({}, {}, Limits(0, 0)) is None


def test_a_group_without_room_says_so_tries_again_and_tries_one_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def none_left(count: int) -> None:
        asked.append(count)
        raise OSError(errno.EMFILE, "too few are left")

    monkeypatch.setattr(limits, "keep_spare", none_left)
    group = Group(cast("Host", Mock()), agent("a", replicas=3), Mock())
    plan = AgentPlan((), Mock(), "intent", 3)
    group.set(group.agent, plan)
    assert group.problem is not None
    assert (group.problem.reason, group.problem.message) == ("CreateContainerError", "a-0: cannot be started: too few are left")
    group.step()
    assert asked == [limits.SPARE_DESCRIPTORS + 8] * 2
    assert group.replicas == {}
    group.set(agent("a", replicas=0), AgentPlan((), Mock(), "intent", 0))
    assert group.problem is None


def test_spare_descriptors_are_given_back_and_their_lack_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def count() -> int:
        return len(list(Path("/proc/self/fd").iterdir()))

    # A collection in between may close what other tests have left.
    gc.collect()
    before, real, left = count(), os.dup, [5]
    limits.keep_spare()
    assert count() == before

    def dup(descriptor: int) -> int:
        if not left[0]:
            raise OSError(errno.EMFILE, "Too many open files")
        left[0] -= 1
        return real(descriptor)

    monkeypatch.setattr(os, "dup", dup)
    with pytest.raises(OSError, match=r"too few file descriptors are left \(the limit of the supervisor is \d+\); lower spec.replicas"):
        limits.keep_spare()
    assert count() == before


def test_a_child_that_the_machine_cannot_start_waits_for_its_back_off(tmp_path: Path) -> None:
    async def story() -> None:
        codes: list[int] = []

        def restart(code: int) -> bool:
            codes.append(code)
            return True

        def program() -> Program:
            raise OSError(errno.EMFILE, "too few are left")

        child = Child(cast("Spawner", Mock()), program, LogPipe(tmp_path / "log", lambda _text: None), restart, lambda: None)
        child.start()
        assert codes == []
        await asyncio.sleep(0)
        assert (codes, child.state, child.not_started) == ([1], State.WAITING, "cannot be started: too few are left")
        # Asked for its end between the failure and its news.
        child.start()
        child.expect_end()
        await asyncio.sleep(0)
        assert (codes, child.state) == ([1], State.ENDED)

    asyncio.run(story())


def test_a_fork_that_fails_is_told_where_the_process_would_have_printed(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_fork() -> int:
        raise OSError(errno.EAGAIN, "Resource temporarily unavailable")

    monkeypatch.setattr(os, "fork", no_fork)
    read, write = os.pipe()
    told, events = os.pipe()
    ours, theirs = socket.socketpair()
    zygote = Zygote(theirs, events)
    assert zygote._handle({"id": "7"}, [write]) is None
    said = os.read(read, 1000).decode()
    assert said.startswith("cannot start a process: Resource temporarily unavailable; raise the limit of processes (ulimit -u)")
    assert os.read(read, 1) == b"", "the descriptor is still open"
    assert json.loads(os.read(told, 1000)) == {"id": "7", "exit": 1}
    for descriptor in (read, told, events, zygote._wake_read, zygote._wake_write):
        os.close(descriptor)
    ours.close()
    theirs.close()
