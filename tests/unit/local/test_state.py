"""The state directory: one supervisor a domain, nothing left behind by a killed one."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path

import pytest

from ganglion.api.rules import DEAD_LETTER_PREFIX
from ganglion.local import folders, state
from ganglion.runtime.sockets import MAX_IPC_PATH_BYTES


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    return tmp_path / "ganglion"


def test_one_supervisor_at_a_time() -> None:
    with state.StateDirectory("shop"):
        assert state.running_domains() == ["shop"]
        with pytest.raises(state.DomainBusyError, match="shop"):
            state.StateDirectory("shop").acquire()
    assert state.running_domains() == []
    with state.StateDirectory("shop"):
        pass


def test_the_run_directory_is_private_short_and_removed() -> None:
    with state.StateDirectory("shop") as directory:
        run = directory.run
        assert stat.S_IMODE(run.stat().st_mode) == 0o700
        # The longest socket name that a domain can have must fit an ipc path.
        longest = run / "9999" / f"dead-letter-{'x' * 40}.sock"
        assert len(os.fsencode(longest)) <= 100
        directory.announce()
        assert state.supervisor_record("shop") == {"pid": os.getpid(), "run": str(run)}
    assert not run.exists()
    assert state.supervisor_record("shop") is None


def test_what_a_killed_supervisor_left_is_removed(home: Path) -> None:
    directory = state.StateDirectory("shop")
    directory.acquire()
    run = directory.run
    directory.announce()
    assert directory._lock is not None
    assert directory._run is not None
    assert directory._run._lock is not None
    # What the kernel does with the locks of a killed process.
    os.close(directory._lock)
    os.close(directory._run._lock)
    assert run.exists()
    assert state.supervisor_record("shop") is None
    with state.StateDirectory("shop"):
        assert not run.exists()


@pytest.mark.parametrize("kind", ["other-name", "open-mode", "link"])
def test_a_record_cannot_make_it_remove_a_stranger(home: Path, tmp_path: Path, kind: str) -> None:
    victim = tmp_path / ("ganglion-x" if kind != "other-name" else "precious")
    victim.mkdir(mode=0o700 if kind != "open-mode" else 0o755)
    (victim / "file").touch()
    target = victim
    if kind == "link":
        target = tmp_path / "ganglion-link"
        target.symlink_to(victim)
    (home / "shop").mkdir(parents=True)
    (home / "shop" / "supervisor.json").write_text(json.dumps({"pid": 1, "run": str(target)}))
    with state.StateDirectory("shop"):
        assert (victim / "file").exists()


def test_a_torn_record_is_no_record(home: Path) -> None:
    (home / "shop").mkdir(parents=True)
    (home / "shop" / "supervisor.json").write_text('{"pid": 1, "ru')
    with state.StateDirectory("shop"):
        assert state.supervisor_record("shop") is None


def test_which_domain_is_meant() -> None:
    with pytest.raises(state.DomainNotRunningError, match="no domain is running"):
        state.choose_running(None)
    with state.StateDirectory("a"):
        assert state.choose_running(None) == "a"
        with pytest.raises(state.DomainNotRunningError, match="'b' is not running; running: a"):
            state.choose_running("b")
        with state.StateDirectory("b"), pytest.raises(state.DomainNotRunningError, match=r"2 domains are running \(a, b\)"):
            state.choose_running(None)


def test_a_long_runtime_directory_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    deep = tmp_path / ("x" * 60)
    deep.mkdir()
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(deep))
    monkeypatch.setenv("TMPDIR", str(deep))
    assert folders.run_base() == Path("/tmp")


def test_the_longest_socket_path_fits() -> None:
    longest = f"/{folders.RUN_PREFIX}XXXXXXXX/9999/{DEAD_LETTER_PREFIX}{'a' * 40}.sock"
    assert folders.MAX_RUN_BASE_BYTES + len(longest) <= MAX_IPC_PATH_BYTES
