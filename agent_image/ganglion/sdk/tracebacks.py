"""Exceptions of user code as their author wants to see them: from his own first line on, and not a thousand times over."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

import ganglion

_OURS = str(Path(ganglion.__file__).parent.absolute()) + os.sep
LINES = 3
"""Exceptions of one kind that get a line of their own in each window."""
WINDOW_SECONDS = 10.0
_MAX_KINDS = 256

Kind = tuple[str, str, int]
"""(type, file, line) of an exception."""


def _frames(first: TracebackType | None) -> Iterator[TracebackType]:
    while first is not None:
        yield first
        first = first.tb_next


def _is_ours(frame: TracebackType) -> bool:
    return frame.tb_frame.f_code.co_filename.startswith(_OURS)


def place(error: BaseException) -> tuple[str, int]:
    """(file, line) of the innermost frame that is not Ganglion's own, or of the innermost at all; ("", 0) without frames."""
    frames = list(_frames(error.__traceback__))
    theirs = [frame for frame in frames if not _is_ours(frame)] or frames
    return (theirs[-1].tb_frame.f_code.co_filename, theirs[-1].tb_lineno) if theirs else ("", 0)


def trim(error: BaseException) -> bool:
    """Take Ganglion's frames off the outer end of the traceback, off the inner end of its own errors, and causes that lie in it alone.

    Returns:
        Whether frames are left: an exception that was raised before user code ran says everything in its message.
    """
    first = error.__traceback__
    while first is not None and _is_ours(first):
        first = first.tb_next
    error.__traceback__ = first
    if type(error).__module__.startswith("ganglion."):
        theirs = [frame for frame in _frames(first) if not _is_ours(frame)]
        if theirs:
            theirs[-1].tb_next = None
    seen = {id(error)}
    inner: BaseException | None = error
    while inner is not None and (behind := inner.__cause__ or inner.__context__) is not None and id(behind) not in seen:
        seen.add(id(behind))
        if all(map(_is_ours, _frames(behind.__traceback__))):
            inner.__cause__ = None
            inner.__suppress_context__ = True
        inner = behind
    return first is not None


class Repeats:
    """Which exceptions are shown: the first of a kind with its traceback, some of the others with a line, the rest as a number. Pure."""

    def __init__(self) -> None:
        self._kinds: dict[Kind, list[float]] = {}
        """kind → [end of its window, lines shown in it, exceptions not shown since the last line]"""

    def look(self, kind: Kind, now: float) -> tuple[bool, bool, int]:
        """One more exception.

        Args:
            kind: what it is, and where.
            now: monotonic seconds.
        Returns:
            Whether to show its traceback, whether to show a line, and how many of its kind were not shown before it.
        """
        known = self._kinds.get(kind)
        if known is None:
            if len(self._kinds) >= _MAX_KINDS:
                del self._kinds[next(iter(self._kinds))]
            self._kinds[kind] = [now + WINDOW_SECONDS, 1, 0]
            return True, True, 0
        if now >= known[0]:
            known[0], known[1] = now + WINDOW_SECONDS, 0
        if known[1] >= LINES:
            known[2] += 1
            return False, False, 0
        known[1] += 1
        hidden, known[2] = int(known[2]), 0
        return False, True, hidden

    def overdue(self, now: float) -> list[tuple[Kind, int]]:
        """Kinds whose window is over and of which some were not shown, with their number; they count as told."""
        found = [(kind, int(known[2])) for kind, known in self._kinds.items() if known[2] and now >= known[0]]
        for kind, _ in found:
            self._kinds[kind][2] = 0
        return found
