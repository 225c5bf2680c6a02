"""Who lives under which name. Pure: time is an argument (monotonic seconds)."""

from __future__ import annotations

from collections.abc import Iterator

from ganglion.imperative.frames import Record

BEAT_SECONDS = 1.0
LEASE_SECONDS = 10.0


class Leases:
    """Records by name, in the order in which they came; each as long as its agent keeps beating."""

    def __init__(self, now: float) -> None:
        self._last = now
        self._records: dict[str, tuple[Record, bytes]] = {}
        self._until: dict[str, float] = {}

    def beat(self, record: Record, session: bytes, now: float) -> bool:
        """Take or keep a name.

        Args:
            session: connection on which the agent is told things.
        Returns:
            False when another life holds the name.
        """
        held = self._records.get(record.name)
        if held is not None and held[0].life != record.life and self._until[record.name] > now:
            return False
        self._records[record.name] = (record, session)
        self._until[record.name] = now + LEASE_SECONDS
        return True

    def remove(self, name: str, life: bytes | None = None) -> bool:
        """Free a name; with `life`, only if it is still that one's. Whether it was held."""
        held = self._records.get(name)
        if held is None or (life is not None and held[0].life != life):
            return False
        del self._records[name], self._until[name]
        return True

    def tick(self, now: float) -> list[Record]:
        """Free the names whose lease ended, and return their records. Call it about every second."""
        pause = now - self._last
        self._last = now
        if pause > 2 * BEAT_SECONDS:
            # We stood still, not they: their beats wait in our socket.
            self._until = {name: until + pause for name, until in self._until.items()}
        ended = [name for name, until in self._until.items() if until <= now]
        gone = [self._records[name][0] for name in ended]
        for name in ended:
            self.remove(name)
        return gone

    def get(self, name: str) -> Record | None:
        """Who holds a name."""
        held = self._records.get(name)
        return held[0] if held is not None else None

    def session(self, name: str) -> bytes | None:
        """Connection of who holds a name."""
        held = self._records.get(name)
        return held[1] if held is not None else None

    def __iter__(self) -> Iterator[str]:
        return iter(list(self._records))

    def __len__(self) -> int:
        return len(self._records)
