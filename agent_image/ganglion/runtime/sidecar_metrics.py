"""What a sidecar tells Prometheus: the report that it sends with every beat, and what its proxies count."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from ganglion.runtime.proxied import ProxiedChannel
from ganglion.runtime.sidecar_legs import Relay
from ganglion.wire.control import Report
from ganglion.wiring import WiringDocument

_LABELS = ("channel", "alias", "role")
_SENT = ("accepted", "acked", "dead_lettered", "dropped", "redelivered")


class _Snapshot(Collector):
    """One scrape: values are read once, so that a ledger balances within it."""

    def __init__(self, wiring: WiringDocument, report: Report, relays: Mapping[str, Relay], refused: int) -> None:
        self._wiring = wiring
        self._report = report
        self._relays = relays
        self._refused = refused

    def collect(self) -> Iterator[Metric]:
        """Metric families."""
        messages = CounterMetricFamily(
            "ganglion_channel_messages",
            "Messages of this replica by outcome: accepted = acked + in flight + dead_lettered + dropped for senders;"
            " delivered and failed for receivers.",
            labels=(*_LABELS, "outcome"),
        )
        in_flight = GaugeMetricFamily("ganglion_channel_in_flight", "Messages accepted and not settled.", labels=_LABELS)
        peers = GaugeMetricFamily("ganglion_channel_peers", "Peers with a live link.", labels=_LABELS)
        rewirings = CounterMetricFamily("ganglion_proxy_rewirings", "Times that a proxy was left and entered again.", labels=_LABELS)
        stalls = CounterMetricFamily("ganglion_proxy_stalls", "Times that a proxy polled a full backend in vain.", labels=_LABELS)
        errors = CounterMetricFamily("ganglion_proxy_errors", "Errors that ended a proxy; it was entered again.", labels=_LABELS)
        for wired in self._wiring.channels:
            part = self._report.channels.get(wired.alias)
            labels = (wired.declared, wired.alias, wired.role)
            if part is not None:
                peers.add_metric(labels, part.wired)
                if part.sent is not None:
                    in_flight.add_metric(labels, part.sent.in_flight)
                    for outcome in _SENT:
                        messages.add_metric((*labels, outcome), getattr(part.sent, outcome))
                if not wired.sends:
                    messages.add_metric((*labels, "delivered"), part.delivered)
                    messages.add_metric((*labels, "failed"), part.failed)
            relay = self._relays.get(wired.alias)
            if isinstance(relay, ProxiedChannel):
                rewirings.add_metric(labels, relay.proxy.stats.rewirings)
                stalls.add_metric(labels, relay.proxy.stats.stalls)
                errors.add_metric(labels, relay.proxy.stats.errors)
        yield from (messages, in_flight, peers, rewirings, stalls, errors)
        yield GaugeMetricFamily(
            "ganglion_ready", "1 once this replica was ready; it latches.", value=float(self._report.phase != "Starting")
        )
        yield CounterMetricFamily("ganglion_refused_handshakes", "Connections that were refused for their key.", value=self._refused)


def exposition(wiring: WiringDocument, report: Report, relays: Mapping[str, Relay], *, refused: int) -> bytes:
    """The text that `/metrics` answers."""
    registry = CollectorRegistry()
    registry.register(_Snapshot(wiring, report, relays, refused))
    return generate_latest(registry)
