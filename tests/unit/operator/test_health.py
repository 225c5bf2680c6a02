"""Liveness: an operator whose watches have gone silent says so."""

from __future__ import annotations

import asyncio
import copy

from ganglion_operator.core.kinds import CONFIGMAP, Body, Key, Kind
from ganglion_operator.core.settings import PodSettings
from ganglion_operator.engine.context import Engine
from ganglion_operator.engine.health import CANARY_NAME, CANARY_SECONDS, MAX_HEALED_ROUNDS, SILENCE_SECONDS, Health
from ganglion_operator.engine.resync import Resync
from ganglion_operator.kube.errors import ApiUnavailableError
from ganglion_operator.metrics import Metrics
from tests.support.fakeport import FakePort
from tests.support.virtualtime import run_virtual


class Parts:
    """Health on an API server in memory, with or without a watch."""

    def __init__(self, *, watching: bool = True) -> None:
        self.port = FakePort()
        engine = Engine(self.port, PodSettings(agent_image="a"), Metrics(), clock=asyncio.get_running_loop().time)
        self.resync = Resync(engine, None)
        self.health = Health(engine, self.resync, "default", "me")
        if watching:
            self.port.watch = self._watch

    def _watch(self, kind: Kind, body: Body, deleted: bool) -> None:
        if kind is CONFIGMAP:
            self.health.heard(body)

    async def after(self, seconds: float) -> str | None:
        """What liveness says after a while."""
        task = asyncio.create_task(self.health.run())
        await asyncio.sleep(seconds)
        problem = self.health.problem()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        return problem


def test_with_events_it_stays_alive() -> None:
    async def story() -> None:
        parts = Parts()
        assert await parts.after(10 * SILENCE_SECONDS) is None
        assert parts.health.silence <= CANARY_SECONDS

    run_virtual(story())


def test_a_silent_watch_is_noticed() -> None:
    async def story() -> None:
        assert await Parts(watching=False).after(SILENCE_SECONDS - 1) is None
        problem = await Parts(watching=False).after(SILENCE_SECONDS + 1)
        assert problem is not None
        assert "no write came back" in problem

    run_virtual(story())


def test_an_api_server_that_is_away_is_no_silence_at_once() -> None:
    async def story() -> None:
        parts = Parts()
        parts.port.broken = lambda call, kind: ApiUnavailableError("away")
        assert await parts.after(SILENCE_SECONDS / 2) is None
        parts.port.broken = lambda call, kind: None
        assert await parts.after(SILENCE_SECONDS) is None

    run_virtual(story())


def test_another_process_echo_is_not_its_own() -> None:
    async def story() -> None:
        parts = Parts(watching=False)
        await parts.after(1)
        body = copy.deepcopy(parts.port.objects[Key("ConfigMap", "default", CANARY_NAME)])
        await asyncio.sleep(100)
        before = parts.health.silence
        body["metadata"]["annotations"] = dict.fromkeys(body["metadata"]["annotations"], "other/1")
        parts.health.heard(body)
        assert parts.health.silence == before
        body["metadata"]["annotations"] = dict.fromkeys(body["metadata"]["annotations"], "me/1")
        parts.health.heard(body)
        assert parts.health.silence == 0

    run_virtual(story())


def test_resyncs_that_always_find_something_are_a_broken_watch() -> None:
    async def story() -> None:
        parts = Parts()
        parts.resync.healed_rounds = MAX_HEALED_ROUNDS
        problem = parts.health.problem()
        assert problem is not None
        assert "resyncs in a row" in problem

    run_virtual(story())
