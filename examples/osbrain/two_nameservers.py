"""Agents of two name servers: each is listed by its own, and they talk all the same."""

from ganglion import run_agent, run_nameserver
from ganglion.helper import wait_agent_attr


def keep(agent, message):
    agent.kept.append(message)


if __name__ == "__main__":
    north = run_nameserver()
    south = run_nameserver()
    ann = run_agent("Ann", nsaddr=north.addr())
    sid = run_agent("Sid", nsaddr=south.addr(), attributes={"kept": []})

    ann.connect(sid.bind("PULL", handler=keep), alias="to the south")
    for word in ("from", "north", "to", "south"):
        ann.send("to the south", word)
    wait_agent_attr(sid, "kept", length=4)

    print("north:", north.agents())
    print("south:", south.agents())
    print("Sid kept:", sid.get_attr("kept"))

    north.shutdown()
    print("the south is still there:", south.agents())
    south.shutdown()
