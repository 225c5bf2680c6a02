"""Run folders: private, and removed after their owner's death, but never while it lives, and never what is nobody's."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from ganglion.local.folders import OWNER, RunFolder, run_base, sweep


@pytest.fixture(autouse=True)
def base(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    # Its path is bounded, and pytest's folders are deep.
    with tempfile.TemporaryDirectory(prefix="gl-", dir="/tmp") as path:
        monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
        monkeypatch.setenv("TMPDIR", path)
        assert run_base() == Path(path)
        yield Path(path)


def _die(folder: RunFolder) -> Path:
    """What the kernel does with the lock of a killed process."""
    assert folder._lock is not None
    os.close(folder._lock)
    folder._lock = None
    return folder.path


def test_its_owner_removes_it() -> None:
    with RunFolder() as folder:
        assert stat.S_IMODE(folder.path.stat().st_mode) == 0o700
        (folder.path / "deep").mkdir()
        (folder.path / "deep" / "file").touch()
    assert not folder.path.exists()
    folder.remove()


def test_only_the_folders_of_the_dead_are_removed(base: Path) -> None:
    alive, dead = RunFolder(), RunFolder()
    (dead.path / "reports.sock").touch()
    left = _die(dead)
    # Made, and not locked yet; older than these locks; of another kind; a file; open to others, so not made by us; a link to a dead one.
    (base / "ganglion-aaaaaaaa").mkdir(mode=0o700)
    (base / "ganglion-aaaaaaaa" / f"{OWNER}.part").touch()
    for name, mode in (("ganglion-bbbbbbbb", 0o700), ("ganglion-bench-cccccccc", 0o700), ("ganglion-dddddddd", 0o755)):
        (base / name).mkdir(mode=mode)
        if name != "ganglion-bbbbbbbb":
            (base / name / OWNER).touch()
    (base / "ganglion-eeeeeeee").touch()
    elsewhere = base / "elsewhere"
    elsewhere.mkdir(mode=0o700)
    (elsewhere / OWNER).touch()
    (base / "ganglion-ffffffff").symlink_to(elsewhere)
    before = set(base.iterdir())
    assert sweep() == 1
    assert before - set(base.iterdir()) == {left}
    assert (elsewhere / OWNER).exists()
    alive.remove()


def test_what_cannot_be_emptied_is_swept_later(monkeypatch: pytest.MonkeyPatch) -> None:
    folder = RunFolder()
    (folder.path / "deep").mkdir()
    with monkeypatch.context() as patch:
        patch.setattr("ganglion.local.folders.shutil.rmtree", lambda *_args, **_more: None)
        folder.remove()
    assert (folder.path / OWNER).exists()
    assert sweep() == 1
    assert not folder.path.exists()


def test_a_link_in_it_is_not_followed(base: Path) -> None:
    precious = base / "precious"
    precious.mkdir()
    (precious / "file").touch()
    folder = RunFolder()
    (folder.path / "link").symlink_to(precious)
    left = _die(folder)
    assert sweep() == 1
    assert not left.exists()
    assert (precious / "file").exists()


def test_a_process_that_was_killed(base: Path) -> None:
    program = "from ganglion.local.folders import RunFolder; import sys; f = RunFolder(); print(f.path, flush=True); sys.stdin.read()"
    with subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        path = Path(process.stdout.readline().strip())
        assert path.parent == base
        assert sweep() == 0
        process.kill()
    assert sweep() == 1
    assert not path.exists()


def test_without_a_base_nothing_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ganglion.local.folders.run_base", lambda: Path("/nonexistent"))
    assert sweep() == 0
