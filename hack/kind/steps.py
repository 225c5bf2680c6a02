"""Steps that say what they do and how long it took, bounded commands, and a cache keyed by the hash of its inputs."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).resolve().parent


class KindError(Exception):
    """A step cannot be done; the message says what was found and what to do."""


def say(message: str) -> None:
    """Tell the user what happens, on stderr: stdout belongs to `env` and other answers a shell reads."""
    print(message, file=sys.stderr, flush=True)


@contextlib.contextmanager
def step(title: str) -> Iterator[None]:
    """Announce a step and print its wall time in seconds when it ends."""
    say(f"· {title} ...")
    start = time.monotonic()
    try:
        yield
    except BaseException:
        say(f"✗ {title} failed after {time.monotonic() - start:.1f} s")
        raise
    say(f"✓ {title} ({time.monotonic() - start:.1f} s)")


def run(
    command: Sequence[str | Path],
    *,
    timeout: float,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    stdin: str | None = None,
) -> str:
    """Run a command to its end and return its stdout.

    Arguments:
        timeout: seconds after which the command is killed.
        env: variables added to the inherited environment.

    Raises:
        KindError: the program is missing, was too slow, or failed; carries the end of its output.
    """
    words = [str(word) for word in command]
    shown = " ".join(words)
    try:
        done = subprocess.run(
            words,
            env={**os.environ, **(env or {})},
            cwd=cwd,
            input=stdin or "",
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout,
            check=False,
        )
    except FileNotFoundError as error:
        raise KindError(f"{words[0]}: program not found; install it or put it on PATH (wanted: {shown})") from error
    except subprocess.TimeoutExpired as error:
        raise KindError(f"{shown}: no end after {timeout:.0f} s, killed") from error
    if done.returncode != 0:
        tail = "\n".join((done.stdout + done.stderr).strip().splitlines()[-25:])
        raise KindError(f"{shown}: exit status {done.returncode}\n{tail}")
    return done.stdout


def succeeds(command: Sequence[str | Path], *, timeout: float, env: Mapping[str, str] | None = None) -> bool:
    """Whether a command ends with status 0 within `timeout` seconds."""
    try:
        run(command, timeout=timeout, env=env)
    except KindError:
        return False
    return True


def wait_until(what: str, ready: Callable[[], bool], *, timeout: float, poll: float = 0.25) -> None:
    """Poll a condition every `poll` seconds until it holds.

    Raises:
        KindError: it did not hold within `timeout` seconds.
    """
    deadline = time.monotonic() + timeout
    while not ready():
        if time.monotonic() > deadline:
            raise KindError(f"{what}: not so after {timeout:.0f} s")
        time.sleep(poll)


def cache_root() -> Path:
    """Where built artefacts live, shared by every work tree of this user."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    path = Path(base) / "ganglion"
    path.mkdir(parents=True, exist_ok=True)
    return path


def digest(*parts: str | bytes | Path) -> str:
    """Hash strings and file contents (a directory: every file below it) to the 12 digits that name an artefact."""
    total = hashlib.sha256()
    for part in parts:
        if isinstance(part, Path):
            files = sorted(file for file in part.rglob("*") if file.is_file()) if part.is_dir() else [part]
            for file in files:
                if "__pycache__" in file.parts:
                    continue
                name = file.relative_to(part) if part.is_dir() else file.name
                total.update(f"{name}\0{file.stat().st_mode & 0o111}\0".encode())
                total.update(hashlib.sha256(file.read_bytes()).digest())
        else:
            total.update(part.encode() if isinstance(part, str) else part)
        total.update(b"\0\0")
    return total.hexdigest()[:12]


@contextlib.contextmanager
def locked(name: str) -> Iterator[None]:
    """Hold a lock file of the cache, so that two runs never build the same artefact at once."""
    directory = cache_root() / "locks"
    directory.mkdir(exist_ok=True)
    with (directory / name).open("w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"· another run builds {name}; waiting for it")
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def cached(kind: str, name: str, key: str, title: str, build: Callable[[Path], None]) -> Path:
    """The artefact `kind/name-key` of the cache: built once, replaced when the hash of its inputs changes.

    `build` fills an empty directory that becomes visible under its final name only when complete.
    """
    home = cache_root() / kind
    final = home / f"{name}-{key}"
    if final.is_dir():
        return final
    with locked(f"{kind}-{name}"):
        if final.is_dir():
            return final
        home.mkdir(exist_ok=True)
        partial = home / f".{name}-{key}.partial"
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir()
        with step(title):
            try:
                build(partial)
            except BaseException:
                shutil.rmtree(partial, ignore_errors=True)
                raise
        for old in home.glob(f"{name}-????????????"):
            shutil.rmtree(old, ignore_errors=True)
        partial.rename(final)
    return final
