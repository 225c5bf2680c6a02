"""What travels on a SyncPub channel beside publications: requests, and replies that are published to one subscriber. Pure.

A subscriber has a *mark*, 16 random bytes of its process. After its other subscriptions it subscribes to a marker with its mark and a generation,
which grows when it subscribes to more; a publisher that has seen the marker of a request knows that its reply, and every publication
after it, will find the subscriber.

    topic     P topic                          a publication
              R mark                           a reply
    request   mark | generation u32 | number u64 | body       all integers little endian
    reply     number u64 | body
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from ganglion.wire.frames import FrameError

PUBLICATION = b"P"
REPLY = b"R"
MARK_BYTES = 16

_REQUEST = struct.Struct(f"<{MARK_BYTES}sIQ")
_REPLY = struct.Struct("<Q")

Body = bytes | memoryview


class Asker(NamedTuple):
    """Who made a request, and which.

    Attributes:
        mark: of the subscriber.
        generation: of its subscriptions when it asked.
        number: of the request, unique for the mark.
    """

    mark: bytes
    generation: int
    number: int


def encode_request(asker: Asker, body: Body) -> bytes:
    """Body of a message on the requests' leg."""
    return _REQUEST.pack(*asker) + body


def decode_request(body: Body) -> tuple[Asker, Body]:
    """Undo `encode_request`.

    Raises:
        FrameError: too short.
    """
    if len(body) < _REQUEST.size:
        raise FrameError(f"request: found {len(body)} bytes; a request for a SyncPub has at least {_REQUEST.size}")
    return Asker(*_REQUEST.unpack_from(body)), body[_REQUEST.size :]


def encode_reply(number: int, body: Body) -> bytes:
    """Body of a published reply."""
    return _REPLY.pack(number) + body


def decode_reply(body: Body) -> tuple[int, Body]:
    """Undo `encode_reply`.

    Raises:
        FrameError: too short.
    """
    if len(body) < _REPLY.size:
        raise FrameError(f"reply: found {len(body)} bytes; a published reply has at least {_REPLY.size}")
    return _REPLY.unpack_from(body)[0], body[_REPLY.size :]
