"""Two agents and a channel: one greets, the other prints.

greeter --greetings--> printer
"""

from __future__ import annotations

from ganglion import Agent


def greet(agent: Agent) -> None:
    """A function can be an agent: it runs once, and its end is the end of the stream."""
    for name in agent.get_attr("names"):
        agent.send("greetings", f"Hello, {name}!")


class Printer(Agent):
    """A class has handlers; the manifest says which one takes what."""

    def show(self, greeting: str) -> None:
        print(greeting, flush=True)

    def on_end(self, alias: str) -> None:
        self.log_info("Everyone was greeted")
