"""Closing one connection by its alias, then all; the other end notices nothing."""

from ganglion import run_agent, run_nameserver
from ganglion.helper import wait_agent_attr


def keep(agent, message):
    agent.kept.append(message)


if __name__ == "__main__":
    ns = run_nameserver()
    alice = run_agent("Alice")
    bob = run_agent("Bob", attributes={"kept": []})

    inbox = bob.bind("PULL", alias="inbox", handler=keep)
    for alias in ("first", "second"):
        alice.bind("PUB", alias=alias)
    alice.connect(inbox, alias="to bob")

    alice.send("to bob", "before")
    alice.close("first")
    print("open:", [alias for alias in ("first", "second", "to bob") if alice.has_socket(alias)])

    alice.send("to bob", "between")
    alice.close_all(linger=2)
    print("open:", [alias for alias in ("first", "second", "to bob") if alice.has_socket(alias)])

    wait_agent_attr(bob, "kept", length=2)
    print("Bob kept", bob.get_attr("kept"), "and still listens:", bob.has_socket("inbox"))

    alice.connect(inbox, alias="to bob")
    alice.send("to bob", "after")
    wait_agent_attr(bob, "kept", length=3)
    print("Bob kept", bob.get_attr("kept"))

    ns.shutdown()
