"""The wiring document survives its own JSON, and names the field that is wrong."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from ganglion.wiring import TimerWiring, WiringError, load_wiring
from tests.support.wirings import channel, wiring


def test_round_trip_through_canonical_json() -> None:
    document = wiring(
        channel("tasks", "tasks", "Pull", bind=False, handler="work"),
        channel("news", "news", "Sub", bind=False, topics=("a", "ä")),
        attributes={"z": 1, "a": [None, {"ü": True}]},
        timers=(TimerWiring(name="tick", method="tick", period_seconds=0.5),),
    )
    text = document.to_json()
    assert load_wiring(text) == document
    assert text == load_wiring(text).to_json()
    assert list(json.loads(text)) == ["agent", "channels", "nameServer", "version"]


def test_order_of_attributes_does_not_change_the_json() -> None:
    assert wiring(attributes={"a": 1, "b": 2}).to_json() == wiring(attributes={"b": 2, "a": 1}).to_json()


def test_unknown_fields_are_ignored() -> None:
    raw = json.loads(wiring().to_json())
    raw["agent"]["later"] = {"x": 1}
    assert load_wiring(json.dumps(raw)) == wiring()


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"agent": {"run": "Twice"}}, "agent.run"),
        ({"agent": {"name": 5}}, "agent.name"),
        ({"version": "x"}, "version"),
    ],
)
def test_a_wrong_value_is_named(change: dict[str, object], text: str) -> None:
    raw = json.loads(wiring().to_json())
    for key, value in change.items():
        raw[key] = {**raw[key], **value} if isinstance(value, dict) else value
    with pytest.raises(WiringError, match=f"wiring document: {text}: "):
        load_wiring(json.dumps(raw))


def test_another_version_is_refused() -> None:
    raw = json.loads(wiring().to_json())
    raw["version"] = 2
    with pytest.raises(WiringError, match="version: found 2"):
        load_wiring(json.dumps(raw))


@pytest.mark.parametrize("text", ["", "{", "[" * 100_000, b'"\xff"', "null"])
def test_garbage_is_refused(text: str | bytes) -> None:
    with pytest.raises(WiringError):
        load_wiring(text)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(WiringError, match=r"wiring\.json: No such file"):
        load_wiring(tmp_path / "wiring.json")


def test_agents_do_not_import_pydantic() -> None:
    done = subprocess.run(
        [sys.executable, "-c", "import sys, ganglion.wiring; print('pydantic' in sys.modules)"], check=True, capture_output=True, text=True
    )
    assert done.stdout.strip() == "False"
