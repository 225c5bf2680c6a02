"""End of stream: once, only when all senders have ended and what came is handled."""

from __future__ import annotations

import dataclasses

from ganglion.sdk.streams import SETTLE_SECONDS, Streams
from ganglion.wire.control import ChannelState, Incarnation, Peer, PeerChannel, Phase
from tests.support.wirings import channel

TASKS = channel("in", "tasks", "Pull", bind=False)
NEWS = channel("news", "news", "Sub", bind=False)
OUT = channel("out", "results", "Push", bind=False)


def _peer(*, role: str = "Push", phase: Phase = "Ready", ended: bool = False) -> dict[str, Peer]:
    part = {"tasks": PeerChannel(role=role, ended=ended)}
    return {"a-0": Peer(agent="a", replica="a-0", incarnation=Incarnation("u", 0, 0), host="h", key="k", phase=phase, channels=part)}


def _ended(name: str = "tasks") -> dict[str, ChannelState]:
    return {name: ChannelState(ended=True)}


def test_it_ends_once_when_idle() -> None:
    streams = Streams([TASKS, OUT])
    assert not streams.look("in", 0.0, idle=True, delivered=0)
    streams.directory({}, _ended())
    assert streams.pending
    assert not streams.look("in", 0.0, idle=False, delivered=1)
    assert streams.look("in", 0.0, idle=True, delivered=1)
    assert not streams.look("in", 0.0, idle=True, delivered=1)
    assert streams.all_ended
    assert not streams.pending
    assert streams.ended("in")
    assert not streams.ended("out")


def test_best_effort_waits_until_it_is_quiet() -> None:
    streams = Streams([NEWS])
    streams.directory({}, _ended("news"))
    assert not streams.look("news", 10.0, idle=True, delivered=5)
    assert not streams.look("news", 10.0 + SETTLE_SECONDS * 0.9, idle=True, delivered=6)
    assert not streams.look("news", 10.0 + SETTLE_SECONDS * 1.8, idle=True, delivered=6)
    assert streams.look("news", 10.0 + SETTLE_SECONDS * 1.9, idle=True, delivered=6)


def test_a_channel_that_comes_to_life_again_is_known() -> None:
    streams = Streams([TASKS])
    streams.directory({}, _ended())
    assert streams.look("in", 0.0, idle=True, delivered=0)
    assert not streams.reopened
    streams.directory(_peer(), {"tasks": ChannelState(ended=False)})
    assert streams.reopened
    streams.directory({}, _ended())
    assert not streams.reopened
    assert not streams.look("in", 0.0, idle=True, delivered=9)


def test_senders_at_rest() -> None:
    streams = Streams([TASKS])
    assert not streams.at_rest
    streams.directory(_peer(), {})
    assert not streams.at_rest
    streams.directory(_peer(ended=True), {})
    assert streams.at_rest
    streams.directory(_peer(phase="AtRest"), {})
    assert streams.at_rest
    streams.directory({}, {})
    assert streams.at_rest
    streams.directory(_peer(role="Pull"), {})
    assert streams.at_rest
    assert Streams([OUT]).at_rest
    assert not Streams([OUT]).all_ended
    assert dataclasses.is_dataclass(streams._streams["in"])
