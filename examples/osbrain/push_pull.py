"""Alice pushes, Bob pulls; Bob's handler logs what arrives."""

from ganglion import run_agent, run_nameserver
from ganglion.helper import wait_agent_attr


def log_message(agent, message):
    agent.log_info(f"Received: {message}")
    agent.count += 1


if __name__ == "__main__":
    ns = run_nameserver()
    alice = run_agent("Alice")
    bob = run_agent("Bob", attributes={"count": 0})

    address = alice.bind("PUSH", alias="main")
    bob.connect(address, handler=log_message)

    for number in range(3):
        alice.send("main", f"greeting {number}")

    print("all arrived:", wait_agent_attr(bob, "count", value=3))
    ns.shutdown()
