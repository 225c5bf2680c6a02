"""Two agents that talk to each other: one keeps a number, the other finds it.

guesser <--talk--> keeper
"""

from __future__ import annotations

from ganglion import Agent


class Keeper(Agent):
    """Answers each guess on the same alias."""

    number: int

    def heard(self, guess: int) -> None:
        self.send("talk", "higher" if guess < self.number else "lower" if guess > self.number else "found")


def guess(agent: Agent) -> None:
    """Asks and waits for the answer, on one alias."""
    low, high, tries, answer = 1, int(agent.get_attr("most")), 0, ""
    while answer != "found":
        middle, tries = (low + high) // 2, tries + 1
        agent.send("talk", middle)
        answer = agent.recv("talk", timeout=60)
        if answer == "higher":
            low = middle + 1
        elif answer == "lower":
            high = middle - 1
    print(f"it is {middle}, found with {tries} guesses", flush=True)
