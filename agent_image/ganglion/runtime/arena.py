"""Large messages without page faults: a process that has seen one tells glibc's malloc to keep the memory that it frees.

glibc gives the free end of a heap back to the system as soon as it has 128 KiB. With messages of 64 KiB that is one of two messages, and the
next one is a page fault for each of its pages; larger ones come and go with mappings of their own. So from the first large message on, up to
64 MiB at the end of each heap (the main one, and that of each thread that receives) stay with the process once it has needed them, and blocks
of up to 32 MiB come from heaps. Both limits are those that glibc itself goes up to after it has freed a block of 32 MiB. A process with small
messages only is left alone: it would gain nothing.

Who sets one of malloc's own variables for this (`MALLOC_TRIM_THRESHOLD_`, `MALLOC_MMAP_THRESHOLD_`, `MALLOC_TOP_PAD_`, `GLIBC_TUNABLES` with
`glibc.malloc`) has decided; then nothing is changed. Other C libraries have no such limits.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping

LARGE_BYTES = 32 * 1024
"""A message of this size is large: it pays to keep its memory, and to hand it on as a view."""
LARGE_SENT_BYTES = 128 * 1024
"""Messages of this size are large for who sends them. Smaller ones wait in libzmq's queue, and are seldom at the end of a heap."""
TRIM_BYTES = 64 * 1024 * 1024
MMAP_BYTES = 32 * 1024 * 1024
"""The most that glibc accepts."""

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
"""As in glibc's malloc.h."""
_VARIABLES = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "MALLOC_TOP_PAD_")

Mallopt = Callable[[int, int], int]


def find_mallopt() -> Mallopt | None:
    """glibc's `mallopt(parameter, value)`, which returns 1, or 0 when it refuses the value; None where there is none."""
    try:
        # Not before it is needed: most processes never are here.
        import ctypes

        mallopt: Mallopt = ctypes.CDLL(None).mallopt
    except (ImportError, OSError, AttributeError):
        return None
    return mallopt


class Arenas:
    """The heaps of this process.

    Args:
        find: finds `mallopt`; asked once, at the first large message.
        environment: whether somebody has decided already.

    Attributes:
        large_seen: a large message was received or sent.
    """

    def __init__(self, find: Callable[[], Mallopt | None] = find_mallopt, environment: Mapping[str, str] = os.environ) -> None:
        self._find = find
        self._environment = environment
        self.large_seen = False

    def note(self, size: int, messages: int = 1) -> bool:
        """Note what was received; the first large message changes the limits.

        Args:
            size: bytes of a frame.
            messages: how many share it.
        Returns:
            Whether they are large, on average.
        """
        if size < LARGE_BYTES * messages:
            return False
        if not self.large_seen:
            self._keep()
        return True

    def note_sent(self, size: int, messages: int = 1) -> None:
        """Note what is sent; as `note`."""
        if size >= LARGE_SENT_BYTES * messages and not self.large_seen:
            self._keep()

    def _keep(self) -> None:
        # Two threads may both come here; the second changes nothing any more.
        self.large_seen = True
        if any(name in self._environment for name in _VARIABLES) or "glibc.malloc" in self._environment.get("GLIBC_TUNABLES", ""):
            return
        mallopt = self._find()
        # In this order: either of them ends glibc's own rule, and the second alone would map every block above 128 KiB anew.
        if mallopt is not None and mallopt(M_MMAP_THRESHOLD, MMAP_BYTES):
            mallopt(M_TRIM_THRESHOLD, TRIM_BYTES)


ARENAS = Arenas()
"""Those of this process; a forked one inherits what was changed, and knows that it was."""
note, note_sent = ARENAS.note, ARENAS.note_sent
