"""A copy completes only with an agent that ended in order."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any, cast

import pytest

from ganglion.imperative import copied
from ganglion.imperative.host import Child


@pytest.mark.parametrize(
    ("code", "text"),
    [
        (0, ""),
        (1, "copy 'worker-1': the agent's process ended with code 1"),
        (-9, "was killed by SIGKILL"),
        (-99, "was killed by signal 99"),
    ],
)
def test_how_its_agent_ended(code: int, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    child = Child()
    child.tell({})
    child.finish(code)
    monkeypatch.setattr(copied, "membership", object)
    monkeypatch.setattr(copied, "_start", lambda *_: child)
    agent = cast("Any", SimpleNamespace(name="worker-1", get_attr=lambda _name: {}))
    if text:
        with pytest.raises(RuntimeError, match=text):
            asyncio.run(copied.serve(agent))
    else:
        asyncio.run(copied.serve(agent))
