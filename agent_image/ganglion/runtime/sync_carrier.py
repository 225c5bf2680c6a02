"""Roles of SyncPub where publications travel: replies for one subscriber, in their place among the publications.

Both are in one stream of messages from the publisher's socket to the subscriber's, through the same proxies, so nothing can overtake.
Topics of publications and of replies differ in their first byte (`ganglion.wire.published`): whoever subscribes to everything gets no
replies to others.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final

from ganglion.runtime.carrier_inlets import SubInlet
from ganglion.runtime.carrier_legs import Leg, marker
from ganglion.runtime.carrier_outlets import PubOutlet
from ganglion.runtime.plane import InletSpec, MessageId
from ganglion.runtime.reactor import Reactor
from ganglion.wire.frames import FrameError, encode_data
from ganglion.wire.published import PUBLICATION, REPLY, Asker, decode_reply, encode_reply

HOLD_TURNS: Final = 8
"""Turns of the loop from a reply's arrival until whoever waits for it has gone on, also through `asyncio.wait_for` or `gather`."""


def _nothing() -> None:
    """Nobody listens."""


class SyncPubOutlet(PubOutlet):
    """See `SyncOutlet`."""

    def __init__(self, leg: Leg, reactor: Reactor) -> None:
        self.on_wired: Callable[[], None] = _nothing
        self._replies = secrets.randbits(64)
        """Stream of the replies: they take no numbers of publications."""
        self._answered = 0
        super().__init__(leg, reactor)

    def send(self, body: bytes | memoryview, *, topic: bytes = b"", timeout: float | None = None) -> MessageId:
        """See `Outlet.send`."""
        return super().send(body, topic=PUBLICATION + topic, timeout=timeout)

    def answer(self, asker: Asker, body: bytes | memoryview) -> None:
        """See `SyncOutlet.answer`."""
        self._check(len(body))
        frame = encode_data(self._replies, self._answered, (encode_reply(asker.number, body),))
        self._answered += 1
        self._waiting.append((REPLY + asker.mark, frame, 0))
        self.flush()

    def hears(self, asker: Asker) -> bool:
        """See `SyncOutlet.hears`."""
        return self._wired.get(asker.mark, -1) >= asker.generation

    def _mark(self, who: bytes, generation: int, *, there: bool) -> None:
        super()._mark(who, generation, there=there)
        self.on_wired()


class SyncSubInlet(SubInlet):
    """See `SyncInlet`."""

    def __init__(self, leg: Leg, reactor: Reactor, spec: InletSpec, *, replica: str) -> None:
        assert spec.on_reply is not None
        self._replica = replica
        self._asks = spec
        self._answer = spec.on_reply
        self._reply_topic = REPLY + spec.mark
        self._held = 0
        """Turns of the loop that are still to be waited."""
        self._stopped = False
        self.generation = 0
        whole = replace(spec, topics=tuple(PUBLICATION + topic for topic in spec.topics), decode=_as_it_is, handler=self._dispatch)
        super().__init__(leg, reactor, whole, replica=replica)
        self._marker = marker(replica, spec.mark, 0)

    def start(self) -> None:
        """Subscribe, to replies too."""
        if not self._started:
            if self._stopped:
                # A publisher may not have heard yet that the former marker is gone.
                self._renew()
            # Before the marker, which says that everything is there.
            self._socket.subscribe(self._reply_topic)
        super().start()

    def stop_intake(self) -> None:
        """Unsubscribe, and take no more."""
        if self._started and not self._closed:
            self._socket.unsubscribe(self._reply_topic)
            self._stopped = True
        super().stop_intake()

    def subscribe(self, topic: bytes) -> None:
        """See `SubInlet.subscribe`. A reply to what is asked from now on is given when the publisher has it."""
        topic = PUBLICATION + topic
        if topic in self._topics:
            return
        super().subscribe(topic)
        if self._started:
            former = self._marker
            self._renew()
            self._socket.subscribe(self._marker)
            self._socket.unsubscribe(former)

    def unsubscribe(self, topic: bytes) -> None:
        """See `SubInlet.unsubscribe`."""
        super().unsubscribe(PUBLICATION + topic)

    def hold(self) -> None:
        """See `SyncInlet.hold`."""
        if not self._held:
            self._reactor.loop.call_soon(self._turn)
        self._held = HOLD_TURNS

    # -- inside

    def _renew(self) -> None:
        self.generation += 1
        self._marker = marker(self._replica, self._asks.mark, self.generation)

    @property
    def _full(self) -> bool:
        return self._held > 0 or super()._full

    def _turn(self) -> None:
        self._held -= 1
        if self._held:
            self._reactor.loop.call_soon(self._turn)
        else:
            self._finished()

    def _dispatch(self, topic: bytes, body: bytes | memoryview) -> Any:
        if topic.startswith(PUBLICATION):
            return self._asks.handler(topic[1:], self._asks.decode(body))
        self._aside = 1
        if topic != self._reply_topic:
            self._malformed(f"found topic {topic[:40]!r}, which is neither a publication's nor that of our replies")
            return None
        try:
            number, reply = decode_reply(body)
        except FrameError as error:
            self._malformed(str(error))
            return None
        return self._answer(number, reply)


def _as_it_is(body: bytes | memoryview) -> bytes | memoryview:
    return body
