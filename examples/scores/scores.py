"""A table that changes without a pause, and viewers that come when they like: a snapshot, and then every change once.

board --changes, and the snapshot in its place--> viewer
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Mapping

from ganglion import Agent

PLAYERS = "ada", "bela", "cleo", "dana"


class Board(Agent):
    """Publishes every change; whoever asks gets the table as it is."""

    viewers: int
    changes: int

    def on_init(self) -> None:
        self.table: Counter[str] = Counter()
        self.turns = itertools.cycle(itertools.product(PLAYERS, (1, 2, 3)))
        self.asked: set[str] = set()
        self.left = self.changes
        self.each(0.005, self.play)

    def play(self) -> None:
        player, points = next(self.turns)
        self.table[player] += points
        self.send("scores", [player, points], topic="change")
        if len(self.asked) >= self.viewers:
            self.left -= 1
            if self.left == 0:
                self.send("scores", self.table, topic="final")
                self.shutdown()

    def snapshot(self, viewer: str) -> Mapping[str, int]:
        self.asked.add(viewer)
        return self.table


class Viewer(Agent):
    """Adds up changes; one that is missed or counted twice would show at the end."""

    def on_init(self) -> None:
        self.table: Counter[str] | None = None
        self.changes = 0
        self.ask()

    def ask(self) -> None:
        # A reply may be lost: ask again.
        self.send("scores", self.replica, handler=self.begin, wait=60, on_error=lambda: self.after(1.0, self.ask))

    def begin(self, table: Mapping[str, int]) -> None:
        self.table = Counter(table)

    def change(self, change: tuple[str, int]) -> None:
        if self.table is None:
            return  # The snapshot will hold it.
        player, points = change
        self.table[player] += points
        self.changes += 1

    def final(self, table: Mapping[str, int]) -> None:
        right = "right" if self.table == Counter(table) else f"wrong: {self.table} is not {table}"
        print(f"the snapshot and {self.changes} changes: {right}", flush=True)
        self.shutdown()
