"""Requests of SyncPub without sockets: what is lost, late, unreadable or too early."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from ganglion.codecs import DecodeError, get_codec
from ganglion.errors import GanglionError
from ganglion.runtime.errors import ChannelClosed, MessageTooLarge, ReplierLost, RequestTimeout
from ganglion.runtime.plane import MessageId, Reply
from ganglion.sdk import sync_pub
from ganglion.sdk.sync_pub import SyncPublisher, SyncSubscriber
from ganglion.wire.frames import FrameError
from ganglion.wire.published import Asker, decode_request, encode_request

CODEC = get_codec("MsgPack")
ASKER = Asker(b"m" * 16, 3, 0)


class Requests:
    """Where requests go."""

    def __init__(self) -> None:
        self.sent: list[bytes] = []
        self.answers: list[Callable[[Reply], None]] = []
        self.given_up = 0

    def request(self, body: bytes, *, timeout: float, on_reply: Callable[[Reply], None]) -> MessageId:
        if len(body) > 100:
            raise MessageTooLarge("too large")
        self.sent.append(body)
        self.answers.append(on_reply)
        return MessageId(0, len(self.sent))

    def forget_requests(self) -> None:
        self.given_up += 1


class Publications:
    """Where replies go."""

    def __init__(self) -> None:
        self.heard: set[Asker] = set()
        self.answered: list[tuple[Asker, Any]] = []
        self.on_wired: Callable[[], None] = lambda: None

    def hears(self, asker: Asker) -> bool:
        return asker in self.heard

    def answer(self, asker: Asker, body: bytes) -> None:
        self.answered.append((asker, CODEC.decode(body)))


def _subscriber(outlet: Requests) -> SyncSubscriber:
    return SyncSubscriber("feed", outlet, CODEC, asyncio.get_running_loop())  # type: ignore[arg-type] # as far as it is used


def test_replies_that_are_lost_late_or_unreadable() -> None:
    async def main() -> None:
        outlet, got, overdue = Requests(), list[tuple[Any, Any]](), asyncio.Event()
        subscriber = _subscriber(outlet)

        def replied(value: Any, error: Exception | None) -> None:
            got.append((value, type(error)))
            if isinstance(error, RequestTimeout):
                overdue.set()

        for timeout in (0.01, 60, 60, 60):
            subscriber.ask("?", timeout, replied)
        assert [decode_request(body)[0] for body in outlet.sent] == [Asker(subscriber.mark, 0, number) for number in range(4)]
        for answered in outlet.answers[:3]:
            answered(Reply(b"", None))
        outlet.answers[3](Reply(None, ReplierLost("gone")))
        assert got == [(None, ReplierLost)]
        async with asyncio.timeout(10):
            await overdue.wait()
        assert got[1] == (None, RequestTimeout), "it was answered, and the reply has not come"
        subscriber.replied(1, CODEC.encode("yes"))
        subscriber.replied(2, b"\xc1")
        assert got[2:] == [("yes", type(None)), (None, DecodeError)]
        for number in range(9):
            assert subscriber.replied(number, CODEC.encode("late")) is None
        with pytest.raises(MessageTooLarge):
            subscriber.ask("x" * 100, 60, lambda value, error: got.append((value, error)))
        assert len(got) == 4

    asyncio.run(main())


def test_who_leaves_hears_nothing_until_it_stays() -> None:
    async def main() -> None:
        outlet, got = Requests(), list[Any]()
        subscriber = _subscriber(outlet)
        subscriber.ask("?", 60, lambda _value, error: got.append(type(error)))
        subscriber.stop_intake()
        assert got == [ChannelClosed]
        assert outlet.given_up == 1
        with pytest.raises(ChannelClosed):
            subscriber.ask("?", 60, lambda _value, error: got.append(error))
        subscriber.resume_intake()
        subscriber.ask("?", 60, lambda value, _error: got.append(value))
        subscriber.replied(1, CODEC.encode("yes"))
        assert got == [ChannelClosed, "yes"]

    asyncio.run(main())


def test_a_request_waits_for_its_requesters_subscriptions(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        outlet, late = Publications(), list[BaseException]()
        publisher = SyncPublisher("feed", outlet, CODEC, asyncio.get_running_loop(), late.append)  # type: ignore[arg-type]
        request = encode_request(ASKER, CODEC.encode("?"))
        order: list[Any] = []

        def handler(value: str) -> str:
            order.append(value)
            return "!"

        publisher.handle(handler)
        waiting = asyncio.ensure_future(publisher.serve(request))
        await asyncio.sleep(0)
        outlet.on_wired()
        await asyncio.sleep(0)
        assert not waiting.done()
        assert order == [], "the handler could not know what its requester will miss"
        outlet.heard.add(ASKER)
        outlet.on_wired()
        await waiting
        assert (order, outlet.answered) == (["?"], [(ASKER, "!")])
        assert publisher.serve(request) is None
        assert len(outlet.answered) == 2
        outlet.heard.clear()
        monkeypatch.setattr(sync_pub, "HEAR_SECONDS", 0.01)
        with pytest.raises(GanglionError, match="subscriptions have not arrived"):
            await publisher.serve(request)
        with pytest.raises(FrameError):
            publisher.serve(b"short")
        assert late == []

    asyncio.run(main())
