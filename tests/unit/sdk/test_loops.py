"""Inputs that an agent feeds itself end by quiet, or by time."""

from __future__ import annotations

from ganglion.sdk.loops import LONGEST_SECONDS, QUIET_SECONDS, LoopEnd
from ganglion.sdk.streams import Streams
from ganglion.wire.control import Incarnation, Peer, PeerChannel, Phase
from tests.support.wirings import channel


def test_quiet_begins_anew_with_every_message_and_while_something_is_unsettled() -> None:
    end = LoopEnd(0.0)
    assert not end.quiet(0.0, count=3, settled=True)
    assert not end.quiet(QUIET_SECONDS * 0.9, count=4, settled=True)
    assert not end.quiet(QUIET_SECONDS * 1.8, count=4, settled=False)
    assert not end.quiet(QUIET_SECONDS * 2.7, count=4, settled=True)
    assert end.quiet(QUIET_SECONDS * 2.9, count=4, settled=True)


def test_messages_that_go_round_for_ever_have_a_bound() -> None:
    end = LoopEnd(10.0)
    assert not end.endless(9.9 + LONGEST_SECONDS)
    assert end.endless(10.0 + LONGEST_SECONDS)


def _peer(name: str, phase: Phase) -> dict[str, Peer]:
    parts = {name: PeerChannel(role="Push")}
    return {name: Peer(agent=name, replica=name, incarnation=Incarnation("u", 0, 0), host="h", key="k", phase=phase, channels=parts)}


def test_senders_outside_the_loop_are_waited_for() -> None:
    streams = Streams([channel("in", "tasks", "Pull", bind=False), channel("back", "results", "Pull", bind=False)])
    streams.set_loops(["results", "elsewhere"])
    assert streams.loops == {"back"}
    streams.directory({**_peer("tasks", "Ready"), **_peer("results", "Ready")}, {})
    assert not streams.outside_at_rest
    streams.directory({**_peer("tasks", "AtRest"), **_peer("results", "Ready")}, {})
    assert streams.outside_at_rest
    assert not streams.at_rest
    streams.loops_ended = True
    assert streams.at_rest
    streams.directory({**_peer("tasks", "Ready"), **_peer("results", "Ready")}, {})
    assert not streams.at_rest
