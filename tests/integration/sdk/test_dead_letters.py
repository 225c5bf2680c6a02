"""A message that its handler refuses three times is told of: in a log, by a notice of its channel, and on another channel."""

from __future__ import annotations

import pytest

from tests.support.agents import world
from tests.support.wait import wait_for
from tests.support.wirings import channel

CODE = """
    from ganglion import Agent

    class Source(Agent):
        def before_loop(self):
            for number in range(20):
                self.send("work", number)

    class Picky(Agent):
        def take(self, number):
            if number == 13:
                self.log_warning("looks at it")
                raise ValueError("not this one")
            print("TOOK", number, flush=True)

    class Morgue(Agent):
        def bury(self, number):
            print("BURIED", number, flush=True)
"""


@pytest.mark.parametrize("plane", ["InProcess", "Sidecar"])
def test_what_is_given_up_is_told(plane: str) -> None:
    with world(CODE) as here:
        morgue = here.declare("morgue", channel("in", "dead", "Pull", bind=True, handler="bury"), target="agents:Morgue", data_plane=plane)
        picky = here.declare("picky", channel("in", "work", "Pull", bind=True, handler="take"), target="agents:Picky", data_plane=plane)
        source = here.declare(
            "source",
            channel("work", "work", "Push", bind=False, dead_letter="dead-letter-work"),
            channel("dead-letter-work", "dead", "Push", bind=False),
            target="agents:Source",
            data_plane=plane,
        )
        buries, takes, sends = here.start(morgue), here.start(picky), here.start(source)
        buries.says("BURIED 13")
        takes.says("TOOK ", times=19)
        looks = [(line["message_id"].rpartition("-")[2], line["alias"]) for line in takes.lines if line["message"] == "looks at it"]
        assert looks == [("13", "in")] * 3, "a line of a handler has its message's id"
        sender = here.sidecars["source-0"] if plane == "Sidecar" else sends
        sender.says("is given up: its handler raised, 3 attempts")
        (notice,) = wait_for(lambda: here.server.admin.status().notices, what="the notice")
        assert (notice.replica, notice.reason, notice.channel) == ("source-0", "DeadLettered", "work")
        assert "its handler raised" in notice.message

        def counted() -> bool:
            [work] = [one for one in here.server.admin.status().channels if one.name == "work"]
            return (work.accepted, work.acked, work.dead_lettered, work.in_flight) == (20, 19, 1, 0)

        wait_for(counted, what="the counts of the channel")
