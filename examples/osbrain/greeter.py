"""Agents as classes: one binds as it starts, the other has a method that handles what arrives."""

from ganglion import Agent, run_agent, run_nameserver
from ganglion.helper import wait_agent_attr


class Greeter(Agent):
    def on_init(self):
        self.greeted = 0
        self.bind("PUSH", alias="main")

    def greet(self, name):
        self.greeted += 1
        self.send("main", f"Good morning, {name}!")


class Listener(Agent):
    def on_init(self):
        self.heard = []

    def listen(self, message):
        self.log_info(f"Heard: {message}")
        self.heard.append(message)


if __name__ == "__main__":
    ns = run_nameserver()
    alice = run_agent("Alice", base=Greeter)
    bob = run_agent("Bob", base=Listener)

    bob.connect(alice.addr("main"), handler="listen")
    for _ in range(3):
        alice.greet("Bob")

    wait_agent_attr(bob, "heard", length=3)
    print("Alice greeted", alice.get_attr("greeted"), "times; Bob heard", bob.get_attr("heard"))
    ns.shutdown()
