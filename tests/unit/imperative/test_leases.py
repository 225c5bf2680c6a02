"""Names: taken, kept by beats, freed."""

from __future__ import annotations

from ganglion.imperative.frames import Record
from ganglion.imperative.leases import LEASE_SECONDS, Leases


def record(name: str = "a", life: bytes = b"1" * 16) -> Record:
    return Record(name=name, life=life, control="tcp://127.0.0.1:1", safe="tcp://127.0.0.1:2")


def test_a_name_belongs_to_the_life_that_beats() -> None:
    leases = Leases(0.0)
    assert leases.beat(record(), b"s", 0.0)
    assert not leases.beat(record(life=b"2" * 16), b"t", 5.0)
    assert leases.beat(record(), b"s", 9.0)
    assert leases.session("a") == b"s"


def test_a_silent_agent_loses_its_name() -> None:
    leases = Leases(0.0)
    leases.beat(record(), b"s", 0.0)
    for second in range(1, 11):
        gone = leases.tick(float(second))
    assert [one.name for one in gone] == ["a"]
    assert leases.get("a") is None
    assert leases.beat(record(life=b"2" * 16), b"t", LEASE_SECONDS + 1)


def test_a_lease_that_ended_is_taken_before_the_tick() -> None:
    leases = Leases(0.0)
    leases.beat(record(), b"s", 0.0)
    assert leases.beat(record(life=b"2" * 16), b"t", LEASE_SECONDS)


def test_a_name_server_that_stood_still_blames_nobody() -> None:
    leases = Leases(0.0)
    leases.beat(record(), b"s", 0.0)
    assert leases.tick(60.0) == []
    assert "a" in list(leases)


def test_only_its_own_life_frees_a_name() -> None:
    leases = Leases(0.0)
    leases.beat(record(), b"s", 0.0)
    assert not leases.remove("a", b"2" * 16)
    assert leases.remove("a", b"1" * 16)
    assert not leases.remove("a")


def test_names_in_the_order_in_which_they_came() -> None:
    leases = Leases(0.0)
    for name in "cab":
        leases.beat(record(name), b"s", 0.0)
    leases.beat(record("c"), b"s", 1.0)
    assert list(leases) == ["c", "a", "b"]
