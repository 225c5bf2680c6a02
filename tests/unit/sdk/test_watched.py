"""Ends wait for the loop, go to their handlers, and are bounded."""

from __future__ import annotations

import pytest

from ganglion.sdk import watched
from ganglion.sdk.watched import Watched
from ganglion.wire.departures import Departure, Reason


def _end(name: str = "a", reason: Reason = "Killed") -> Departure:
    return Departure(name, name, "1", reason)


def test_ends_that_come_before_the_loop_wait_for_it() -> None:
    ran: list[Departure] = []
    watches = Watched(lambda _name, _on: None, lambda handler, departure: handler(departure))
    watches.watch("a", ran.append)
    watches.ended(_end())
    assert ran == []
    watches.start()
    assert ran == [_end()]
    watches.ended(_end(reason="Shutdown"))
    assert ran[1:] == [_end(reason="Shutdown")]


def test_the_handler_of_the_name_runs_while_it_is_watched(caplog: pytest.LogCaptureFixture) -> None:
    ran: list[str] = []
    told: list[tuple[str, bool]] = []
    watches = Watched(lambda name, on: told.append((name, on)), lambda handler, departure: handler(departure))
    watches.start()
    watches.watch("a", lambda _: ran.append("first"))
    watches.watch("a", lambda _: ran.append("second"))
    watches.ended(_end())
    watches.ended(_end("b"))
    watches.unwatch("a")
    watches.ended(_end())
    assert ran == ["second"]
    assert told == [("a", True), ("a", True), ("a", False)]
    watches.watch("typo", lambda _: None)
    watches.ended(_end("typo", "Unknown"))
    assert "nobody has the name 'typo'" in caplog.text


def test_bounds(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(watched, "MAX_WATCHED", 2)
    monkeypatch.setattr(watched, "MAX_WAITING", 1)
    ran: list[Departure] = []
    watches = Watched(lambda _name, _on: None, lambda handler, departure: handler(departure))
    for name in ("a", "b", "a"):
        watches.watch(name, ran.append)
    with pytest.raises(ValueError, match="watch: 2 names are watched already; unwatch some"):
        watches.watch("c", ran.append)
    watches.ended(_end())
    watches.ended(_end("b"))
    assert "the end of b came before the loop began" in caplog.text
    watches.start()
    assert ran == [_end()]


def test_a_long_name_is_refused() -> None:
    told: list[str] = []
    watches = Watched(lambda name, _on: told.append(name), lambda _handler, _departure: None)
    watches.watch("a" * 255, print)
    with pytest.raises(ValueError, match="watch: found a name of 256 bytes; pass the name of an agent, at most 255"):
        watches.watch("\u00e4" * 128, print)
    assert told == ["a" * 255]


@pytest.mark.parametrize("name", ["", None, 1])
def test_no_name(name: object) -> None:
    watches = Watched(lambda _name, _on: None, lambda _handler, _departure: None)
    with pytest.raises(ValueError, match="pass the name of an agent"):
        watches.watch(name, print)  # type: ignore[arg-type]
    with pytest.raises(KeyError, match="watched: nobody"):
        watches.unwatch("a")
