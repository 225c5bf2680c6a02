"""The start barrier."""

from __future__ import annotations

from ganglion.runtime.barrier import BarrierGate
from ganglion.wiring import BarrierWiring


def test_without_a_barrier_everything_passes() -> None:
    gate = BarrierGate(None)
    assert gate.open
    assert gate.passes(0, 0.0)
    assert gate.describe(0) == ""


def test_it_opens_with_enough_receivers_and_stays_open() -> None:
    gate = BarrierGate(BarrierWiring(peers=2, timeout_seconds=10))
    assert not gate.passes(1, 100.0)
    assert gate.describe(1) == "the barrier waits for receivers: 1 of 2 wired"
    assert gate.passes(2, 101.0)
    assert gate.passes(0, 102.0)
    assert not gate.timed_out


def test_the_timeout_runs_from_the_first_message() -> None:
    gate = BarrierGate(BarrierWiring(peers=1, timeout_seconds=10))
    assert not gate.passes(0, 1000.0)
    assert not gate.passes(0, 1009.9)
    assert gate.passes(0, 1010.0)
    assert gate.timed_out
    assert "opened after 10 s" in gate.describe(0)
