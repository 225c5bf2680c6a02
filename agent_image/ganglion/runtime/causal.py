"""Causal acknowledgement: an input is acknowledged when its handler returned and every at-least-once send made in it is settled.

A **token** stands for a run of consecutive messages of one input batch. Handlers run with their token current; an outlet remembers, per
output batch, how many of its messages belong to which token. So the bookkeeping is per batch, and a send costs one identity comparison.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from contextvars import ContextVar

from ganglion.runtime.plane import MessageId
from ganglion.wire.frames import DONE, HANDLED

Finish = Callable[[Hashable, int, int, int, int], None]
"""(link, stream, first, count, code), see `Receiver.finished`."""


class Token:
    """Messages first..first+count-1 of a stream that arrived on a link.

    Args:
        finish: told once, when the run is through.
        link: the receiver's link key.
        stream: stream of the input.
        first: sequence of the first message.
        causal: False: acknowledge when the handlers returned, whatever they sent.
        alias: of the channel that the input came on.
        sender: address of the replica that it came from.
    """

    __slots__ = ("_done", "alias", "causal", "closed", "count", "finish", "first", "link", "open", "sender", "seq", "stream")

    def __init__(
        self, finish: Finish, link: Hashable, stream: int, first: int, *, causal: bool = True, alias: str = "", sender: str = ""
    ) -> None:
        self.alias = alias
        self.sender = sender
        self.causal = causal
        self.finish = finish
        self.link = link
        self.stream = stream
        self.first = first
        self.count = 0
        self.seq = first
        """Sequence of the message whose handler runs now."""
        self.open = 0
        """Sends that are not settled."""
        self.closed = False
        self._done = False

    @property
    def message_id(self) -> MessageId:
        """Id of the message whose handler runs now."""
        return MessageId(self.stream, self.seq)

    def close(self, count: int, *, tell: bool = False) -> None:
        """The handlers of the first `count` messages returned; no others will run under this token.

        Args:
            tell: say HANDLED when outputs are still awaited, so that a crash charges somebody else.
        """
        self.closed = True
        self.count = count
        if not count:
            self._done = True
        elif not (self.open and self.causal):
            self._done = True
            self.finish(self.link, self.stream, self.first, count, DONE)
        elif tell:
            self.finish(self.link, self.stream, self.first, count, HANDLED)

    def settled(self, count: int) -> None:
        """`count` sends made under this token are settled."""
        self.open -= count
        # A background task may send under a token long after it was acknowledged.
        if self.closed and not self.open and not self._done:
            self._done = True
            self.finish(self.link, self.stream, self.first, self.count, DONE)

    @property
    def waiting(self) -> bool:
        """Handled, but not acknowledged yet."""
        return self.closed and not self._done


current: ContextVar[Token | None] = ContextVar("ganglion-input", default=None)
"""The input that is being handled; None outside handlers."""


class Runs:
    """Which token each message of a growing output batch belongs to."""

    __slots__ = ("_runs", "_start", "token")

    def __init__(self) -> None:
        self.token: Token | None = None
        """Token of the run that is growing; compare it with `current.get()` and call `switch` when they differ."""
        self._start = 0
        self._runs: list[tuple[Token, int]] = []

    def switch(self, token: Token | None, size: int) -> None:
        """The next message belongs to `token`; the batch has `size` messages."""
        self._end_run(size)
        self.token = token
        self._start = size
        if token is not None:
            # Keeps the token open until the run's length is known.
            token.open += 1

    def seal(self, size: int) -> tuple[tuple[Token, int], ...]:
        """Runs of a batch of `size` messages that is complete now; the next batch starts empty."""
        self._end_run(size)
        runs = tuple(self._runs)
        self._runs.clear()
        self.token = None
        self._start = 0
        return runs

    def _end_run(self, size: int) -> None:
        token, count = self.token, size - self._start
        if token is None:
            return
        if count:
            token.open += count - 1
            self._runs.append((token, count))
        else:
            token.settled(1)
