"""SyncPub: requests whose replies have their place among the publications.

A request goes to one publisher, over an acknowledged channel; its reply is published, to the requester alone, behind all that was published
before it. The request itself is answered with nothing, or with what went wrong, so its requester hears at once of an error or of the
publisher's death.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import logging
import secrets
from collections.abc import Awaitable, Callable, Generator
from types import GeneratorType
from typing import Any

from ganglion.codecs import Codec
from ganglion.runtime.errors import ChannelClosed, GanglionError, RequestTimeout
from ganglion.runtime.plane import Reply, ReqOutlet, SyncInlet, SyncOutlet
from ganglion.sdk.errors import HandlerError
from ganglion.wire.published import MARK_BYTES, Asker, decode_request, encode_request

log = logging.getLogger(__name__)

HEAR_SECONDS = 60.0
"""A request may come before its requester's subscriptions, which begin when its `before_loop` has returned; it is handled when they are here,
or refused after so long."""

Body = bytes | memoryview
OnReply = Callable[[Any, Exception | None], Any]
"""(reply, error); the result of a reply may be awaitable."""


class SyncPublisher:
    """Answers the requests of one alias with role SyncPub.

    Args:
        alias: as the agent's code calls it.
        outlet: of its publications.
        codec: of requests and replies.
        loop: the main loop.
        on_late_error: called with what a handler raised after it had yielded its reply.
    """

    def __init__(
        self,
        alias: str,
        outlet: SyncOutlet,
        codec: Codec,
        loop: asyncio.AbstractEventLoop,
        on_late_error: Callable[[BaseException], object],
    ) -> None:
        self._alias = alias
        self._outlet = outlet
        self._codec = codec
        self._loop = loop
        self._on_late_error = on_late_error
        self._handler: Callable[[Any], Any] = self._refuse
        self._waiting: dict[asyncio.Future[None], Asker] = {}
        outlet.on_wired = self._look

    def handle(self, handler: Callable[[Any], Any] | None) -> None:
        """What takes requests; None: they are refused."""
        self._handler = self._refuse if handler is None else handler

    def serve(self, request: Body) -> Any:
        """The inlet's handler: publishes the reply. Raises what the requester is to be told."""
        asker, body = decode_request(request)
        if self._outlet.hears(asker):
            return self._serve(asker, body)
        return self._serve_later(asker, body)

    # -- inside

    def _refuse(self, _request: Any) -> None:
        raise HandlerError(f"channel {self._alias!r}: this publisher has no handler for requests")

    def _serve(self, asker: Asker, body: Body) -> Awaitable[None] | None:
        result = self._handler(self._codec.decode(body))
        if isinstance(result, GeneratorType):
            self._serve_early(asker, result)
        elif inspect.isawaitable(result):
            return self._publish_later(asker, result)
        else:
            self._publish(asker, result)
        return None

    def _serve_early(self, asker: Asker, handler: Generator[Any, Any, Any]) -> None:
        """A handler that yields its reply goes on when it is published; what it raises then is told here only."""
        try:
            reply = next(handler)
        except StopIteration:
            raise ValueError("the handler ended without a reply; it must yield one") from None
        self._publish(asker, reply)
        try:
            if next(handler, self) is not self:
                handler.close()
                raise ValueError("the handler yielded again; it must yield one reply")  # noqa: TRY301 - judged as what user code raises
        except Exception as error:  # noqa: BLE001 - user code
            self._on_late_error(error)

    async def _serve_later(self, asker: Asker, body: Body) -> None:
        heard: asyncio.Future[None] = self._loop.create_future()
        self._waiting[heard] = asker
        try:
            async with asyncio.timeout(HEAR_SECONDS):
                await heard
        except TimeoutError:
            raise GanglionError(f"the requester's subscriptions have not arrived within {HEAR_SECONDS:g} s") from None
        finally:
            del self._waiting[heard]
        result = self._serve(asker, body)
        if result is not None:
            await result

    async def _publish_later(self, asker: Asker, result: Awaitable[Any]) -> None:
        self._publish(asker, await result)

    def _publish(self, asker: Asker, reply: Any) -> None:
        self._outlet.answer(asker, self._codec.encode(reply))

    def _look(self) -> None:
        for heard, asker in self._waiting.items():
            if not heard.done() and self._outlet.hears(asker):
                heard.set_result(None)


class _Request:
    __slots__ = ("deadline", "on_reply", "overdue")

    def __init__(self, on_reply: OnReply, deadline: float) -> None:
        self.on_reply = on_reply
        self.deadline = deadline
        self.overdue: asyncio.TimerHandle | None = None


class SyncSubscriber:
    """Asks for one alias with role SyncSub.

    Args:
        alias: as the agent's code calls it.
        outlet: of its requests.
        codec: of requests and replies.
        loop: the main loop.
    """

    def __init__(self, alias: str, outlet: ReqOutlet, codec: Codec, loop: asyncio.AbstractEventLoop) -> None:
        self.alias = alias
        self.mark = secrets.token_bytes(MARK_BYTES)
        self.inlet: SyncInlet | None = None
        """Set when it is made."""
        self._outlet = outlet
        self._codec = codec
        self._loop = loop
        self._requests: dict[int, _Request] = {}
        self._count = 0
        self._deaf: Exception | None = None

    def ask(self, value: Any, timeout: float, on_reply: OnReply) -> None:
        """Send a request; `on_reply` is called once, with a reply in its place among the publications, within `timeout` seconds.

        Raises:
            EncodeError, MessageTooLarge, SendTimeout, ChannelClosed: nothing was sent.
        """
        if self._deaf is not None:
            raise self._deaf
        number, self._count = self._count, self._count + 1
        asker = Asker(self.mark, self.inlet.generation if self.inlet is not None else 0, number)
        body = encode_request(asker, self._codec.encode(value))
        self._requests[number] = _Request(on_reply, self._loop.time() + timeout)
        try:
            self._outlet.request(body, timeout=timeout, on_reply=functools.partial(self._served, number))
        except BaseException:
            del self._requests[number]
            raise

    def replied(self, number: int, body: Body) -> Any:
        """The inlet's: a reply has come."""
        request = self._take(number)
        if request is None:
            log.debug("channel %r: a reply came too late", self.alias)
            return None
        try:
            value = self._codec.decode(body)
        except Exception as error:  # noqa: BLE001 - whatever a codec does, the requester must hear of it
            return request.on_reply(None, error)
        return request.on_reply(value, None)

    def hold(self) -> None:
        """See `SyncInlet.hold`."""
        if self.inlet is not None:
            self.inlet.hold()

    def stop_intake(self) -> None:
        """Nothing is heard from now on: requests that wait fail, as further ones do."""
        self._deaf = error = ChannelClosed(f"channel {self.alias!r}: the agent is leaving, and hears no replies")
        self._outlet.forget_requests()
        for number in tuple(self._requests):
            self._fail(number, error)

    def resume_intake(self) -> None:
        """Undo `stop_intake`."""
        self._deaf = None

    # -- inside

    def _served(self, number: int, reply: Reply) -> None:
        """The publisher has answered, or never will."""
        request = self._requests.get(number)
        if request is None:
            return
        if reply.error is not None:
            self._fail(number, reply.error)
        else:
            # Publications are best effort: what was published may never arrive.
            text = f"channel {self.alias!r}: request {number} was answered, but no reply came in time"
            request.overdue = self._loop.call_at(request.deadline, self._fail, number, RequestTimeout(text))

    def _fail(self, number: int, error: Exception) -> None:
        request = self._take(number)
        if request is not None:
            request.on_reply(None, error)

    def _take(self, number: int) -> _Request | None:
        request = self._requests.pop(number, None)
        if request is not None and request.overdue is not None:
            request.overdue.cancel()
        return request
