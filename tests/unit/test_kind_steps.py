"""The cache and the commands behind the clusters."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from hack.kind import cluster, provider
from hack.kind.golang import kubernetes_version, program
from hack.kind.steps import KindError, cached, digest, run, wait_until


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "ganglion"


def test_artefact_is_built_once_per_hash(own_cache: Path) -> None:
    built: list[str] = []

    def build(target: Path) -> None:
        built.append(target.name)
        (target / "file").write_text("x")

    first = cached("bin", "tool", "a" * 12, "build", build)
    assert cached("bin", "tool", "a" * 12, "build", build) == first
    second = cached("bin", "tool", "b" * 12, "build", build)
    assert len(built) == 2
    assert [path.name for path in (own_cache / "bin").iterdir()] == [second.name]


def test_failed_build_leaves_no_artefact(own_cache: Path) -> None:
    def build(target: Path) -> None:
        (target / "half").write_text("x")
        raise KindError("disk on fire")

    with pytest.raises(KindError, match="on fire"):
        cached("bin", "tool", "a" * 12, "build", build)
    assert list((own_cache / "bin").iterdir()) == []


def test_two_runs_build_the_same_artefact_once() -> None:
    entered = threading.Event()
    release = threading.Event()
    built: list[Path] = []

    def build(target: Path) -> None:
        built.append(target)
        entered.set()
        assert release.wait(30)

    def ask() -> None:
        cached("bin", "tool", "a" * 12, "build", build)

    threads = [threading.Thread(target=ask) for _ in range(2)]
    threads[0].start()
    assert entered.wait(30)
    threads[1].start()
    release.set()
    for thread in threads:
        thread.join(30)
        assert not thread.is_alive()
    assert len(built) == 1


def test_digest_sees_names_contents_and_modes(tmp_path: Path) -> None:
    script = tmp_path / "tree" / "script"
    script.parent.mkdir()
    script.write_text("a")
    seen = [digest(script.parent)]
    script.write_text("b")
    seen.append(digest(script.parent))
    script.chmod(0o755)
    seen.append(digest(script.parent))
    script.rename(script.with_name("other"))
    seen.append(digest(script.parent))
    (script.parent / "__pycache__").mkdir()
    (script.parent / "__pycache__" / "x.pyc").write_text("x")
    assert len(set(seen)) == 4
    assert digest(script.parent) == seen[-1]
    assert digest("ab", "c") != digest("a", "bc")


def test_failing_command_tells_its_words_and_its_output() -> None:
    with pytest.raises(KindError, match=r"sh -c .*exit status 3\n(.|\n)*no such luck"):
        run(["sh", "-c", "echo no such luck >&2; exit 3"], timeout=30)


def test_missing_program_and_endless_command_are_errors() -> None:
    with pytest.raises(KindError, match="no-such-program-here: program not found"):
        run(["no-such-program-here"], timeout=30)
    with pytest.raises(KindError, match="killed"):
        run(["tail", "-f", os.devnull], timeout=0.2)


def test_condition_that_never_holds_is_named() -> None:
    with pytest.raises(KindError, match="moon is blue: not so"):
        wait_until("moon is blue", lambda: False, timeout=0.05, poll=0.01)


def test_unknown_provider_and_dead_engine_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(KindError, match="choose one of auto, docker, podman, offline"):
        provider.select("minikube")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(KindError, match="docker: not installed or its daemon does not answer"):
        provider.select("docker")


def test_missing_go_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(KindError, match="go: not found"):
        program("kind")


def test_without_a_cluster_commands_say_how_to_make_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "ROOT", tmp_path)
    absent = cluster.Cluster("absent")
    assert absent.problem() == "there is none"
    with pytest.raises(KindError, match=r"no cluster 'absent': .*up"):
        absent.environment()


def test_pinned_version_is_read_from_the_module() -> None:
    assert kubernetes_version().startswith("v1.")
