"""The name server's metrics, read from its state when they are asked for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from prometheus_client import CollectorRegistry, PlatformCollector, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from ganglion.nameserver.domain import StatusSnapshot

_OUTCOMES = ("accepted", "acked", "dead_lettered", "dropped", "redelivered", "delivered", "failed")
_GAUGES = ("senders", "receivers", "in_flight", "unaccounted")


class NameServerMetrics(Collector):
    """One scrape reads the registry once.

    Args:
        counts: the server's state.
        events: join port outcomes (`JoinPort.counts`).
    """

    def __init__(self, counts: StatusSnapshot, events: Counter[str]) -> None:
        self._counts = counts
        self._events = events
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        PlatformCollector(registry=self._registry)
        self._registry.register(self)

    def render(self) -> bytes:
        """Prometheus text format."""
        return generate_latest(self._registry)

    def collect(self) -> Iterable[Metric]:
        """See prometheus-client."""
        yield GaugeMetricFamily("ganglion_nameserver_members", "Replicas with a live lease.", value=self._counts.members_count())
        copies = GaugeMetricFamily("ganglion_nameserver_copies", "Copies of templates that programs have asked for.", labels=["template"])
        for template, count in sorted(Counter(copy.template for copy in self._counts.copies()).items()):
            copies.add_metric([template], count)
        yield copies
        yield CounterMetricFamily(
            "ganglion_nameserver_copies_refused", "Asks for copies that the spec does not allow.", value=self._counts.refused()
        )
        events = CounterMetricFamily("ganglion_nameserver_events", "Joins and messages by outcome.", labels=["outcome"])
        for outcome, count in sorted(self._events.items()):
            events.add_metric([outcome], count)
        yield events
        messages = CounterMetricFamily(
            "ganglion_nameserver_channel_messages", "Messages by channel, as replicas reported them.", labels=["channel", "outcome"]
        )
        gauges = {
            name: GaugeMetricFamily(f"ganglion_nameserver_channel_{name}", f"{name.replace('_', ' ')} by channel.", labels=["channel"])
            for name in _GAUGES
        }
        for channel in self._counts.channel_counts():
            for outcome in _OUTCOMES:
                messages.add_metric([channel.name, outcome], getattr(channel, outcome))
            for name, gauge in gauges.items():
                gauge.add_metric([channel.name], getattr(channel, name))
        yield messages
        yield from gauges.values()
