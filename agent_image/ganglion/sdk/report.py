"""The SDK's part of a replica's report."""

from __future__ import annotations

from collections.abc import Mapping

from ganglion.sdk.channels import Channels
from ganglion.sdk.streams import Streams
from ganglion.wire.control import ChannelReport, Phase, Report


def build_report(
    phase: Phase, channels: Channels, streams: Streams, ports: Mapping[str, int], *, nothing_more: bool, counter: str
) -> Report:
    """Called in the control thread: reads only.

    Args:
        phase: the process's own view.
        channels: with their counts.
        streams: which inputs have ended.
        ports: alias → port.
        nothing_more: every input has ended and nothing else sends, so outputs at rest have ended too; taken back when inputs come to life again.
        counter: names this process, in which all counts began at 0.
    """
    parts: dict[str, ChannelReport] = {}
    for alias, channel in channels.wirings.items():
        port = ports.get(alias, 0)
        outlet = channels.outlets.get(alias)
        inlet = channels.inlets.get(alias)
        if outlet is not None:
            ended = (nothing_more or outlet.ended) and outlet.at_rest
            parts[alias] = ChannelReport(port=port, wired=outlet.wired, sent=outlet.ledger(), ended=ended, counter=counter)
        elif inlet is not None:
            parts[alias] = ChannelReport(
                port=port,
                wired=inlet.wired,
                delivered=inlet.delivered,
                failed=inlet.failed,
                ended=streams.ended(channel.alias),
                counter=counter,
            )
        else:
            parts[alias] = ChannelReport(port=port, counter=counter)
    return Report(phase=phase, channels=parts, process=counter)
