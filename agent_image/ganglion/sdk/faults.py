"""What becomes of exceptions in user code: logged with their message id, counted, and judged by `onError`."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any

from ganglion.runtime.plane import MessageId, Verdict
from ganglion.sdk.lifecycle import EXIT_FAILED, Lifecycle
from ganglion.sdk.mailbox import HandedBack
from ganglion.sdk.target import where
from ganglion.sdk.tracebacks import Repeats, place, trim
from ganglion.wiring import WiringDocument

log = logging.getLogger(__name__)


class Faults:
    """See the module. Main thread.

    Args:
        wiring: the document.
        lifecycle: told to leave where the policy says so.
        giving_up: whether blocking sends are refused because the process leaves; what they raise is nobody's fault.
        changed: called when the process should look at its lifecycle.
    """

    def __init__(self, wiring: WiringDocument, lifecycle: Lifecycle, *, giving_up: Callable[[], bool], changed: Callable[[], Any]) -> None:
        self._agent = wiring.agent
        self._once = wiring.agent.run == "Once"
        self._acknowledged = {channel.alias: channel.delivery == "AtLeastOnce" for channel in wiring.channels}
        self._lifecycle = lifecycle
        self._giving_up = giving_up
        self._changed = changed
        self._repeats = Repeats()
        self.count = 0
        """Exceptions of handlers, timers and hooks."""

    def handler(self, alias: str, message: MessageId, error: BaseException) -> Verdict:
        """A handler, or the decoding of its message, raised."""
        if isinstance(error, HandedBack) or (self._lifecycle.ending and self._giving_up()):
            return Verdict.RELEASE
        self.count += 1
        self._tell(f"channel {alias!r}: message {message}: handler", error, {"message_id": str(message), "alias": alias})
        if isinstance(error, SystemExit):
            self.exit_asked(error)
        else:
            self._judge(f"channel {alias!r}: a handler raised {type(error).__name__}")
        return Verdict.REJECT if self._acknowledged[alias] else Verdict.DONE

    def timer(self, name: str, error: BaseException) -> None:
        """A timer's callable raised; the name is its alias, or that of its method."""
        self.hook(f"timer {name!r}", error)

    def hook(self, name: str, error: BaseException) -> None:
        """A hook or a timer raised."""
        if isinstance(error, SystemExit):
            self.exit_asked(error)
            return
        self.count += 1
        self._tell(name, error)
        self._judge(f"{name} raised {type(error).__name__}")

    def function(self, error: BaseException) -> None:
        """The agent's function raised: there is nothing to continue with."""
        if isinstance(error, SystemExit):
            self.exit_asked(error)
            return
        self.count += 1
        self._tell("the agent's function", error)
        self._lifecycle.leave(time.monotonic(), "the agent's function raised", code=EXIT_FAILED)
        self._changed()

    def exit_asked(self, error: SystemExit) -> None:
        """`sys.exit` in user code: the process ends in order with that code; text goes to the log, as Python prints it."""
        code = error.code if isinstance(error.code, int) else EXIT_FAILED if error.code else 0
        if isinstance(error.code, str) and error.code:
            log.error("%s", error.code)
        if code:
            self._lifecycle.leave(time.monotonic(), "the agent exits", code=code)
        else:
            self._lifecycle.complete(time.monotonic(), "the agent exits")
        self._changed()

    def _tell(self, who: str, error: BaseException, extra: dict[str, str] | None = None) -> None:
        traceback, line, hidden = self._repeats.look((type(error).__qualname__, *place(error)), time.monotonic())
        if not line:
            return
        text = where(error)
        more = f"; {hidden} more like it since the last line" if hidden else ""
        log.error("%s raised %s%s", who, text, more, exc_info=error if traceback and trim(error) else None, extra=extra)

    def _judge(self, reason: str) -> None:
        policy = self._agent.on_error
        if policy == "Continue" or self._lifecycle.ending:
            return
        log.warning("%s: onError: %s", reason, policy)
        code = EXIT_FAILED if policy == "Restart" or self._once else 0
        self._lifecycle.leave(time.monotonic(), f"{reason}; onError: {policy}", code=code)
        self._changed()
