"""What processes do once for all that use one cluster."""

from __future__ import annotations

import tempfile
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.e2e import sharing


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sharing, "cluster", lambda: SimpleNamespace(name="unit", state=tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))


@pytest.mark.usefixtures("made")
def test_the_first_of_each_run_does_it() -> None:
    answers = []
    for what, run in (("cluster", "a"), ("cluster", "a"), ("operator", "a"), ("cluster", "b")):
        with sharing.once(what, run) as first:
            answers.append(first)
    assert answers == [True, False, True, True]


@pytest.mark.usefixtures("made")
def test_what_failed_is_for_the_next() -> None:
    with pytest.raises(OSError, match="no disk"), sharing.once("cluster", "a"):
        raise OSError("no disk")
    with sharing.once("cluster", "a") as first:
        assert first


@pytest.mark.usefixtures("made")
def test_others_wait_until_it_is_done() -> None:
    answers: list[bool] = []

    def other() -> None:
        with sharing.once("cluster", "a") as first:
            answers.append(first)

    thread = threading.Thread(target=other)
    with sharing.once("cluster", "a") as first:
        assert first
        thread.start()
        # Long enough for one that does not wait to come to its end.
        thread.join(0.3)
        assert answers == []
    thread.join(10)
    assert answers == [False]
