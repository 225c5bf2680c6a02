"""Scenarios in a domain that `ganglion up` runs: agents that programs beside sidecars make, every second one beside another sidecar."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.differential.pods import CHOSEN
from tests.differential.runner import Result, Run
from tests.differential.verdicts import compare
from tests.integration.local.domain import agent, desk, server, write

SECONDS = 600
CODE = f"""
import contextlib
import os
import sys
from pathlib import Path

sys.path.insert(0, {str(Path(__file__).parents[2])!r})
from tests.differential.pods import PREFIX, main, serve


def play(agent):
    with Path(agent.get_attr("transcripts")).open("w") as out, contextlib.redirect_stdout(out):
        main(agent.get_attr("scenarios"))
"""


@pytest.fixture
def osbrain() -> Iterator[Run]:
    """The same scenarios on osBrain, in the background."""
    pytest.importorskip("osbrain")
    run = Run([("osbrain", name) for name in CHOSEN], workers=1)
    try:
        yield run
    finally:
        run.close()


def played(folder: Path, plane: str) -> dict[str, dict[str, Any]]:
    """What each scenario has shown."""
    transcripts = folder / "transcripts"
    objects = [
        server(adHoc="Allowed", remoteCode="Trusted"),
        agent("stage", "agents:serve", [], dataPlane=plane),
        agent("player", "agents:play", [], run="Once", dataPlane=plane, attributes={"transcripts": str(transcripts), "scenarios": CHOSEN}),
    ]
    with desk(folder / "home") as here:
        process = here.up(write(folder / "domain", objects, CODE))
        assert process.wait(SECONDS) == 0, here.output()
        here.assert_nothing_left(None)
    lines = [json.loads(line) for line in transcripts.read_text().splitlines() if line.startswith('{"scenario"')]
    return {line.pop("scenario"): line for line in lines}


@pytest.mark.timeout(SECONDS + 120)
@pytest.mark.parametrize("plane", ["Sidecar", "InProcess"])
def test_scenarios_beside_sidecars(tmp_path: Path, osbrain: Run, plane: str) -> None:
    found = played(tmp_path, plane)
    assert set(found) == set(CHOSEN)
    wrong = {}
    for name, result in found.items():
        here, elsewhere = result.pop("made")
        assert here
        assert elsewhere, name
        result["transcript"] = [(key, value) for key, value in result["transcript"]]
        wrong[name] = compare(name, osbrain.result("osbrain", name, within=SECONDS), Result(**result))
    assert not any(wrong.values()), "\n".join(f"{name}: {lines} {found[name]['failure']}" for name, lines in wrong.items() if lines)
