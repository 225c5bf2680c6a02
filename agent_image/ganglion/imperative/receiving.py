"""The hot paths: what drains a socket and calls its handler, and what publishes.

A drain takes what has arrived without blocking, at most `BUDGET` messages or about `TURN_SECONDS` in one go, and has itself called again
when there may be more: timers and calls get their turn. Nothing is awaited per message; a handler's coroutine becomes a task.
"""

from __future__ import annotations

import inspect
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NoReturn

import zmq

from ganglion.codecs import Body, Codec, DecodeError
from ganglion.imperative.addresses import AgentAddress
from ganglion.imperative.failures import decode_error, encode_error
from ganglion.imperative.serializers import fast
from ganglion.imperative.settings import config
from ganglion.imperative.sockets import MORE, NOBLOCK, Entry, plain_send
from ganglion.runtime import arena
from ganglion.runtime.arena import LARGE_SENT_BYTES
from ganglion.runtime.errors import RequestTimeout

if TYPE_CHECKING:
    from ganglion.imperative.core import Core

BUDGET = 256
TURN_SECONDS = 0.005
ERROR = b"ganglion-error"
"""First of two frames: the reply is an exception."""

QUICK_SECONDS = 0.00005
"""A handler that takes less, on average, is quick."""

_RCVMORE = int(zmq.RCVMORE)
_clock = time.monotonic


def receives(entry: Entry) -> bool:
    """Whether what arrives goes to a handler. A handler of a socket that only sends is never called."""
    return entry.kind == "SUB" or (entry.handler is not None and entry.kind not in ("PUSH", "PUB"))


def drain_of(core: Core, entry: Entry) -> Callable[[], None]:
    """What the loop calls when the socket may be readable."""
    if entry.partner is not None or not isinstance(entry.place, AgentAddress):
        take = core.requests.taker(entry)
    elif entry.kind == "SUB":
        return _sub_drain(core, entry)
    elif entry.kind == "REP":
        take = _take_rep(core, entry)
    elif entry.kind == "REQ":
        take = _take_reply(core, entry)
    elif entry.kind == "ROUTER":
        take = _take_routed(core, entry)
    else:
        return _pull_drain(core, entry)
    return drain_with(core, entry, take)


def _pull_drain(core: Core, entry: Entry) -> Callable[[], None]:
    recv, handler = entry.socket.recv, entry.handler
    _, decode = fast(entry.codec)
    assert handler is not None

    def drain() -> None:
        began = now = _clock()
        count, run = 0, 1
        body: Body = b""
        try:
            while count < BUDGET and now - began < TURN_SECONDS and entry.open:
                large = entry.large
                for _ in range(run):
                    try:
                        body = recv(NOBLOCK, False).buffer if large else recv(NOBLOCK)
                    except zmq.Again:
                        core.handled += count
                        return
                    count += 1
                    result = handler(decode(body))
                    if result is not None and inspect.isawaitable(result):
                        core.spawn(result, "handler")
                    if not entry.open:
                        break
                entry.large = arena.note(len(body))
                before, now = now, _clock()
                # While handlers are quick, the clock is asked for every 16th message only.
                run = 16 if now - before < QUICK_SECONDS * run else 1
        except Exception as error:  # noqa: BLE001 - user code, or a body that cannot be decoded
            core.failed("handler", _cause(entry, body, error))
        core.handled += count
        if entry.open:
            core.loop.call_soon(drain)

    return drain


def _sub_drain(core: Core, entry: Entry) -> Callable[[], None]:
    """As `_pull_drain`, for two frames.

    To ask whether a frame is the last one costs as much as to receive it. A publication always has two; a frame that is none of ours is
    noticed by what it does: it begins with no topic, or its body cannot be decoded. Where it might do neither, each is asked for.
    """
    recv, raw = entry.socket.recv, entry.raw
    _, decode = fast(entry.codec)

    def drain() -> None:
        began = now = _clock()
        count, run = 0, 1
        body: Body = b""
        try:
            while count < BUDGET and now - began < TURN_SECONDS and entry.open:
                large = entry.large
                if entry.routes is None:
                    entry.set_routes()
                careful = entry.careful
                for _ in range(run):
                    try:
                        topic = recv(NOBLOCK)
                    except zmq.Again:
                        core.handled += count
                        return
                    count += 1
                    if careful and not _has_more(entry):
                        _misframed(entry, 1)
                    try:
                        body = recv(NOBLOCK, False).buffer if large else recv(NOBLOCK)
                    except zmq.Again:
                        _misframed(entry, 1)
                    if careful and _has_more(entry):
                        _misframed(entry, 3)
                    value = topic + body if raw else decode(body)
                    known = False
                    for prefix, handler in entry.routes or entry.set_routes():
                        if topic.startswith(prefix):
                            known = True
                            result = handler(prefix, value)
                            if result is not None and inspect.isawaitable(result):
                                core.spawn(result, "handler")
                    if not known:
                        _misframed(entry, 3)
                    if not entry.open:
                        break
                entry.large = arena.note(len(body))
                before, now = now, _clock()
                run = 16 if now - before < QUICK_SECONDS * run else 1
        except Exception as error:  # noqa: BLE001 - user code, or a body that cannot be decoded
            core.failed("handler", error if type(error) is _Misframed else _cause(entry, body, error))
            _skip_rest(entry)
        core.handled += count
        if entry.open:
            core.loop.call_soon(drain)

    return drain


def _has_more(entry: Entry) -> bool:
    return bool(entry.socket.getsockopt(_RCVMORE))


def _skip_rest(entry: Entry) -> None:
    while not entry.closed and _has_more(entry):
        entry.socket.recv()


class _Misframed(ValueError):
    """Not what we send."""


def _misframed(entry: Entry, count: int) -> NoReturn:
    found = "one frame" if count == 1 else "more than two frames"
    raise _Misframed(f"{entry.place}: found {found}; a publication has a topic and a body")


def receive_parts(entry: Entry) -> list[Body]:
    """The frames of one message. While messages are large, the body is a view of libzmq's own memory.

    Raises:
        zmq.Again: there is none.
    """
    recv = entry.socket.recv
    parts: list[Body] = [recv(NOBLOCK, False).buffer if entry.large and entry.kind == "REP" else recv(NOBLOCK)]
    while _has_more(entry):
        parts.append(recv(0, False).buffer if entry.large else recv())
    entry.large = arena.note(len(parts[-1]))
    return parts


def _cause(entry: Entry, body: Body, error: Exception) -> Exception:
    """What went wrong with a message: when it cannot be decoded, the codec says it best."""
    try:
        entry.codec.decode(body)
    except DecodeError as refused:
        return refused
    except Exception:  # noqa: BLE001 - loading ran code that failed another way this time
        return error
    return error


def drain_with(core: Core, entry: Entry, take: Callable[[], None]) -> Callable[[], None]:
    """A drain around what takes one message and raises zmq.Again when there is none."""

    def drain() -> None:
        end = _clock() + TURN_SECONDS
        count = 0
        try:
            while count < BUDGET and entry.open and not entry.busy:
                take()
                count += 1
                if _clock() > end:
                    break
        except zmq.Again:
            core.handled += count
            return
        except Exception as error:  # noqa: BLE001 - user code, or a body that cannot be decoded
            core.failed("handler", error)
        core.handled += count
        if entry.open and not entry.busy:
            core.loop.call_soon(drain)

    return drain


def publisher(entry: Entry) -> Callable[[Any, str | bytes, float | None], None]:
    """`send` of a PUB socket; it never blocks."""
    send = plain_send(entry.socket)
    encode, _ = fast(entry.codec)

    def publish(value: Any, topic: str | bytes, _timeout: float | None) -> None:
        try:
            body = encode(value)
        except Exception:  # noqa: BLE001 - the codec raises it again, and says what to do
            body = entry.codec.encode(value)
        send(topic.encode() if isinstance(topic, str) else topic, MORE)
        send(body, NOBLOCK)
        if len(body) >= LARGE_SENT_BYTES:
            arena.note_sent(len(body))

    return publish


def _take_rep(core: Core, entry: Entry) -> Callable[[], None]:
    socket, codec = entry.socket, entry.codec

    def respond(value: Any) -> None:
        try:
            body = codec.encode(value)
        except Exception as error:
            socket.send_multipart([ERROR, encode_error(error)], zmq.NOBLOCK)
            raise
        socket.send(body, zmq.NOBLOCK)

    def refuse(error: BaseException) -> None:
        socket.send_multipart([ERROR, encode_error(error)], zmq.NOBLOCK)

    def take() -> None:
        core_reply(core, entry, receive_parts(entry)[-1], respond, refuse)

    return take


def _take_reply(core: Core, entry: Entry) -> Callable[[], None]:
    socket, codec, handler = entry.socket, entry.codec, entry.handler
    assert handler is not None

    def take() -> None:
        if not entry.waiting:
            # Nothing was asked, or recv() has taken the reply: the socket refuses to receive.
            raise zmq.Again
        parts = socket.recv_multipart(zmq.NOBLOCK)
        entry.waiting = False
        result = handler(reply_of(codec, parts))
        if result is not None and inspect.isawaitable(result):
            core.spawn(result, "handler")

    return take


def _take_routed(core: Core, entry: Entry) -> Callable[[], None]:
    codec, handler = entry.codec, entry.handler
    assert handler is not None

    def take() -> None:
        parts = receive_parts(entry)
        if len(parts) != 2:
            raise ValueError(f"{entry.place}: found {len(parts) - 1} frames from peer {bytes(parts[0]).hex()}; a message has one")
        result = handler(bytes(parts[0]), codec.decode(parts[1]))
        if result is not None and inspect.isawaitable(result):
            core.spawn(result, "handler")

    return take


def receive_one(core: Core, entry: Entry, timeout: float | None) -> Any:
    """The reply to the request that was sent last; of a socket without a handler, the next message.

    Raises:
        RequestTimeout, ReplierLost, AgentStopping; zmq.ZMQError: no request was sent.
    """
    if entry.kind == "REQ" and not entry.waiting:
        raise zmq.ZMQError(zmq.EFSM, f"{entry.place}: no request was sent; call send() before recv()")
    seconds = float(config["CALL_TIMEOUT"] if timeout is None else timeout)
    try:
        if not core.waits.until(entry.socket, zmq.POLLIN, time.monotonic() + seconds, entry.monitor):
            raise RequestTimeout(f"{entry.place}: nothing arrived within {seconds:g} s")
        parts = entry.socket.recv_multipart()
    finally:
        entry.waiting = False
    return reply_of(entry.codec, parts)


def reply_of(codec: Codec, parts: list[bytes]) -> Any:
    """What a REP handler has returned; what it has raised is raised here."""
    if len(parts) == 2 and parts[0] == ERROR:
        raise decode_error(parts[1])
    return codec.decode(parts[-1])


def core_reply(core: Core, entry: Entry, body: Body, respond: Callable[[Any], None], refuse: Callable[[BaseException], None]) -> None:
    """Call a request's handler and give its reply: what it returns, what it yields first, or what its coroutine results in.

    Args:
        respond, refuse: exactly one of them is called.
    """
    try:
        assert entry.handler is not None
        result = entry.handler(entry.codec.decode(body))
        if inspect.isgenerator(result):
            value = _first(result)
        elif inspect.isawaitable(result):
            entry.busy = True
            core.spawn(_respond_later(core, entry, result, respond, refuse), "handler")
            return
        else:
            value = result
    except Exception as error:
        refuse(error)
        raise
    respond(value)
    if inspect.isgenerator(result):
        _rest(result)


def _first(generator: Any) -> Any:
    try:
        return next(generator)
    except StopIteration:
        raise ValueError("Reply handler ended without a yield; it must yield its reply once") from None


def _rest(generator: Any) -> None:
    """Run what follows the reply."""
    try:
        next(generator)
    except StopIteration:
        return
    generator.close()
    raise ValueError("Reply handler yielded more than once!")


async def _respond_later(
    core: Core, entry: Entry, result: Any, respond: Callable[[Any], None], refuse: Callable[[BaseException], None]
) -> None:
    try:
        value = await result
    except Exception as error:
        if not entry.closed:
            refuse(error)
        raise
    else:
        if not entry.closed:
            respond(value)
    finally:
        entry.busy = False
        if not entry.closed and entry.drain is not None:
            core.loop.call_soon(entry.drain)
