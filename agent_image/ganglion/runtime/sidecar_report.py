"""What a replica reports when a sidecar and an agent process share the work. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ganglion.wire.control import ChannelReport, Ledger, Phase, Report


@dataclass(frozen=True, slots=True)
class Own:
    """What the sidecar itself knows of one alias.

    Attributes:
        port: where it listens; 0: nowhere.
        wired: live links to peers.
        sent: its own ledger of what it took over.
        by_sdk: the agent's SDK keeps the account of this leg, and `sent` counts the same messages; not so for plain programs and dead letters.
        delivered: messages that a plain program replied to.
        failed: messages that were handed back because their plain program had gone.
    """

    port: int = 0
    wired: int = 0
    sent: Ledger | None = None
    by_sdk: bool = False
    delivered: int = 0
    failed: int = 0


def merge(phase: Phase, own: Mapping[str, Own], app: Report | None, *, message: str = "") -> Report:
    """The replica's report: counts of the SDK where there is one, ports and links of the sidecar.

    Args:
        phase: of the replica.
        own: by alias, every alias of the wiring.
        app: the agent process's latest report; None: there is no SDK process (yet).
    """
    channels = {}
    for alias, mine in own.items():
        theirs = app.channels.get(alias) if app is not None else None
        sent = None if mine.by_sdk else mine.sent
        if theirs is None:
            channels[alias] = ChannelReport(port=mine.port, wired=mine.wired, sent=sent, delivered=mine.delivered, failed=mine.failed)
        else:
            channels[alias] = ChannelReport(
                port=mine.port or theirs.port,
                # A proxied publication's peers are counted end to end, by the SDK.
                wired=max(mine.wired, theirs.wired) if mine.sent is None and mine.wired == 0 else mine.wired,
                sent=theirs.sent if sent is None else sent,
                delivered=theirs.delivered,
                failed=theirs.failed,
                ended=theirs.ended,
                counter=theirs.counter if sent is None else "",
            )
    return Report(phase=phase, channels=channels, message=message)
