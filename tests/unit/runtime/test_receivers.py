"""Whether anybody is left for what was sent."""

from __future__ import annotations

from ganglion.runtime.receivers import ABSENT_SECONDS, Receivers
from ganglion.wire.control import Incarnation, Peer, PeerChannel, Phase
from tests.support.wirings import channel

CHANNELS = [
    channel("out", "jobs", "Push", bind=False),
    channel("news", "news", "Pub", bind=True),
    channel("in", "tasks", "Pull", bind=True),
]


def peer(phase: Phase = "Ready", *, name: str = "jobs", role: str = "Pull") -> Peer:
    part = {name: PeerChannel(role=role)}
    return Peer(agent="a", replica="a-0", incarnation=Incarnation("u", 0, 0), host="h", key="k", phase=phase, channels=part)


def test_before_the_first_directory_nobody_is_missed() -> None:
    assert Receivers(CHANNELS).gone(100.0) == frozenset()


def test_only_the_absence_of_all_receivers_for_a_while_counts() -> None:
    receivers = Receivers(CHANNELS)
    receivers.directory([peer()], 0.0)
    assert receivers.gone(100.0) == frozenset()
    receivers.directory([], 100.0)
    receivers.directory([peer("Stopped"), peer(name="tasks", role="Push")], 100.0 + ABSENT_SECONDS * 0.8)
    assert receivers.gone(100.0 + ABSENT_SECONDS * 0.9) == frozenset()
    assert receivers.gone(100.0 + ABSENT_SECONDS) == {"out"}
    receivers.directory([peer()], 101.0)
    assert receivers.gone(200.0) == frozenset()
