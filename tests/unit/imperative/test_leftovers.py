"""What is removed: files of sockets that nobody listens on, and nothing else."""

from __future__ import annotations

import os
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from ganglion.imperative import leftovers
from ganglion.imperative.leftovers import sweep


@pytest.fixture
def folder() -> Iterator[Path]:
    # A socket's path is bounded, and pytest's folders are deep.
    with tempfile.TemporaryDirectory(prefix="gl-", dir="/tmp") as path:
        yield Path(path)


def _bind(path: Path, *, listen: bool) -> socket.socket:
    made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    made.bind(str(path))
    if listen:
        made.listen()
    return made


def _aged(path: Path, seconds: float = 10) -> Path:
    past = path.lstat().st_mtime - seconds
    os.utime(path, (past, past), follow_symlinks=False)
    return path


@pytest.mark.parametrize("known", [True, False], ids=["proc", "no-proc"])
def test_only_the_dead_are_removed(folder: Path, monkeypatch: pytest.MonkeyPatch, known: bool) -> None:
    if not known:
        # As for a socket of another network namespace.
        monkeypatch.setattr(leftovers, "_known_to_kernel", frozenset)
    _bind(folder / "dead", listen=True).close()
    _bind(folder / "young", listen=True).close()
    with _bind(folder / "alive", listen=True), _bind(folder / "other", listen=True):
        (folder / "file").write_text("")
        (folder / "link").symlink_to(folder / "dead")
        (folder / "folder").mkdir()
        for name in ("dead", "alive", "file", "link", "folder"):
            _aged(folder / name)
        # However long this takes.
        _aged(folder / "young", -60)
        assert sweep(folder) == 1
    assert sorted(item.name for item in folder.iterdir()) == ["alive", "file", "folder", "link", "other", "young"]


def test_a_full_backlog_is_no_death(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leftovers, "_known_to_kernel", frozenset)
    with _bind(folder / "busy", listen=False) as busy:
        busy.listen(0)
        _aged(folder / "busy")
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as first:
            first.connect(str(folder / "busy"))
            assert sweep(folder) == 0
            assert sweep(folder) == 0


def test_no_such_folder(folder: Path) -> None:
    assert sweep(folder / "none") == 0
