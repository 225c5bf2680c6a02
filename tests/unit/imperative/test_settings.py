"""Defaults from the environment, and where the secret lies."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ganglion import run_agent, run_nameserver
from ganglion.imperative.secret import join_secret
from ganglion.imperative.settings import read
from ganglion.local.state import StateDirectory


@pytest.mark.parametrize(
    ("text", "value"), [("", True), ("true", True), ("True", True), ("1", True), ("false", False), ("False", False), ("0", False)]
)
def test_safe_is_what_it_says(text: str, value: bool) -> None:
    assert read({"OSBRAIN_DEFAULT_SAFE": text})["SAFE"] is value
    assert read({"GANGLION_DEFAULT_SAFE": text})["SAFE"] is value


@pytest.mark.parametrize("make", [run_agent, run_nameserver])
def test_a_backend_that_there_is_not_is_refused(make: Any) -> None:
    with pytest.raises(ValueError, match="backend: found 'pod'; must be process or thread; a pod of its own is what an Agent"):
        make("x", backend="pod")


def test_what_is_no_answer_is_refused() -> None:
    with pytest.raises(ValueError, match="GANGLION_DEFAULT_SAFE: found 'maybe', must be true or false"):
        read({"GANGLION_DEFAULT_SAFE": "maybe"})


def test_no_domain_takes_the_place_of_the_secret(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    for variable in ("GANGLION_JOIN_SECRET", "GANGLION_JOIN_SECRET_FILE"):
        monkeypatch.delenv(variable, raising=False)
    # A name that a NameServer may have.
    with StateDirectory("join-secret"):
        assert len(join_secret()) == 64
    files = [item for item in (tmp_path / "ganglion").iterdir() if item.is_file()]
    assert [item.stat().st_mode & 0o777 for item in files] == [0o600]
