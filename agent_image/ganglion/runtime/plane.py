"""What the SDK sees of the data plane, whichever side of the ipc leg the data sockets are on.

All methods are called from the main thread unless they say otherwise.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from ganglion.wire.control import Ledger
from ganglion.wire.published import Asker


class MessageId(NamedTuple):
    """(stream, sequence): unique for ever; the same message redelivered keeps it."""

    stream: int
    seq: int

    def __str__(self) -> str:
        return f"{self.stream:016x}-{self.seq}"


class Verdict(enum.IntEnum):
    """What becomes of an input whose handler raised (codes of the ACK frame)."""

    DONE = 0
    """Acknowledge all the same (the exception is logged and counted)."""
    REJECT = 1
    """Hand back and charge an attempt; dead-lettered after three."""
    RELEASE = 2
    """Hand back without a charge."""


@dataclass(frozen=True, slots=True)
class Reply:
    """Outcome of a request. Exactly one of `body` and `error` is set."""

    body: bytes | memoryview | None
    error: Exception | None
    """RemoteError (type, message, traceback as text), ReplierLost, RequestTimeout."""


class Outlet(Protocol):
    """A sending role (Push, Pub, Req) on one channel."""

    alias: str

    def send(self, body: bytes | memoryview, *, topic: bytes = b"", timeout: float | None = None) -> MessageId:
        """Accept one message (Push, Pub).

        Blocks while `highWaterMark` messages are unacknowledged (`overflow: Block`), pumping the sockets meanwhile but running no
        handler; with DropNewest the message is counted as dropped.

        Args:
            body: encoded body, at most `maxMessageBytes` bytes.
            topic: PubSub: any bytes. Addressed channels: the receiver's address.
            timeout: seconds to block at most; None: for ever (until the agent is told to stop).
        Raises:
            MessageTooLarge: more than `maxMessageBytes`; nothing was accepted.
            SendTimeout: `timeout` passed; nothing was accepted.
            ChannelClosed: `end()` was called, or the agent leaves.
        """
        ...

    def request(self, body: bytes | memoryview, *, timeout: float, on_reply: Callable[[Reply], None]) -> MessageId:
        """Send one request (Req). `on_reply` is called once, from the main loop or from a pump, within `timeout` seconds."""
        ...

    def flush(self) -> None:
        """Put what is coalesced on the wire now. Called by the reactor whenever input has drained."""
        ...

    def end(self) -> None:
        """No more sends: END is reported once the ledger is at rest."""
        ...

    @property
    def at_rest(self) -> bool:
        """Nothing accepted is unsettled."""
        ...

    @property
    def ended(self) -> bool: ...

    @property
    def wired(self) -> int:
        """Receivers with a live link in both directions (0..n)."""
        ...

    def ledger(self) -> Ledger:
        """Any thread."""
        ...

    def close(self, linger: float) -> None:
        """Release sockets; wait at most `linger` seconds for what is unsettled."""
        ...


class Inlet(Protocol):
    """A receiving role (Pull, Sub, Rep) on one channel. Made with a decode function and a handler; see the planes' `inlet()`."""

    alias: str

    def start(self) -> None:
        """Grant credit / subscribe: messages may arrive from now on."""
        ...

    def stop_intake(self) -> None:
        """Take no more: credit is revoked politely, unstarted messages are released to their senders."""
        ...

    def resume_intake(self) -> None:
        """Undo `stop_intake` where messages are acknowledged; elsewhere nobody has kept any."""
        ...

    @property
    def current(self) -> MessageId | None:
        """The message whose handler is running now (also inside coroutine handlers)."""
        ...

    @property
    def idle(self) -> bool:
        """No handler runs, no finished input waits for its causal acknowledgement."""
        ...

    @property
    def delivered(self) -> int: ...

    @property
    def failed(self) -> int: ...

    @property
    def wired(self) -> int: ...

    def subscribe(self, topic: bytes) -> None:
        """Sub only."""
        ...

    def unsubscribe(self, topic: bytes) -> None:
        """Sub only."""
        ...

    def close(self) -> None: ...


class ReqOutlet(Outlet, Protocol):
    """Where requests are sent."""

    def forget_requests(self) -> None:
        """Await no more replies to what was asked so far: it counts as dropped, and no `on_reply` is called."""
        ...


class SyncOutlet(Outlet, Protocol):
    """Where a SyncPub publishes."""

    on_wired: Callable[[], None]
    """Called when subscribers' markers have come or gone."""

    def hears(self, asker: Asker) -> bool:
        """Whether the subscriptions that a subscriber had when it asked are here."""
        ...

    def answer(self, asker: Asker, body: bytes | memoryview) -> None:
        """Publish a reply for one subscriber, behind everything that was sent so far; it counts as no message. Raises as `send`."""
        ...


class SyncInlet(Inlet, Protocol):
    """Where a SyncSub hears."""

    @property
    def generation(self) -> int:
        """Of its subscriptions."""
        ...

    def hold(self) -> None:
        """Take nothing more until who waits for a reply, with `await` or in a function, has gone on."""
        ...


@dataclass(frozen=True, slots=True)
class InletSpec:
    """How an inlet treats what arrives."""

    alias: str
    decode: Callable[[bytes | memoryview], Any]
    handler: Callable[..., Any]
    """`handler(value)`, for Sub `handler(topic, value)`. May return an awaitable: then the message is finished when it is done,
    and others run meanwhile (up to the window). For Rep the result is the reply."""
    encode: Callable[[Any], bytes | memoryview] | None = None
    """Rep only: encodes the reply."""
    on_error: Callable[[MessageId, BaseException], Verdict] = lambda _id, _exc: Verdict.REJECT
    """Called once per handler (or decode) exception; must not raise."""
    topics: tuple[bytes, ...] = (b"",)
    """Sub only: initial subscriptions."""
    mark: bytes = b""
    """SyncSub only: see `ganglion.wire.published`."""
    on_reply: Callable[[int, bytes | memoryview], Any] | None = None
    """SyncSub only: takes (number of the request, undecoded reply) in its place among the publications; treated as `handler` is."""
    polled: bool = False
    """The handler only queues (the agent polls with `recv`): it may run inside blocking calls too. A handler that returns an
    `asyncio.Future` finishes its message when that is done, noticed inside blocking calls as well."""


class Plane(Protocol):
    """All data channels of one agent replica in this process."""

    def outlet(self, alias: str) -> Outlet: ...

    def inlet(self, spec: InletSpec) -> Inlet: ...

    def close(self) -> None:
        """Close every socket of the plane; idempotent."""
        ...
