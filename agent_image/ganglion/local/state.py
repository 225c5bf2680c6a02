"""Where a domain lives on this machine: a state directory that outlasts it (logs), and a short run directory that does not (sockets, keys).

${XDG_STATE_HOME:-~/.local/state}/ganglion/<domain>/   lock  supervisor.json  logs/
$XDG_RUNTIME_DIR or /tmp: ganglion-XXXXXXXX/           sockets, keys, wiring documents, code; mode 0700
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from ganglion.local.folders import RUN_PREFIX, RunFolder, is_own, sweep


class DomainBusyError(RuntimeError):
    """Another supervisor runs this domain."""


class DomainNotRunningError(RuntimeError):
    """No supervisor runs this domain."""


def state_home() -> Path:
    """Folder of all domains."""
    base = os.environ.get("XDG_STATE_HOME")
    root = Path(base) if base and Path(base).is_absolute() else Path.home() / ".local" / "state"
    return root / "ganglion"


class StateDirectory:
    """One domain's state directory, held by one supervisor at a time.

    Args:
        domain: name of the NameServer.
    """

    def __init__(self, domain: str) -> None:
        self.domain = domain
        self.path = state_home() / domain
        self.logs = self.path / "logs"
        self._lock: int | None = None
        self._run: RunFolder | None = None

    def __enter__(self) -> Self:
        self.acquire()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.release()

    def acquire(self) -> None:
        """Take the lock, and remove what a killed supervisor left behind.

        Raises:
            DomainBusyError: somebody else holds it.
            OSError: the directory cannot be made.
        """
        self.prepare()
        descriptor = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            with _gate(self.path):
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(descriptor)
            raise DomainBusyError(
                f"domain {self.domain!r} is run by another process; see `ganglion get`, or end it: ganglion down"
            ) from error
        self._lock = descriptor
        self._remove_left_over()

    def prepare(self) -> Path:
        """Make the directory and its folder of logs, which is returned. Needs no lock."""
        self.path.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.logs.mkdir(exist_ok=True)
        return self.logs

    def forget_logs(self) -> None:
        """Remove the logs of the run before this one, but not the supervisor's own, which it writes to by now."""
        for item in self.logs.iterdir():
            if item.is_file() and not item.name.startswith("supervisor."):
                item.unlink(missing_ok=True)

    @property
    def run(self) -> Path:
        """The run directory; made at the first use."""
        if self._run is None:
            self._run = RunFolder()
        return self._run.path

    def announce(self, **fields: Any) -> None:
        """Tell clients where the supervisor is. Written as a whole or not at all."""
        body = json.dumps({"pid": os.getpid(), "run": str(self.run), **fields})
        part = self.path / "supervisor.json.part"
        part.write_text(body, encoding="utf-8")
        part.replace(self.path / "supervisor.json")

    def release(self) -> None:
        """Remove the run directory and give the lock back; idempotent."""
        if self._lock is None:
            return
        (self.path / "supervisor.json").unlink(missing_ok=True)
        if self._run is not None:
            self._run.remove()
            self._run = None
        os.close(self._lock)
        self._lock = None

    def _remove_left_over(self) -> None:
        sweep()
        record = _record(self.path)
        (self.path / "supervisor.json").unlink(missing_ok=True)
        if record is None:
            return
        left = Path(str(record.get("run")))
        # Only a folder that we made: the record is a file that anybody with this account may have edited.
        if left.name.startswith(RUN_PREFIX) and left.is_absolute() and is_own(left):
            shutil.rmtree(left, ignore_errors=True)


def _record(path: Path) -> dict[str, Any] | None:
    try:
        content = json.loads((path / "supervisor.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) else None


@contextlib.contextmanager
def _gate(path: Path) -> Iterator[None]:
    """Whoever looks whether the lock is held holds it for a moment; the gate keeps that moment from a supervisor that starts."""
    descriptor = os.open(path / "gate", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _is_held(path: Path) -> bool:
    try:
        descriptor = os.open(path / "lock", os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        with _gate(path):
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
            fcntl.flock(descriptor, fcntl.LOCK_UN)
    except OSError:
        return True
    finally:
        os.close(descriptor)
    return False


def running_domains() -> list[str]:
    """Names of the domains that a supervisor holds now."""
    home = state_home()
    if not home.is_dir():
        return []
    return sorted(item.name for item in home.iterdir() if item.is_dir() and _is_held(item))


def supervisor_record(domain: str) -> dict[str, Any] | None:
    """What the running supervisor announced; None while it has not, or when nothing runs."""
    path = state_home() / domain
    return _record(path) if _is_held(path) else None


def choose_running(domain: str | None) -> str:
    """The domain that a command means.

    Args:
        domain: what the user named; None: the only one that runs.
    Raises:
        DomainNotRunningError: there is none, or there are several and none was named.
    """
    running = running_domains()
    if domain is not None:
        if domain not in running:
            raise DomainNotRunningError(f"domain {domain!r} is not running; running: {', '.join(running) or 'none'}")
        return domain
    if len(running) == 1:
        return running[0]
    if not running:
        raise DomainNotRunningError("no domain is running; start one: ganglion up -f DIR")
    raise DomainNotRunningError(f"{len(running)} domains are running ({', '.join(running)}); name one with --domain")
