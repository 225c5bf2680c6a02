"""What Ganglion's own processes have to say reaches people sparingly: a fault of a handler is one of their lines for each message.

What user code prints passes untouched, and so do lines of JSON, which are for programs. The log files keep everything.
"""

from __future__ import annotations

import math
import re
import time
from collections.abc import Callable

from ganglion.sdk.tracebacks import Repeats

_WORD = re.compile(r"[\w-]+")
_REPLICA = re.compile(r"[a-z]+(?:-[a-z]+)*-\d{1,4}")
"""Worth a line of its own: who it is about."""
_VARIES = re.compile(r"\b(?=[^\W\d]*\d)\w+")
"""Times, message ids, numbers: words with a digit. Tried once for each word, so a long one costs no more than its length."""
_HEAD = re.compile(r"\d{4}-\d\d-\d\d[T ]\S+ ")
"""Begins what was logged at once; a traceback follows without."""
_FOLLOWS_SECONDS = 1.0
"""What comes later than this is no part of the line before: a process that dies has the last word."""


def _kind(text: str) -> str:
    return _WORD.sub(lambda word: word[0] if _REPLICA.fullmatch(word[0]) else _VARIES.sub("#", word[0]), text)


class Sparing:
    """Of lines and notices that differ in numbers only, some are shown in each window, the rest as a number.

    Args:
        line: takes a line that a process printed: replica, source (`agent`, `runtime` or `nameserver`), text.
        warn: takes a notice's text.
        tell: takes a remark of no urgency.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        line: Callable[[str, str, str], None],
        warn: Callable[[str], None],
        tell: Callable[[str], None],
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._line = line
        self._warn = warn
        self._tell = tell
        self._clock = clock
        self._lines = Repeats()
        self._notices = Repeats()
        self._hidden_at: dict[str, float] = {}
        """Process whose last line was not shown → when."""

    def line(self, replica: str, source: str, text: str) -> None:
        """A process printed a line."""
        if source == "agent" or text.startswith("{"):
            self._line(replica, source, text)
            return
        process, now = f"{replica}/{source}", self._clock()
        head = _HEAD.match(text)
        if head is None:
            if now - self._hidden_at.get(process, -math.inf) > _FOLLOWS_SECONDS:
                self._line(replica, source, text)
            return
        _, shown, hidden = self._lines.look((process, _kind(text[head.end() :]), 0), now)
        if hidden:
            self._tell(f"{process}: {hidden} lines like the next were not shown; all: ganglion logs {replica} -c {source}")
        if shown:
            self._hidden_at.pop(process, None)
            self._line(replica, source, text)
        else:
            self._hidden_at[process] = now

    def notice(self, replica: str, reason: str, channel: str, message: str) -> None:
        """A process wants people to know something."""
        about = ": ".join(part for part in (replica, reason, channel) if part)
        _, shown, hidden = self._notices.look((about, _kind(message), 0), self._clock())
        if shown:
            text = f"{about}: {message}" if message else about
            self._warn(f"{text}; {hidden} more like it since the last line" if hidden else text)

    def flush(self, *, final: bool = False) -> None:
        """Tell what was not shown and has had no line of its kind since; call it now and then, and with `final` at the end."""
        now = math.inf if final else self._clock()
        for (process, text, _), hidden in self._lines.overdue(now):
            replica, _, source = process.partition("/")
            self._tell(f"{process}: {hidden} lines more like this one: {text}; all: ganglion logs {replica} -c {source}")
        for (about, message, _), hidden in self._notices.overdue(now):
            self._warn(f"{about}: {hidden} more like this one: {message}")
