"""Bounds of a sidecar's end."""

from __future__ import annotations

from ganglion.runtime.sidecar_end import SidecarEnd


def test_it_stays_as_long_as_the_flow_and_its_agents_leaving_may_take() -> None:
    end = SidecarEnd(20.0, 50.0)
    assert not end.over(1e9, 1e9)
    end.shut_down(100.0, 30.0)
    assert end.stops
    assert end.in_flow
    assert not end.over(149.9, 0.0)
    assert end.over(150.0, 0.0)
    end.leave(130.0, 10.0)
    assert not end.in_flow
    assert 139.0 < (end.deadline or 0.0) < 140.0


def test_a_pod_that_goes_with_its_domain_has_the_domains_time_from_then_on() -> None:
    end = SidecarEnd(20.0, 50.0)
    end.drain(100.0, 60.0)
    assert (end.deadline or 0.0) <= 120.0
    end.shut_down(110.0, 30.0)
    assert 145.0 < (end.deadline or 0.0) < 150.0
    assert 26.0 < end.flow_left(101.0) < 30.0
    end.drain(111.0, 60.0)
    assert 145.0 < (end.deadline or 0.0) < 150.0


def test_an_order_to_leave_is_not_taken_back_by_the_domains_end() -> None:
    end = SidecarEnd(20.0, 50.0)
    end.leave(100.0, 10.0)
    end.stops = True
    end.shut_down(101.0, 30.0)
    assert (end.deadline or 0.0) <= 110.0


def test_a_frozen_agent_is_not_waited_for_when_the_domain_ends() -> None:
    end = SidecarEnd(20.0, 50.0)
    end.drain(0.0, 20.0)
    assert not end.over(15.0, 15.0)
    end.shut_down(15.0, 10.0)
    assert not end.over(16.0, 4.9)
    assert end.over(16.0, 5.0)
