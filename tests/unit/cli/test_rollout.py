"""What `up --detach` waits for, and when it gives up."""

from __future__ import annotations

from typing import Any

import pytest

from ganglion.cli.errors import Failure
from ganglion.cli.rollout import Rollout


def snapshot(*agents: dict[str, Any], started: bool = True, ending: str | None = None) -> dict[str, Any]:
    objects, replicas = [], []
    for item in agents:
        name = item["name"]
        ready = {"type": "Ready", "status": item.get("ready", "False"), "reason": item.get("reason", "Starting"), "message": "the message"}
        objects.append({"kind": "Agent", "metadata": {"name": name}, "spec": {}, "status": {"conditions": [ready]}})
        replicas.append({"agent": name, "phase": "Running", "state": "Running", "exitCode": None, **item.get("row", {})})
    return {"domain": "shop", "started": started, "ending": ending, "objects": objects, "replicas": replicas}


def test_it_is_over_when_every_agent_is_ready_or_suspended() -> None:
    rollout = Rollout()
    assert not rollout.look(snapshot({"name": "a", "ready": "True"}, {"name": "b"}))
    assert rollout.missing == {"b": "Starting: the message"}
    assert rollout.look(snapshot({"name": "a", "ready": "True"}, {"name": "b", "reason": "Suspended"}))
    assert rollout.missing == {}


def test_nothing_is_ready_before_the_supervisor_has_started_the_agents() -> None:
    assert not Rollout().look(snapshot(started=False))


@pytest.mark.parametrize(
    ("row", "code"),
    [({"exitCode": 78, "state": "Waiting"}, 78), ({"exitCode": 1, "phase": "Failed", "state": "Ended"}, 1)],
)
def test_an_agent_that_cannot_start_or_has_failed_ends_the_wait(row: dict[str, Any], code: int) -> None:
    with pytest.raises(Failure, match="Agent/b: Starting: the message") as caught:
        Rollout().look(snapshot({"name": "a"}, {"name": "b", "row": row}))
    assert caught.value.code == code
    assert "Agent/a" not in str(caught.value)


@pytest.mark.parametrize(
    "row",
    [
        {"exitCode": 78, "state": "Running"},  # started again after a correction
        {"exitCode": 78, "state": "Ended", "phase": "Draining"},  # being replaced
        {"exitCode": 1, "state": "Waiting"},  # `Always`: the next start may do
    ],
)
def test_what_may_still_become_ready_is_waited_for(row: dict[str, Any]) -> None:
    assert not Rollout().look(snapshot({"name": "b", "reason": "ConfigurationError", "row": row}))


def test_a_domain_that_ends_ends_the_wait() -> None:
    with pytest.raises(Failure, match="shop: asked to go down"):
        Rollout().look(snapshot({"name": "a"}, ending="asked to go down"))
