"""A library whose shelves each keep their own books: every title goes to the shelf that its name belongs to.

librarian <--books--> shelf (any number of replicas)
"""

from __future__ import annotations

import zlib

from ganglion import Agent

TITLES = [
    "Emma",
    "Dracula",
    "Ulysses",
    "Walden",
    "Candide",
    "Emma",
    "Persuasion",
    "Dracula",
    "Middlemarch",
    "Emma",
    "Kim",
    "Walden",
    "Ivanhoe",
    "Emma",
]


class Shelf(Agent):
    """Counts the copies of its titles. Nobody else ever sees them."""

    def on_init(self) -> None:
        self.copies: dict[str, int] = {}

    def keep(self, title: str) -> None:
        self.copies[title] = self.copies.get(title, 0) + 1
        self.send("books", [title, self.copies[title]])


def librarian(agent: Agent) -> None:
    """Sends each title to one shelf, chosen by the title alone, and hears from the shelf how many copies it has now."""
    shelves = int(agent.get_attr("shelves"))
    for title in TITLES:
        agent.send("books", title, to=f"shelf-{zlib.crc32(title.encode()) % shelves}")
    copies: dict[str, int] = {}
    places: dict[str, set[str | None]] = {}
    for _ in TITLES:
        title, count = agent.recv("books", timeout=170)
        copies[title] = max(count, copies.get(title, 0))
        places.setdefault(title, set()).add(agent.sent_by)
    for title in sorted(copies):
        print(f"{title}: {copies[title]} on {', '.join(map(str, places[title]))}", flush=True)
