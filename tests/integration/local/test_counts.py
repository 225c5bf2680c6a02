"""Counts of a channel go on when a sidecar or an agent process is replaced."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.local.domain import Desk, desk, endless, write
from tests.support.wait import wait_for


@pytest.fixture
def user(tmp_path: Path) -> Iterator[Desk]:
    with desk(tmp_path / "home") as found:
        yield found


def test_nothing_is_counted_twice_or_forgotten(user: Desk, tmp_path: Path) -> None:
    process = user.up(write(tmp_path / "app", endless(workers=1)))

    def counts() -> tuple[int, int]:  # up to 500 messages a second
        status = user.status("Channel", "work")
        return int(status.get("acked", 0)), int(status.get("delivered", 0))

    # The last is one of the real-time signals, most of which have no name to tell.
    for victim, number in (("pid", signal.SIGKILL), ("sidecarPid", signal.SIGKILL), ("pid", signal.SIGRTMAX - 1)):
        wait_for(lambda: min(counts()) > 1000, what="work")
        mark = counts()[0]
        pid = user.replicas()["source-0"][victim]
        os.kill(pid, number)
        wait_for(lambda: user.replicas()["source-0"].get(victim) not in (None, pid), what=f"another {victim}")  # noqa: B023
        wait_for(lambda: counts()[0] > mark + 500, what="counts that go on")  # noqa: B023
        # What was counted twice, or forgotten, would be missing on one side for ever. The last report of who was killed is half a second old.
        wait_for(lambda: abs(counts()[0] - counts()[1]) < 750, what=f"as many handled as acknowledged, after {victim}")
    process.send_signal(signal.SIGINT)
    assert process.wait(40) == 130
