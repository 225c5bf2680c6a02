"""Defaults from the environment, and where the secret lies."""

from __future__ import annotations

from pathlib import Path

import pytest

from ganglion import run_agent, run_nameserver
from ganglion.imperative import pod
from ganglion.imperative.secret import join_secret
from ganglion.imperative.settings import read
from ganglion.local.state import StateDirectory


@pytest.mark.parametrize(
    ("text", "value"), [("", True), ("true", True), ("True", True), ("1", True), ("false", False), ("False", False), ("0", False)]
)
def test_safe_is_what_it_says(text: str, value: bool) -> None:
    assert read({"OSBRAIN_DEFAULT_SAFE": text})["SAFE"] is value
    assert read({"GANGLION_DEFAULT_SAFE": text})["SAFE"] is value


def test_a_backend_that_there_is_not_is_refused() -> None:
    with pytest.raises(ValueError, match="backend: found 'cloud'; must be process or thread or pod"):
        run_agent("x", backend="cloud")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="backend: found 'pod'; must be process or thread"):
        run_nameserver(backend="pod")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "prefix"), [("Alice", "alice-"), ("a b.c", "a-b-c-"), ("7up", "agent-7up-"), ("ü", "agent-"), ("x" * 90, "x" * 40 + "-")]
)
def test_the_object_of_an_agent_in_a_pod_is_named_after_it(name: str, prefix: str) -> None:
    assert pod._prefix(name) == prefix


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
