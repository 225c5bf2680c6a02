"""What commands ask of the supervisor."""

from __future__ import annotations

import asyncio
from typing import Any
from unittest.mock import AsyncMock, Mock

import pytest

from ganglion.api import load_object
from ganglion.local.bundle import Bundle
from ganglion.local.commands import Commands
from ganglion.local.supervisor import Supervisor
from tests.support import manifests


@pytest.mark.parametrize(
    ("command", "value", "starts"), [("log-level", {"level": "Debug"}, 0), ("log-level", {"level": None}, 0), ("scale", {"replicas": 2}, 1)]
)
def test_a_log_level_starts_nothing_that_waits_for_its_back_off(command: str, value: dict[str, Any], starts: int) -> None:
    bundle = Bundle()
    for document in (manifests.name_server(), manifests.agent(code={"inline": {"workers.py": "class Worker: ..."}})):
        bundle.add(load_object(document))
    supervisor = Supervisor.__new__(Supervisor)
    failing = Mock()
    supervisor.__dict__.update(
        desired=Mock(bundle=bundle), _groups={"other": failing}, _asked_to_end=asyncio.Event(), declare=AsyncMock(), _reconcile=Mock()
    )
    asyncio.run(Commands(supervisor).handle(command, {"agent": "worker", **value}))
    assert supervisor.desired.set.call_count == 1  # type: ignore[attr-defined]
    assert failing.retry.call_count == starts
