"""Agents that bind, connect, close, end and are killed at random, and name servers that are killed: nobody hangs, nothing leaks.

`make test` plays it small; `make test-stress` is 200 agents for 120 seconds (`GANGLION_STRESS=200x120`). A failure names its seed: `GANGLION_STRESS_SEED`.
"""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import zmq

from ganglion import Agent, NameServer, NSProxy, Proxy, run_agent, run_nameserver
from ganglion.imperative import calls
from ganglion.imperative.errors import CallTimeout, CommunicationError, NamingError, UnknownPeer
from ganglion.imperative.settings import config
from ganglion.runtime.errors import SendTimeout
from tests.support.wait import wait_for

AGENTS, SECONDS = map(int, os.environ.get("GANGLION_STRESS", "40x10").split("x"))
SEED = int(os.environ.get("GANGLION_STRESS_SEED", "0")) or random.SystemRandom().randrange(1, 1 << 32)
THREADS = 4
CALL_SECONDS = 20.0
"""Bound of one call; on a machine with two processors and hundreds of processes a second is nothing."""
OPERATION_SECONDS = 45.0
"""Bound of one operation: it may find the name server dead, and wait for the next."""
KINDS = ("PUSH", "PULL", "PUB", "SUB", "REP", "PAIR", "DEALER", "ROUTER", "ASYNC_REP", "SYNC_PUB")
ALIASES = tuple("abcdef")
EXPECTED = (CommunicationError, NamingError, KeyError, TimeoutError)
"""Of operations on what somebody else has just ended or closed. A CallTimeout, which is a TimeoutError too, is a failure."""


def own_usage() -> tuple[int, int]:
    """(descriptors, threads) of this process."""
    return len(list(Path("/proc/self/fd").iterdir())), len(list(Path("/proc/self/task").iterdir()))


class Registry(NameServer):
    def pid(self) -> int:
        return os.getpid()


class Member(Agent):
    def on_init(self) -> None:
        self.taken = 0
        self.peer = b"nobody"

    def take(self, message: Any, peer: bytes = b"") -> Any:
        """Of a ROUTER it gets the peer, which the next send of one answers; of a SUB, an empty topic."""
        self.taken += 1
        self.peer = peer or self.peer
        return message

    def send_some(self, seed: int) -> None:
        dice = random.Random(seed)
        for alias in dice.sample(self.channels, min(3, len(self.channels))):
            # It may receive only, want a handler for the reply, or have nobody to send to.
            with contextlib.suppress(NotImplementedError, ValueError, SendTimeout, UnknownPeer, zmq.ZMQError):
                topic = self.peer if self.addr(alias).kind == "ROUTER" else b""
                self.send(alias, b"x" * dice.choice((1, 1000, 100_000)), topic, timeout=0.02)

    def close_some(self, seed: int) -> None:
        if self.channels:
            self.close(random.Random(seed).choice(self.channels))

    def usage(self) -> tuple[int, int, int]:
        """(descriptors, threads, sockets) of this process."""
        descriptors, threads = own_usage()
        # Unsafe calls have up to sixteen threads, which stay.
        pool = sum(thread.name.endswith("-calls") for thread in threading.enumerate())
        return descriptors, threads - pool, len(self._core.sockets)  # type: ignore[attr-defined]


class Troupe:
    """The agents, and what threads do to them."""

    def __init__(self) -> None:
        self.ns = run_nameserver(base=Registry)
        self.address = self.ns.addr()
        self.agents: list[Proxy] = []
        self.lock = threading.Lock()
        self.number = 0
        self.counts: Counter[str] = Counter()
        self.failures: list[str] = []
        self.slowest: tuple[float, str] = (0.0, "")
        self.end = threading.Event()

    def add(self) -> None:
        with self.lock:
            self.number += 1
            name = f"agent-{self.number}"
        made = run_agent(name, self.address, base=Member)
        with self.lock:
            self.agents.append(made)

    def some(self, dice: random.Random) -> Proxy:
        with self.lock:
            name = dice.choice(self.agents)._name
        # Of this thread: the mode of a proxy's next call is its own.
        return Proxy(name, self.address, timeout=5)

    def take_out(self, dice: random.Random) -> Proxy | None:
        with self.lock:
            if len(self.agents) < AGENTS // 2:
                return None
            return self.agents.pop(dice.randrange(len(self.agents)))

    # -- operations

    def bind(self, dice: random.Random) -> None:
        kind, transport = dice.choice(KINDS), dice.choice(("ipc", "tcp"))
        handler = None if kind in ("PUSH", "PUB") else "take"
        address = self.some(dice).within(CALL_SECONDS).bind(kind, dice.choice(ALIASES), handler, transport=transport)
        with contextlib.suppress(NotImplementedError):
            # To itself, a channel cannot be connected.
            self.some(dice).within(CALL_SECONDS).connect(address, dice.choice(ALIASES), "take")

    def send(self, dice: random.Random) -> None:
        self.some(dice).within(CALL_SECONDS).send_some(dice.getrandbits(32))

    def close(self, dice: random.Random) -> None:
        self.some(dice).within(CALL_SECONDS).close_some(dice.getrandbits(32))

    def close_all(self, dice: random.Random) -> None:
        self.some(dice).within(CALL_SECONDS).close_all()

    def replace(self, dice: random.Random, end: Callable[[Proxy], None]) -> None:
        gone = self.take_out(dice)
        if gone is not None:
            try:
                end(gone)
            finally:
                self.add()

    def shut_down(self, dice: random.Random) -> None:
        self.replace(dice, lambda agent: agent.within(CALL_SECONDS).shutdown())

    def kill(self, dice: random.Random) -> None:
        self.replace(dice, lambda agent: agent.kill())

    def kill_9(self, dice: random.Random) -> None:
        self.replace(dice, lambda agent: os.kill(agent._locate().pid, signal.SIGKILL))

    def kill_name_server(self, _dice: random.Random) -> None:
        os.kill(self.ns.pid(), signal.SIGKILL)

        def again() -> NSProxy | None:
            with contextlib.suppress(RuntimeError):
                return run_nameserver(self.address, base=Registry)
            return None

        self.ns = wait_for(again, timeout=OPERATION_SECONDS / 2, what="the name server to come back") or self.ns

    def play(self, seed: int, *, kills_name_server: bool) -> None:
        """One thread's part."""
        dice = random.Random(seed)
        usual = [self.bind, self.send, self.close, self.close_all, self.shut_down, self.kill, self.kill_9]
        weights = [30, 40, 15, 5, 3, 3, 4]
        next_kill = time.monotonic() + SECONDS / 3
        while not self.end.is_set():
            if kills_name_server and time.monotonic() >= next_kill:
                next_kill += SECONDS / 3
                self._do(self.kill_name_server, dice)
            else:
                self._do(dice.choices(usual, weights)[0], dice)

    def _do(self, operation: Callable[[random.Random], None], dice: random.Random) -> None:
        began = time.monotonic()
        name = operation.__name__
        try:
            operation(dice)
            self.counts[name] += 1
        except CallTimeout as error:
            self.failures.append(f"{name}: {error}")
        except EXPECTED as error:
            self.counts[f"{name}: {type(error).__name__}"] += 1
        except RuntimeError as error:
            if "must be running" not in str(error):
                self.failures.append(f"{name}: {error!r}")
        except Exception as error:  # noqa: BLE001 - told by the test
            self.failures.append(f"{name}: {error!r}")
        took = time.monotonic() - began
        if took > OPERATION_SECONDS:
            self.failures.append(f"{name}: took {took:.1f} s")
        self.slowest = max(self.slowest, (took, name))


@pytest.fixture
def sockets_folder(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="gs-", dir="/tmp"))
    monkeypatch.setitem(config, "IPC_DIR", folder)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.timeout(SECONDS + 120)
def test_nothing_leaks_and_nobody_hangs(sockets_folder: Path) -> None:
    print(f"GANGLION_STRESS={AGENTS}x{SECONDS} GANGLION_STRESS_SEED={SEED}")
    run_nameserver(base=Registry).shutdown()
    calls.close_all()
    before = own_usage()
    troupe = Troupe()
    for _ in range(AGENTS):
        troupe.add()
    fresh = run_agent("fresh", troupe.address, base=Member)
    fresh_usage = fresh.usage()
    threads = [
        threading.Thread(target=troupe.play, args=(SEED + number,), kwargs={"kills_name_server": number == 0}) for number in range(THREADS)
    ]
    for thread in threads:
        thread.start()
    troupe.end.wait(SECONDS)
    troupe.end.set()
    for thread in threads:
        thread.join(OPERATION_SECONDS)
        assert not thread.is_alive(), "an operation hangs"
    print(f"slowest: {troupe.slowest[1]}, {troupe.slowest[0]:.1f} s; {sum(troupe.counts.values())} operations: {dict(troupe.counts)}")
    assert troupe.failures == []

    # No stale names: whoever is registered lives.
    living = {agent._name for agent in troupe.agents} | {"fresh"}
    wait_for(lambda: set(troupe.ns.agents()) == living, timeout=25, what="the directory to hold exactly those that live")

    # No leaks in them: without sockets they are as new.
    for agent in troupe.agents:
        agent.within(CALL_SECONDS).close_all(linger=0)

        def grown(agent: Proxy = agent) -> list[str]:
            usage = agent.within(CALL_SECONDS).usage()
            return [f"{what}: {now}, fresh {new}" for what, now, new in zip(WHAT, usage, fresh_usage, strict=True) if now > new]

        with contextlib.suppress(TimeoutError):
            wait_for(lambda grown=grown: not grown(), timeout=20)  # type: ignore[misc]
        assert grown() == [], agent
    wait_for(lambda: not list(sockets_folder.iterdir()), timeout=25, what="the files of sockets to be gone")

    began = time.monotonic()
    troupe.ns.shutdown(timeout=20)
    took = time.monotonic() - began
    print(f"shutdown of {len(living)} agents: {took:.1f} s")
    assert took < 20
    calls.close_all()
    wait_for(
        lambda: own_usage()[0] <= before[0] and own_usage()[1] <= before[1],
        timeout=10,
        what=f"descriptors and threads {own_usage()} to be {before}",
    )


WHAT = ("descriptors", "threads", "sockets")
