"""Bob asks, Alice answers; her handler is a lambda that travels to her."""

from ganglion import run_agent, run_nameserver

if __name__ == "__main__":
    ns = run_nameserver()
    alice = run_agent("Alice")
    bob = run_agent("Bob")

    address = alice.bind("REP", handler=lambda agent, message: f"{agent.name} has read: {message}")
    bob.connect(address, alias="main")

    for number in range(5):
        bob.send("main", number)
        print(bob.recv("main"))
    print(bob.send_recv("main", "both in one call"))

    ns.shutdown()
