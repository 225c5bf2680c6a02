"""What `send` calls for each kind of socket; see `receiving` for the other direction."""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING, Any

import zmq

from ganglion.imperative import receiving
from ganglion.imperative.addresses import AgentChannel
from ganglion.imperative.errors import UnknownPeer
from ganglion.imperative.serializers import fast
from ganglion.imperative.sockets import NOBLOCK, Entry, plain_send
from ganglion.runtime import arena
from ganglion.runtime.arena import LARGE_SENT_BYTES
from ganglion.runtime.errors import SendTimeout
from ganglion.sdk.channels import Sender

if TYPE_CHECKING:
    from ganglion.imperative.core import Core


def sender_of(core: Core, entry: Entry) -> Sender | None:
    """The function behind `send` of a socket; None: it does not send."""
    if isinstance(entry.place, AgentChannel):
        return core.requests.sender(entry)
    if entry.kind == "PUB":
        return receiving.publisher(entry)
    if entry.kind in ("PUSH", "PAIR", "DEALER"):
        return _pusher(core, entry)
    if entry.kind == "ROUTER":
        return _router(core, entry)
    if entry.kind == "REQ":
        return _requester(core, entry)
    return None


def _pusher(core: Core, entry: Entry) -> Sender:
    send = plain_send(entry.socket)
    encode, _ = fast(entry.codec)
    # One comparison stands for two questions: does the socket also receive, is the message large.
    watched = LARGE_SENT_BYTES if entry.kind == "PUSH" else 0

    def push(value: Any, _topic: str | bytes, timeout: float | None) -> None:
        try:
            body = encode(value)
        except Exception:  # noqa: BLE001 - the codec raises it again, and says what to do
            body = entry.codec.encode(value)
        try:
            send(body, NOBLOCK)
        except zmq.Again:
            send_slowly(core, entry, [body], timeout)
        if len(body) >= watched:
            arena.note_sent(len(body))
            if entry.drain is not None:
                # A send may have taken the edge of the descriptor.
                core.loop.call_soon(entry.drain)

    return push


def send_slowly(core: Core, entry: Entry, parts: list[Any], timeout: float | None) -> None:
    """Wait for room: nobody is connected, or the peers are slow. Other handlers wait too.

    Raises:
        SendTimeout, AgentStopping.
    """
    deadline = None if timeout is None else time.monotonic() + timeout
    while True:
        if not core.waits.until(entry.socket, zmq.POLLOUT, deadline):
            raise SendTimeout(f"{entry.place}: no room within {timeout} s; nothing was sent")
        with contextlib.suppress(zmq.Again):
            entry.socket.send_multipart(parts, zmq.NOBLOCK)
            return


def _router(core: Core, entry: Entry) -> Sender:
    def route(value: Any, peer: str | bytes, _timeout: float | None) -> None:
        if not isinstance(peer, bytes) or not peer:
            raise TypeError(f"{entry.place}: found topic {peer!r}; a ROUTER sends to one peer: give the bytes that its handler got")
        body = entry.codec.encode(value)
        try:
            entry.socket.send_multipart([peer, body], zmq.NOBLOCK)
        except zmq.Again:
            # There is no telling when one of several peers takes more.
            raise SendTimeout(f"{entry.place}: peer {peer.hex()} takes no more now; nothing was sent") from None
        except zmq.ZMQError as error:
            if error.errno != zmq.EHOSTUNREACH:
                raise
            raise UnknownPeer(f"{entry.place}: peer {peer.hex()} is not connected, or is gone; nothing was sent") from None
        if entry.drain is not None:
            core.loop.call_soon(entry.drain)

    return route


def _requester(core: Core, entry: Entry) -> Sender:
    def request(value: Any, _topic: str | bytes, timeout: float | None) -> None:
        if entry.waiting:
            raise zmq.ZMQError(zmq.EFSM, f"{entry.place}: the last request has no reply yet; call recv() before the next send()")
        if entry.monitor is not None:
            with contextlib.suppress(zmq.Again):
                while True:
                    entry.monitor.recv_multipart(zmq.NOBLOCK)
        body = entry.codec.encode(value)
        try:
            entry.socket.send(body, zmq.NOBLOCK)
        except zmq.Again:
            send_slowly(core, entry, [body], timeout)
        entry.waiting = True

    return request
