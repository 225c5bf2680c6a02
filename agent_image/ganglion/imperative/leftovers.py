"""Files of ipc sockets whose process was killed. The kernel closes a socket with its process, and leaves the file."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import socket
import stat
import time
from pathlib import Path

log = logging.getLogger(__name__)

MIN_AGE_SECONDS = 1.0
"""Between bind() and listen() a living socket refuses connections as well."""


def sweep(folder: Path) -> int:
    """Remove the files of this user's sockets on which nobody listens; how many.

    Args:
        folder: of ipc sockets; what else is there is left alone.
    """
    try:
        entries = list(os.scandir(folder))
    except OSError:
        return 0
    # Not enough by itself: it lacks the sockets of other network namespaces, which may share the folder.
    listening = _known_to_kernel()
    old = time.time() - MIN_AGE_SECONDS
    removed = 0
    for entry in entries:
        # Gone meanwhile, or not ours to look at.
        with contextlib.suppress(OSError):
            found = entry.stat(follow_symlinks=False)
            ours = stat.S_ISSOCK(found.st_mode) and found.st_uid == os.getuid() and found.st_mtime < old
            if ours and entry.path not in listening and _refuses(entry.path):
                Path(entry.path).unlink()
                removed += 1
    if removed:
        log.debug("%s: removed %d files of sockets whose process was killed", folder, removed)
    return removed


def _known_to_kernel() -> frozenset[str]:
    try:
        lines = Path("/proc/net/unix").read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError:
        return frozenset()
    # Num RefCount Protocol Flags Type St Inode Path
    return frozenset(fields[7] for line in lines if len(fields := line.split(None, 7)) == 8)


def _refuses(path: str) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        return probe.connect_ex(path) == errno.ECONNREFUSED
