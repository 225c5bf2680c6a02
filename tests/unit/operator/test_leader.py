"""Leader election in virtual time: never two leaders, and a lost Lease is noticed before another can have it."""

from __future__ import annotations

import asyncio

import pytest

from ganglion_operator.core.kinds import Key
from ganglion_operator.kube.errors import ApiUnavailableError
from ganglion_operator.kube.leader import LEASE_SECONDS, RENEW_SECONDS, LeaderLease, LeaseLostError
from tests.support.fakeport import FakePort
from tests.support.virtualtime import run_virtual

KEY = Key("Lease", "default", "lease")


def candidate(port: FakePort, name: str) -> LeaderLease:
    return LeaderLease(port, "default", "lease", name, clock=asyncio.get_running_loop().time)


def test_one_leads_and_the_next_takes_over_when_it_is_released() -> None:
    async def story() -> None:
        port, loop = FakePort(), asyncio.get_running_loop()
        first, second = candidate(port, "a"), candidate(port, "b")
        await first.acquire()
        keep = asyncio.create_task(first.keep())
        waiting = asyncio.create_task(second.acquire())
        await asyncio.sleep(120)
        assert not waiting.done()
        assert not keep.done()
        keep.cancel()
        await first.release()
        released = loop.time()
        await waiting
        assert loop.time() - released < LEASE_SECONDS / 2
        assert port.objects[KEY]["spec"]["holderIdentity"] == "b"
        assert port.objects[KEY]["spec"]["leaseTransitions"] >= 1

    run_virtual(story())


def test_a_dead_leader_is_succeeded_only_after_its_lease() -> None:
    async def story() -> None:
        port, loop = FakePort(), asyncio.get_running_loop()
        await candidate(port, "a").acquire()
        died = loop.time()
        await candidate(port, "b").acquire()
        assert LEASE_SECONDS <= loop.time() - died < LEASE_SECONDS * 2

    run_virtual(story())


def test_a_leader_without_an_api_server_gives_up_before_its_lease_ends() -> None:
    async def story() -> None:
        port, loop = FakePort(), asyncio.get_running_loop()
        first = candidate(port, "a")
        await first.acquire()
        port.broken = lambda call, kind: ApiUnavailableError("gone")
        cut = loop.time()
        with pytest.raises(LeaseLostError):
            await first.keep()
        assert loop.time() - cut < LEASE_SECONDS
        assert loop.time() - cut >= RENEW_SECONDS - 2

    run_virtual(story())


def test_a_leader_that_slept_too_long_notices_its_successor() -> None:
    async def story() -> None:
        port = FakePort()
        first = candidate(port, "a")
        await first.acquire()
        await candidate(port, "b").acquire()
        with pytest.raises(LeaseLostError):
            await first.keep()
        # Releasing what is not held any more changes nothing.
        await first.release()
        assert port.objects[KEY]["spec"]["holderIdentity"] == "b"

    run_virtual(story())


@pytest.mark.parametrize("count", [2, 5])
def test_of_many_that_start_together_one_leads(count: int) -> None:
    async def story() -> None:
        port = FakePort()
        tasks = [asyncio.create_task(candidate(port, str(number)).acquire()) for number in range(count)]
        await asyncio.sleep(LEASE_SECONDS / 2)
        assert sum(task.done() for task in tasks) == 1
        for task in tasks:
            task.cancel()

    run_virtual(story())
