"""Who hears of whose end. Pure: time is an argument (monotonic seconds).

A watcher says with every beat whom it watches and which lives of these it knows (`Watching.wanted`). The directory answers with what is
different (`WatchBook.wants`), and tells each end at once to those that watch (`WatchBook.departed`). So what gets lost, with a connection or with
the directory itself, is found a beat later; and because the watcher remembers what it has heard, it hears of each end once.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from typing import Literal

import msgspec

Reason = Literal["Shutdown", "Killed", "LeaseEnded", "Replaced", "Removed", "Unknown"]
Lives = dict[str, str]
"""Incarnation by replica."""
MAX_WATCHED = 1000
"""Names that one agent may watch."""
MAX_NAME_BYTES = 255
"""Length of a name that is watched, as UTF-8."""
MAX_PART = 240
"""Names and lives in one message: with the longest names less than the 64 KiB that a name server takes."""
MAX_REMEMBERED = 4096
"""Ends that a directory, or a watcher, remembers."""


class Departure(msgspec.Struct, frozen=True, array_like=True):
    """The end of a replica that is watched.

    Attributes:
        agent: the name that was watched.
        replica: which one; of agents that programs make, the agent itself.
        incarnation: which of its lives; a random id, another one after each start.
        reason: `Shutdown`: it left in order. `Killed`: it was killed, or its process ended without a goodbye. `LeaseEnded`: it was not heard for a
            lease. `Replaced`: another life has its name. `Removed`: somebody removed it from the directory. `Unknown`: nobody has this name; who
            gets it later is watched from then on.
    """

    agent: str
    replica: str
    incarnation: str
    reason: Reason


class News(msgspec.Struct, frozen=True, array_like=True):
    """What a directory tells a watcher of one life under a name that it watches. No reason: it lives."""

    name: str
    replica: str = ""
    life: str = ""
    reason: Reason | None = None


class Watching:
    """The watcher's side."""

    def __init__(self) -> None:
        self._known: dict[str, Lives] = {}
        self._met: set[str] = set()
        """Names under which somebody has lived since they are watched."""
        self._told: OrderedDict[tuple[str, str, str], None] = OrderedDict()

    def __len__(self) -> int:
        return len(self._known)

    def add(self, name: str) -> None:
        """Watch a name; that nobody has it is told (again)."""
        self._known.setdefault(name, {})
        self._met.discard(name)
        self._told.pop((name, "", ""), None)

    def remove(self, name: str) -> None:
        """Watch it no more. What was told of it is remembered, should it be watched again."""
        self._known.pop(name, None)
        self._met.discard(name)

    def wanted(self) -> dict[str, Lives]:
        """What to say with a beat: the lives that are known, by name."""
        return {name: dict(lives) for name, lives in self._known.items()}

    def parts(self) -> list[dict[str, Lives]]:
        """`wanted` in parts of a bounded size, at least one."""
        parts: list[dict[str, Lives]] = [{}]
        room = MAX_PART
        for name, lives in self._known.items():
            left = list(lives.items())
            while True:
                if room <= 0:
                    parts.append({})
                    room = MAX_PART
                now, left = left[: room - 1], left[room - 1 :]
                parts[-1][name] = dict(now)
                room -= 1 + len(now)
                if not left:
                    break
        return parts

    def take(self, news: Iterable[News]) -> list[Departure]:
        """The ends that were not told before."""
        ends: list[Departure] = []
        for item in news:
            lives = self._known.get(item.name)
            key = (item.name, item.replica, item.life)
            if lives is None or key in self._told or (item.reason == "Unknown" and item.name in self._met):
                continue
            if item.reason != "Unknown":
                self._met.add(item.name)
            if item.reason is None:
                lives[item.replica] = item.life
                continue
            if lives.get(item.replica) == item.life:
                del lives[item.replica]
            self._told[key] = None
            while len(self._told) > MAX_REMEMBERED:
                self._told.popitem(last=False)
            ends.append(Departure(item.name, item.replica, item.life, item.reason))
        return ends


class WatchBook:
    """The directory's side.

    Args:
        now: its start; what it does not know it may have forgotten.
        lease: after so many seconds it knows everybody who lives.
        settle: after so many seconds it knows a name, if anybody has it.
    """

    def __init__(self, now: float, lease: float, settle: float) -> None:
        self._lease = lease
        self._settle = settle
        self.opened(now)
        self._watchers: dict[str, tuple[bytes, set[str]]] = {}
        self._by_name: dict[str, set[str]] = {}
        self._ended: OrderedDict[tuple[str, str], Reason] = OrderedDict()

    def opened(self, now: float) -> None:
        """Watchers, and those that they watch, can come only from now on."""
        self._knows_lives = now + self._lease
        self._knows_names = now + self._settle

    def wants(
        self,
        watcher: str,
        session: bytes,
        wanted: Mapping[str, Lives],
        now: float,
        living: Callable[[str], Lives | None],
        *,
        goes_on: bool = False,
    ) -> list[News]:
        """A watcher has said whom it watches.

        Args:
            watcher: its replica.
            session: where it is told of ends from now on.
            wanted: as of `Watching.wanted`; no more than `MAX_WATCHED` are looked at.
            living: lives under a name; None: no such name.
            goes_on: in addition to what it said before.
        Returns:
            what it does not know yet.
        """
        said = self._watchers[watcher][1] if goes_on and watcher in self._watchers else set()
        self.forget(watcher)
        names = set(list(said | wanted.keys())[:MAX_WATCHED])
        if names:
            self._watchers[watcher] = (session, names)
        for name in names:
            self._by_name.setdefault(name, set()).add(watcher)
        news: list[News] = []
        for name, known in wanted.items():
            if name not in names:
                continue
            found = living(name)
            lives = found or {}
            for replica, life in known.items():
                if lives.get(replica) != life:
                    reason = self._reason(replica, life, now, replaced=replica in lives)
                    if reason is not None:
                        news.append(News(name, replica, life, reason))
            news.extend(News(name, replica, life) for replica, life in lives.items() if known.get(replica) != life)
            if found is None and not known and now >= self._knows_names:
                news.append(News(name, reason="Unknown"))
        return news

    def _reason(self, replica: str, life: str, now: float, *, replaced: bool) -> Reason | None:
        """Why a life that somebody knows is not here; None: it may be on its way back."""
        ended = self._ended.get((replica, life))
        if ended is not None:
            return ended
        if replaced:
            return "Replaced"
        return "LeaseEnded" if now >= self._knows_lives else None

    def departed(self, names: Iterable[str], replica: str, life: str, reason: Reason) -> list[tuple[bytes, News]]:
        """A life has ended.

        Args:
            names: under which it may be watched.
        Returns:
            (session, news) for those that watch it.
        """
        self._ended[(replica, life)] = reason
        while len(self._ended) > MAX_REMEMBERED:
            self._ended.popitem(last=False)
        self.forget(replica)
        return [
            (self._watchers[watcher][0], News(name, replica, life, reason))
            for name in names
            for watcher in sorted(self._by_name.get(name, ()))
        ]

    def forget(self, watcher: str) -> None:
        """It watches nobody any more."""
        _, names = self._watchers.pop(watcher, (b"", ()))
        for name in names:
            watchers = self._by_name[name]
            watchers.discard(watcher)
            if not watchers:
                del self._by_name[name]


_encoder = msgspec.msgpack.Encoder()
_wanted = msgspec.msgpack.Decoder(dict[str, Lives])
_news = msgspec.msgpack.Decoder(list[News])


def encode_wanted(wanted: Mapping[str, Lives]) -> bytes:
    """Body of what a watcher says."""
    return _encoder.encode(wanted)


def decode_wanted(body: bytes) -> dict[str, Lives]:
    """Raises ValueError (msgspec.MsgspecError): it is none."""
    return _wanted.decode(body)


def encode_news(news: list[News]) -> bytes:
    """Body of what a directory answers."""
    return _encoder.encode(news)


def decode_news(body: bytes) -> list[News]:
    """Raises ValueError (msgspec.MsgspecError): it is none."""
    return _news.decode(body)
