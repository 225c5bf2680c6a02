"""What Ganglion's own processes have to say reaches people sparingly: a fault of a handler is one of their lines for each message.

What user code prints passes untouched, and the log files keep everything.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable

from ganglion.sdk.tracebacks import Repeats

_VARIES = re.compile(r"\b(?=[^\W\d]*\d)\w+")
"""Times, message ids, numbers, names of replicas: words with a digit. Tried once for each word, so a long one costs no more than its length."""


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

    def line(self, replica: str, source: str, text: str) -> None:
        """A process printed a line."""
        if source == "agent":
            self._line(replica, source, text)
            return
        _, shown, hidden = self._lines.look((f"{replica}/{source}", _VARIES.sub("#", text), 0), self._clock())
        if hidden:
            self._tell(f"{replica}/{source}: {hidden} lines like the next were not shown; all: ganglion logs {replica} -c {source}")
        if shown:
            self._line(replica, source, text)

    def notice(self, replica: str, reason: str, channel: str, message: str) -> None:
        """A process wants people to know something."""
        _, shown, hidden = self._notices.look((f"{replica}/{reason}/{channel}", _VARIES.sub("#", message), 0), self._clock())
        if shown:
            text = ": ".join(part for part in (replica, reason, channel, message) if part)
            self._warn(f"{text}; {hidden} more like it since the last line" if hidden else text)
