"""How a declared log level comes into a process whose main thread is away."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from unittest.mock import Mock

import pytest

from ganglion.runtime.control import ControlListener
from ganglion.runtime.logs import DeclaredLevel, set_level
from ganglion.runtime.loop import DataLoop
from ganglion.runtime.reactor import Reactor
from ganglion.sdk.base import AgentCore
from ganglion.sdk.gate import Gate
from ganglion.sdk.process import AgentProcess


@pytest.fixture(autouse=True)
def _root() -> Iterator[None]:
    level, quiet = logging.getLogger().level, logging.getLogger("asyncio").level
    yield
    set_level(level)
    logging.getLogger("asyncio").setLevel(quiet)


def test_levels_that_came_while_a_handler_computed_do_not_come_again_after_it() -> None:
    with contextlib.closing(DataLoop()) as loop:
        reactor = Reactor(loop)
        process = AgentProcess.__new__(AgentProcess)
        process.gate = Gate(loop, reactor, lambda _now: None)
        process.orders = Mock()
        process.link = Mock()
        process._start_control(DeclaredLevel(logging.INFO))
        listener: ControlListener = process.link.make_control.call_args.args[2]
        seen = []
        for declared in ("Debug", "Error"):
            process.gate.call_soon_threadsafe(listener.on_log_level, declared)
            seen.append(logging.getLogger().level)
        AgentCore().set_log_level(logging.WARNING)
        process.gate.tick(0.0)
        seen.append(logging.getLogger().level)
        process.gate.close()
        reactor.close()
    assert seen == [logging.DEBUG, logging.ERROR, logging.WARNING]
