"""Bounds of a sidecar's end."""

from __future__ import annotations

from ganglion.runtime.sidecar_end import SidecarEnd


def test_it_stays_as_long_as_the_flow_and_its_agents_leaving_may_take() -> None:
    end = SidecarEnd(20.0)
    assert not end.over(1e9, 1e9)
    end.shut_down(100.0, 30.0)
    assert end.stops
    assert end.in_flow
    assert not end.over(149.9, 0.0)
    assert end.over(150.0, 0.0)
    end.leave(130.0, 10.0)
    assert not end.in_flow
    assert 139.0 < (end.deadline or 0.0) < 140.0


def test_an_earlier_bound_stays() -> None:
    end = SidecarEnd(20.0)
    end.drain(100.0, 60.0)
    end.shut_down(101.0, 30.0)
    assert (end.deadline or 0.0) <= 120.0
    assert not end.over(118.0, 0.0)


def test_a_frozen_agent_is_not_waited_for_when_the_domain_ends() -> None:
    end = SidecarEnd(20.0)
    end.drain(0.0, 20.0)
    assert not end.over(15.0, 15.0)
    end.shut_down(15.0, 10.0)
    assert not end.over(16.0, 4.9)
    assert end.over(16.0, 5.0)
