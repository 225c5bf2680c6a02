"""Whose counts a replica with a sidecar reports."""

from __future__ import annotations

from ganglion.runtime.sidecar_report import Own, merge
from ganglion.wire.control import ChannelReport, Ledger, Report

SENT = Ledger(accepted=1000, acked=990, in_flight=10)


def test_what_an_agent_has_sent_is_counted_by_its_sdk_alone() -> None:
    own = {"out": Own(port=7, wired=2, sent=SENT, by_sdk=True)}
    app = Report(channels={"out": ChannelReport(sent=Ledger(accepted=1003, acked=1003), counter="one")})
    [report] = merge("Ready", own, app).channels.values()
    assert (report.sent, report.counter, report.wired) == (Ledger(accepted=1003, acked=1003), "one", 2)
    [report] = merge("Starting", own, None).channels.values()
    assert (report.sent, report.counter, report.wired) == (None, "", 2), "the agent has died: its sidecar's account of the same is no other"


def test_what_the_sidecar_itself_sends_or_hears_of_is_counted_by_it() -> None:
    own = {"dead-letter-out": Own(sent=SENT), "plain": Own(sent=SENT), "in": Own(delivered=5, failed=1)}
    app = Report(channels={"dead-letter-out": ChannelReport(sent=Ledger(), counter="one")})
    for told in (app, None):
        channels = merge("Ready", own, told).channels
        assert (channels["dead-letter-out"].sent, channels["dead-letter-out"].counter) == (SENT, "")
        assert (channels["plain"].sent, channels["in"].delivered, channels["in"].failed) == (SENT, 5, 1)
