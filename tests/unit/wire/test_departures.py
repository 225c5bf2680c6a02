"""Each end is told once, whatever gets lost in between."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ganglion.nameserver.port import MAX_FRAME_BYTES
from ganglion.wire.control import Watch, encode
from ganglion.wire.departures import (
    MAX_NAME_BYTES,
    MAX_PART,
    MAX_REMEMBERED,
    MAX_WATCHED,
    Departure,
    Lives,
    News,
    Reason,
    WatchBook,
    Watching,
    decode_news,
    decode_wanted,
    encode_news,
    encode_wanted,
)

LEASE, SETTLE = 10.0, 3.0


class World:
    """A directory and one watcher; beats and pushed news may get lost."""

    def __init__(self) -> None:
        self.now = 0.0
        self.lives: dict[str, str] = {}
        self.watching = Watching()
        self.heard: list[Departure] = []
        self.restart()

    def restart(self) -> None:
        self.book = WatchBook(self.now, LEASE, SETTLE)

    def _living(self, name: str) -> Lives | None:
        return {name: self.lives[name]} if name in self.lives else None

    def hear(self, news: Iterable[News]) -> list[Departure]:
        heard = self.watching.take(decode_news(encode_news(list(news))))
        self.heard += heard
        return heard

    def beat(self, *, answered: bool = True) -> list[Departure]:
        wanted = decode_wanted(encode_wanted(self.watching.wanted()))
        news = self.book.wants("watcher", b"session", wanted, self.now, self._living)
        return self.hear(news) if answered else []

    def end(self, name: str, reason: Reason = "Shutdown", *, told: bool = True) -> list[Departure]:
        news = self.book.departed((name,), name, self.lives.pop(name), reason)
        assert all(session == b"session" for session, _ in news)
        return self.hear(item for _, item in news) if told else []


def test_an_end_is_told_at_once_and_once() -> None:
    world = World()
    world.lives["a"] = "1"
    world.watching.add("a")
    assert world.beat() == []
    assert world.watching.wanted() == {"a": {"a": "1"}}
    assert world.end("a", "Killed") == [Departure("a", "a", "1", "Killed")]
    world.now = LEASE
    assert world.beat() == [], "that nobody has the name now is no news"
    world.lives["a"] = "2"
    assert world.beat() == []
    assert world.end("a") == [Departure("a", "a", "2", "Shutdown")]


def test_what_was_not_heard_is_told_with_the_next_beat() -> None:
    world = World()
    world.lives["a"] = "1"
    world.watching.add("a")
    world.beat()
    assert world.end("a", "Killed", told=False) == []
    world.lives["a"] = "2"
    assert world.beat() == [Departure("a", "a", "1", "Killed")]
    assert world.watching.wanted() == {"a": {"a": "2"}}


def test_after_a_restart_who_does_not_come_back_has_ended_a_lease_later() -> None:
    world = World()
    world.lives |= {"a": "1", "b": "1", "c": "1"}
    for name in world.lives:
        world.watching.add(name)
    world.beat()
    world.lives.clear()
    world.restart()
    assert world.beat() == []
    world.lives |= {"b": "2", "c": "1"}
    assert world.beat() == [Departure("b", "b", "1", "Replaced")]
    world.now += LEASE - 0.1
    assert world.beat() == []
    world.now += 0.1
    assert world.beat() == [Departure("a", "a", "1", "LeaseEnded")]
    assert world.end("c") == [Departure("c", "c", "1", "Shutdown")]


def test_nobody_of_this_name_is_told_once_a_watch() -> None:
    world = World()
    world.watching.add("a")
    assert world.beat() == [], "it may not have come back yet"
    world.now = SETTLE
    assert world.beat() == [Departure("a", "", "", "Unknown")]
    assert world.beat() == []
    world.watching.add("a")
    assert world.beat() == [Departure("a", "", "", "Unknown")]
    world.lives["a"] = "1"
    world.beat()
    assert world.end("a") == [Departure("a", "a", "1", "Shutdown")]


def test_replicas_of_one_name() -> None:
    book, watching = WatchBook(0.0, LEASE, SETTLE), Watching()
    lives: dict[str, Lives] = {"w": {"w-0": "1", "w-1": "1"}, "w-1": {"w-1": "1"}}
    watching.add("w")
    watching.add("w-1")
    assert watching.take(book.wants("x", b"s", watching.wanted(), 0.0, lives.get)) == []
    news = [item for _, item in book.departed(("w", "w-1"), "w-1", "1", "Killed")]
    assert watching.take(news) == [Departure("w", "w-1", "1", "Killed"), Departure("w-1", "w-1", "1", "Killed")]
    # An agent that is declared and has no replicas now is known.
    lives["w"] = {}
    assert [item.reason for item in book.wants("x", b"s", {"w": {}}, LEASE, lives.get)] == []


def test_who_has_unwatched_or_ended_is_told_nothing() -> None:
    world = World()
    world.lives["a"] = "1"
    world.watching.add("a")
    world.beat()
    world.watching.remove("a")
    assert world.hear([News("a", "a", "1", "Killed")]) == []
    world.beat()
    assert world.book.departed(("a",), "a", "1", "Killed") == []
    world.watching.add("a")
    world.beat()
    world.book.forget("watcher")
    assert world.book.departed(("a",), "a", "1", "Killed") == []
    assert not world.book._by_name
    assert not world.book._watchers


def test_bounds() -> None:
    book = WatchBook(0.0, LEASE, SETTLE)
    assert len(book.wants("x", b"s", {str(n): {} for n in range(MAX_WATCHED + 1)}, SETTLE, lambda _: None)) == MAX_WATCHED
    for number in range(MAX_REMEMBERED + 1):
        book.departed(("a",), "a", str(number), "Killed")
    assert len(book._ended) == MAX_REMEMBERED
    watching = Watching()
    watching.add("a")
    assert len(watching.take([News("a", "a", str(number), "Killed") for number in range(MAX_REMEMBERED + 1)])) == MAX_REMEMBERED + 1
    assert len(watching._told) == MAX_REMEMBERED


@pytest.mark.parametrize("body", [b"", b"\xc1", b"\x01", b"\x91\x01", b"\x81\x01\x80"])
def test_garbage_is_refused(body: bytes) -> None:
    for decode in (decode_news, decode_wanted):
        with pytest.raises(ValueError):
            decode(body)


@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("start"), st.sampled_from("ab")),
            st.tuples(st.sampled_from(["end", "lost end"]), st.sampled_from("ab")),
            st.tuples(st.sampled_from(["beat", "lost beat", "restart"]), st.just("")),
        ),
        max_size=40,
    )
)
def test_no_end_is_told_twice_and_none_that_was_known_is_missed(steps: list[tuple[str, str]]) -> None:
    world = World()
    for name in "ab":
        world.watching.add(name)
    ended: set[tuple[str, str]] = set()
    known: set[tuple[str, str]] = set()
    births = 0
    for step, name in steps:
        world.now += 1.0
        match step:
            case "start" if name not in world.lives:
                births += 1
                world.lives[name] = str(births)
            case "end" | "lost end" if name in world.lives:
                ended.add((name, world.lives[name]))
                world.end(name, "Killed", told=step == "end")
            case "beat" | "lost beat":
                world.beat(answered=step == "beat")
            case "restart":
                world.restart()
        known |= {(name, life) for name, lives in world.watching.wanted().items() for life in lives.values()}
    world.now += LEASE
    world.beat()
    told = [(item.replica, item.incarnation) for item in world.heard if item.reason != "Unknown"]
    assert len(told) == len(set(told))
    assert set(told) <= ended
    assert known & ended <= set(told)


def test_parts_are_bounded_and_make_the_whole() -> None:
    watching = Watching()
    assert watching.parts() == [{}]
    for name in ("few", "many", "none"):
        watching.add(name)
    watching.take([News("few", f"few-{n}", "1") for n in range(3)])
    watching.take([News("many", f"many-{n}", "1") for n in range(2 * MAX_PART)])
    parts = watching.parts()
    assert len(parts) == 3
    assert all(sum(1 + len(lives) for lives in part.values()) <= MAX_PART for part in parts)
    whole: dict[str, Lives] = {}
    for part in parts:
        for name, lives in part.items():
            whole.setdefault(name, {}).update(lives)
    assert whole == watching.wanted()

    longest = Watching()
    for number in range(MAX_WATCHED):
        longest.add(str(number).rjust(MAX_NAME_BYTES, "a"))
    assert max(len(encode(Watch(names=part))) for part in longest.parts()) <= MAX_FRAME_BYTES

    # The directory takes them for one.
    book = WatchBook(0.0, LEASE, SETTLE)
    living = watching.wanted()
    for number, part in enumerate(parts):
        assert not [item for item in book.wants("x", b"s", part, LEASE, living.get, goes_on=number > 0) if item.reason]
    assert [item.replica for _, item in book.departed(("few",), "few-1", "1", "Killed")] == ["few-1"]
    assert [item.replica for _, item in book.departed(("many",), "many-1", "1", "Killed")] == ["many-1"]
