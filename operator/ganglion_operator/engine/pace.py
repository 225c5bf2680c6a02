"""When news that can wait are written: soon while few objects have some, spread over time while thousands do."""

from __future__ import annotations

from ganglion_operator.core.kinds import Key

WRITES_PER_SECOND = 10.0
"""Of statuses that say only what every start goes through. When a thousand agents start, most are Ready before their turn: one write each."""


class Pace:
    """Turns of keys that wait to be written."""

    def __init__(self, rate: float = WRITES_PER_SECOND) -> None:
        self._rate = rate
        self._turns: dict[Key, float] = {}

    def due(self, key: Key, earliest: float, now: float) -> float:
        """When `key` may be written (seconds of the clock of `now`): its turn stays the same until `forget`."""
        turn = self._turns.get(key)
        if turn is None:
            turn = self._turns[key] = now + len(self._turns) / self._rate
        return max(turn, earliest)

    def forget(self, key: Key) -> None:
        """It was written, or has nothing to wait for any more."""
        self._turns.pop(key, None)
