"""Private folders of sockets, keys and documents: `ganglion-XXXXXXXX`, mode 0700, short enough for the paths of ipc sockets.

Their owner removes them at its end. One that is killed cannot, so it holds a lock on a file in the folder as long as it lives, which the kernel
gives back with its process; whoever starts next removes the folders whose lock nobody holds.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import re
import shutil
import stat
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Self

log = logging.getLogger(__name__)

RUN_PREFIX = "ganglion-"
MAX_RUN_BASE_BYTES = 18
"""An ipc path may have 100 bytes; `/ganglion-XXXXXXXX/9999/dead-letter-<alias of 40>.sock` takes 81 of them."""
OWNER = "owner"
"""File that the owner of a folder holds locked. A folder without it is nobody's to remove."""
_NAME = re.compile(re.escape(RUN_PREFIX) + r"[a-z0-9_]{8}")


def run_base() -> Path:
    """Folder for run folders: the user's runtime directory when its path is short enough, else the temporary directory."""
    for candidate in (os.environ.get("XDG_RUNTIME_DIR"), os.environ.get("TMPDIR")):
        if (
            candidate
            and Path(candidate).is_absolute()
            and len(os.fsencode(candidate)) <= MAX_RUN_BASE_BYTES
            and os.access(candidate, os.W_OK)
        ):
            return Path(candidate)
    return Path("/tmp")  # noqa: S108 - mkdtemp makes a private folder below it


class RunFolder:
    """A new folder, this process's until `remove`, or its end.

    Raises:
        OSError: it cannot be made.
    """

    def __init__(self) -> None:
        self.path = Path(tempfile.mkdtemp(prefix=RUN_PREFIX, dir=run_base()))
        self._lock: int | None = None
        part = self.path / f"{OWNER}.part"
        # Under its name only when it is locked: who sweeps at this moment would find a file that nobody holds. A file system without locks
        # leaves it without that name, and the folder to its owner alone.
        with contextlib.suppress(OSError):
            self._lock = os.open(part, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            part.rename(self.path / OWNER)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.remove()

    def remove(self) -> None:
        """Remove it with all that is in it; idempotent."""
        _remove(self.path)
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None


def sweep() -> int:
    """Remove this user's folders whose owner was killed; how many."""
    try:
        entries = [entry.path for entry in os.scandir(run_base()) if _NAME.fullmatch(entry.name)]
    except OSError:
        return 0
    removed = sum(_remove_dead(Path(path)) for path in entries)
    if removed:
        log.debug("%s: removed %d folders whose owner was killed", run_base(), removed)
    return removed


def is_own(path: Path) -> bool:
    """Whether it is a private folder of this user."""
    try:
        found = path.lstat()
    except OSError:
        return False
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid() and stat.S_IMODE(found.st_mode) == 0o700


def _remove_dead(path: Path) -> bool:
    if not is_own(path):
        return False
    owner = path / OWNER
    try:
        descriptor = os.open(owner, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # Its owner, or another sweep, may have removed it after it was opened, and somebody has the name anew.
        if not os.path.samestat(os.fstat(descriptor), owner.lstat()):
            return False
        _remove(path)
    except OSError:
        # Held: its owner lives.
        return False
    finally:
        os.close(descriptor)
    return not path.exists()


def _remove(path: Path) -> None:
    """The owner's file goes last: who is killed half-way leaves a folder that can still be swept."""
    with contextlib.suppress(OSError):
        for entry in os.scandir(path):
            if entry.is_dir(follow_symlinks=False):
                shutil.rmtree(entry.path, ignore_errors=True)
            elif entry.name != OWNER:
                Path(entry.path).unlink(missing_ok=True)
        if {entry.name for entry in path.iterdir()} - {OWNER}:
            # Something could not be removed, or a straggler has made it meanwhile: with its owner's file the next sweep finds the folder.
            return
        (path / OWNER).unlink(missing_ok=True)
        path.rmdir()
