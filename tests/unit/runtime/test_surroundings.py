"""The environment of an agent process, and the counter of its lives."""

from __future__ import annotations

from pathlib import Path

import pytest

from ganglion.runtime.errors import ConfigurationError
from ganglion.runtime.surroundings import PORT_BASE, Surroundings, check_legs, next_life

BEHIND = {"GANGLION_WIRING": "/w.json", "GANGLION_RUN_DIR": "/run/g", "GANGLION_REPLICA": "a-0"}
ALONE = {
    **BEHIND,
    "GANGLION_TOKEN_FILE": "/token",
    "GANGLION_REPLICA_UID": "u",
    "GANGLION_ADVERTISE_HOST": "10.0.0.7",
    "GANGLION_PORT_BASE": "0",
}


def test_behind_a_sidecar_three_variables_are_enough() -> None:
    here = Surroundings.read(BEHIND)
    assert (here.replica, here.token_file, here.code_dir, here.port_base) == ("a-0", None, None, PORT_BASE)


def test_without_one_the_process_joins_by_itself() -> None:
    here = Surroundings.read(ALONE)
    assert (here.token_file, here.uid, here.host, here.port_base) == (Path("/token"), "u", "10.0.0.7", 0)


@pytest.mark.parametrize(
    "name", ["GANGLION_WIRING", "GANGLION_RUN_DIR", "GANGLION_REPLICA", "GANGLION_REPLICA_UID", "GANGLION_ADVERTISE_HOST"]
)
def test_a_missing_variable_is_named(name: str) -> None:
    with pytest.raises(ConfigurationError, match=f"{name}: not set"):
        Surroundings.read({key: value for key, value in ALONE.items() if key != name})


@pytest.mark.parametrize("port", ["-1", "http", "65536", "7.5"])
def test_a_port_that_is_none_is_refused(port: str) -> None:
    with pytest.raises(ConfigurationError, match="GANGLION_PORT_BASE: found"):
        Surroundings.read({**ALONE, "GANGLION_PORT_BASE": port})


def test_each_start_is_a_newer_life(tmp_path: Path) -> None:
    lives = [next_life(tmp_path, "u", now) for now in (10.0, 10.0, 11.0)]
    assert [life.start for life in lives] == [1, 2, 3]
    assert lives[1].supersedes(lives[0])
    assert (tmp_path / "starts").read_text() == "3\n"


def test_a_damaged_counter_begins_anew(tmp_path: Path) -> None:
    (tmp_path / "starts").write_text("garbage")
    assert next_life(tmp_path, "u").start == 1


def test_a_directory_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="GANGLION_RUN_DIR: "):
        next_life(tmp_path / "missing", "u")


def test_a_leg_that_cannot_be_made_is_named_before_any_is() -> None:
    folder = Path("/") / ("r" * 60)
    check_legs(folder, ["a" * 33])
    with pytest.raises(
        ConfigurationError, match=r"GANGLION_RUN_DIR: ipc path '.*/aaa+\.sock': found 101 bytes, at most 100; use a shorter"
    ):
        check_legs(folder, ["a" * 34])
    with pytest.raises(ConfigurationError, match=r"control\.sock"):
        check_legs(Path("/") / ("r" * 100), [])
