"""Prometheus metrics, named as controller-runtime names them."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


class Metrics:
    """All metrics of one operator process, in a registry of its own."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        self.reconciles = Counter("controller_runtime_reconcile", "Reconciliations by result.", ["controller", "result"], registry=registry)
        self.reconcile_seconds = Histogram(
            "controller_runtime_reconcile_time_seconds", "Duration of reconciliations.", ["controller"], buckets=_BUCKETS, registry=registry
        )
        self.active_workers = Gauge("controller_runtime_active_workers", "Workers that reconcile now.", registry=registry)
        self.queue_depth = Gauge("workqueue_depth", "Keys that wait for a worker.", registry=registry)
        self.queue_delayed = Gauge("workqueue_delayed", "Keys that wait for a time or a retry.", registry=registry)
        self.retries = Counter("workqueue_retries", "Reconciliations that are tried again.", registry=registry)
        self.requests = Counter("rest_client_requests", "Calls of the Kubernetes API.", ["verb", "kind", "code"], registry=registry)
        self.request_seconds = Histogram(
            "rest_client_request_duration_seconds",
            "Duration of calls of the Kubernetes API.",
            ["verb"],
            buckets=_BUCKETS,
            registry=registry,
        )
        self.objects = Gauge("ganglion_operator_objects", "Objects in the operator's cache.", ["kind"], registry=registry)
        self.events = Counter("ganglion_operator_watch_events", "Events that changed the cache.", ["kind"], registry=registry)
        self.healed = Counter("ganglion_operator_resync_healed", "Differences that a full list found.", ["kind"], registry=registry)
        self.leader = Gauge("leader_election_master_status", "1 while this process leads.", registry=registry)
        self.loop_lag = Gauge("ganglion_operator_loop_lag_seconds", "Latest delay of the event loop.", registry=registry)
        self.canary_age = Gauge(
            "ganglion_operator_canary_age_seconds", "Time since a write was last seen through the watch.", registry=registry
        )
        self.canary_echoes = Counter("ganglion_operator_canary_echoes", "Own writes that came back through the watch.", registry=registry)
        self._refresh: list[Callable[[], None]] = []

    def before_scrape(self, refresh: Callable[[], None]) -> None:
        """Call `refresh` before each rendering, for gauges that mirror a state."""
        self._refresh.append(refresh)

    def render(self) -> bytes:
        """Text exposition format."""
        for refresh in self._refresh:
            refresh()
        return generate_latest(self.registry)
