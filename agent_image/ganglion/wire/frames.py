"""Byte layout of data frames. Pure; docs/reference/protocol.md shows every field.

Encoders trust their arguments, decoders trust nothing: whatever the bytes, a decoder returns a value or raises `FrameError`.
All integers are little endian.
"""

from __future__ import annotations

import struct
from array import array
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from itertools import accumulate
from typing import Any, NamedTuple

import msgspec

VERSION = 1
"""Version of this layout; a frame of another version is answered with REFUSE."""

DATA, ACK, REPLY = ord("D"), ord("A"), ord("R")
HELLO, WELCOME, REVOKE, DRAIN, BYE = ord("H"), ord("W"), ord("X"), ord("Q"), ord("G")
PING, PONG, REFUSE = ord("P"), ord("O"), ord("N")
CONTROL_KINDS = frozenset((HELLO, WELCOME, REVOKE, DRAIN, BYE, PING, PONG, REFUSE))

FLAG_EXT, FLAG_REDELIVERY, FLAG_REQUEST, FLAG_SKIP = 1, 2, 4, 8

DONE, REJECTED, RELEASED, HANDLED, DEAD, STARTED = 0, 1, 2, 3, 4, 5
"""Codes of an acknowledged range. DEAD: dead-lettered. HANDLED and STARTED settle nothing and are said of redeliveries only: the handler
returned and waits for what it sent; the handler begins. They show whose fault it is when the process is lost again."""

MAX_BATCH = 256
"""Messages in one frame."""
MAX_BATCH_BYTES = 131072
"""A batch ends with the body that reaches this many bytes; one larger body travels alone."""
MAX_CONTROL_BYTES = 16384
"""Longest control frame that is decoded."""

_DATA = struct.Struct("<BBHIQQ")
_ACK = struct.Struct("<BBHI")
_RANGE = struct.Struct("<QQII")
_REPLY = struct.Struct("<BBHIQQ")
_CONTROL = struct.Struct("<BBH")
_U32 = struct.Struct("<I")
_BIG_ENDIAN = struct.pack("=H", 1) == b"\0\1"

DATA_HEADER_BYTES = _DATA.size
_ALONE = struct.Struct("<BBHIQQI")
"""Header and length of a batch of one."""

_encode_map = msgspec.msgpack.Encoder().encode
_decode_map = msgspec.msgpack.Decoder(dict[str, Any]).decode

Buffer = bytes | memoryview


class FrameError(ValueError):
    """The bytes are not a frame of this protocol. The text says what is wrong; the peer that sent it is at fault."""


class UnknownVersion(FrameError):
    """A frame of a version that this runtime does not speak."""


Range = tuple[int, int, int, int]
"""(stream, first, count, code): consecutive messages of a stream and what became of them."""


class DataHead(NamedTuple):
    """What a relay needs to know of a batch; bodies stay unopened."""

    flags: int
    n: int
    stream: int
    first: int
    skip: int


make_head: Callable[[tuple[int, int, int, int, int]], DataHead] = partial(tuple.__new__, DataHead)
"""As `DataHead` with one argument: without the function that a named tuple is made by."""


class Data(NamedTuple):
    """A decoded batch. `offsets` has n + 1 entries: body i is frame[offsets[i]:offsets[i + 1]]."""

    head: DataHead
    ext: dict[str, Any]
    offsets: Sequence[int]
    frame: Buffer

    def body(self, index: int) -> Buffer:
        """Body `index` of the batch, sliced from the frame (a view when the frame is one)."""
        return self.frame[self.offsets[index] : self.offsets[index + 1]]


_make_data: Callable[[tuple[DataHead, dict[str, Any], Sequence[int], Buffer]], Data] = partial(tuple.__new__, Data)


class ReplyFrame(NamedTuple):
    """A reply to one request. `code` 0: `body` is the result, else a msgpack map {type, message, traceback}."""

    code: int
    stream: int
    seq: int
    body: Buffer


def kind(frame: Buffer) -> int:
    """Kind byte of a frame.

    Raises:
        FrameError: empty frame.
        UnknownVersion: another version, whatever the kind.
    """
    if len(frame) < 4:
        raise FrameError(f"frame of {len(frame)} bytes; the shortest has 4")
    if frame[1] != VERSION:
        raise UnknownVersion(f"version {frame[1]}, this runtime speaks {VERSION}")
    return frame[0]


def is_data(frame: Any) -> bool:
    """Whether anything with a buffer begins like a DATA frame; the rest is not looked at."""
    return len(frame) > 0 and memoryview(frame)[0] == DATA


def encode_data(
    stream: int, first: int, bodies: Sequence[Buffer], *, flags: int = 0, skip: int = 0, ext: dict[str, Any] | None = None
) -> bytes:
    """One batch as one frame.

    Args:
        stream: id of the sender's incarnation.
        first: sequence of the first body.
        bodies: 1..256 encoded messages.
        flags: FLAG_REDELIVERY, FLAG_REQUEST; FLAG_EXT is set when `ext` is given, FLAG_SKIP when `skip` is not 0.
        skip: bit i set: body i was acknowledged before.
        ext: deadline (Unix milliseconds) and trace context; unknown keys are ignored by readers.
    """
    n = len(bodies)
    if n == 1 and not skip and ext is None:
        return b"".join((_ALONE.pack(DATA, VERSION, flags, 1, stream, first, len(bodies[0])), bodies[0]))
    lengths = array("I", map(len, bodies))
    if _BIG_ENDIAN:
        lengths.byteswap()
    mask = b""
    if skip:
        flags |= FLAG_SKIP
        mask = skip.to_bytes((n + 7) // 8, "little")
    if ext is None:
        return b"".join((_DATA.pack(DATA, VERSION, flags, n, stream, first), mask, lengths, *bodies))
    packed = _encode_map(ext)
    return b"".join((_DATA.pack(DATA, VERSION, flags | FLAG_EXT, n, stream, first), mask, lengths, _U32.pack(len(packed)), packed, *bodies))


def data_head(frame: Buffer) -> DataHead:
    """Header of a DATA frame; checks sizes that a relay relies on.

    Raises:
        FrameError: not a DATA frame, a count outside 1..256, or a skip mask that is cut off or names more messages.
    """
    size = len(frame)
    if size < DATA_HEADER_BYTES:
        raise FrameError(f"DATA of {size} bytes; the header alone has {DATA_HEADER_BYTES}")
    found, version, flags, n, stream, first = _DATA.unpack_from(frame)
    if found != DATA:
        raise FrameError(f"kind {found}, expected DATA")
    if version != VERSION:
        raise UnknownVersion(f"version {version}, this runtime speaks {VERSION}")
    if not 1 <= n <= MAX_BATCH or first + n > 1 << 64:
        raise FrameError(f"DATA with {n} messages from {first}")
    skip, start = 0, DATA_HEADER_BYTES
    if flags & FLAG_SKIP:
        start += (n + 7) // 8
        skip = int.from_bytes(frame[DATA_HEADER_BYTES:start], "little")
        if skip >> n:
            raise FrameError(f"DATA with {n} messages from {first}, skip {skip:#x}")
    if size < start + 4 * n:
        raise FrameError(f"DATA of {size} bytes cannot hold {n} lengths")
    return make_head((flags, n, stream, first, skip))


def _lengths_at(head: DataHead) -> int:
    """Where the lengths begin."""
    return DATA_HEADER_BYTES + ((head.n + 7) // 8 if head.flags & FLAG_SKIP else 0)


def decode_data(frame: Buffer) -> Data:
    """A batch with the offsets of its bodies.

    Raises:
        FrameError: not a DATA frame, or its lengths do not add up to the frame's.
    """
    head = data_head(frame)
    if head.n == 1 and not head.flags & (FLAG_EXT | FLAG_SKIP):
        # `data_head` has seen that the length is there.
        if _U32.unpack_from(frame, DATA_HEADER_BYTES)[0] != len(frame) - _ALONE.size:
            raise FrameError(f"the body of a DATA frame of {len(frame)} bytes has another length")
        return _make_data((head, {}, (_ALONE.size, len(frame)), frame))
    begin = _lengths_at(head)
    start = begin + 4 * head.n
    lengths = array("I")
    lengths.frombytes(frame[begin:start])
    if _BIG_ENDIAN:
        lengths.byteswap()
    ext: dict[str, Any] = {}
    if head.flags & FLAG_EXT:
        if len(frame) < start + 4:
            raise FrameError("DATA ends inside its extension")
        size = _U32.unpack_from(frame, start)[0]
        start += 4 + size
        if size > MAX_CONTROL_BYTES or start > len(frame):
            raise FrameError(f"extension of {size} bytes in a DATA frame of {len(frame)}")
        ext = _map(frame[start - size : start])
    offsets = list(accumulate(lengths, initial=start))
    if offsets[-1] != len(frame):
        raise FrameError(f"bodies end at byte {offsets[-1]} of a DATA frame of {len(frame)}")
    return Data(head, ext, offsets, frame)


def redelivered(frame: Buffer, skip: int) -> bytes:
    """The same batch marked as a redelivery, without the messages of `skip`."""
    head = data_head(frame)
    flags = (head.flags & ~FLAG_SKIP) | FLAG_REDELIVERY | (FLAG_SKIP if skip else 0)
    mask = skip.to_bytes((head.n + 7) // 8, "little") if skip else b""
    begin = _DATA.pack(DATA, VERSION, flags, head.n, head.stream, head.first)
    return b"".join((begin, mask, frame[_lengths_at(head) :]))


def encode_ack(ranges: Iterable[Range]) -> bytes:
    """One ACK frame for any number of ranges."""
    packed = [_RANGE.pack(*entry) for entry in ranges]
    return b"".join((_ACK.pack(ACK, VERSION, 0, len(packed)), *packed))


def decode_ack(frame: Buffer) -> list[Range]:
    """Ranges of an ACK frame.

    Raises:
        FrameError: wrong kind or length.
    """
    if len(frame) < _ACK.size:
        raise FrameError(f"ACK of {len(frame)} bytes; the header alone has {_ACK.size}")
    found, version, _flags, n = _ACK.unpack_from(frame)
    if found != ACK or version != VERSION:
        raise FrameError(f"kind {found} version {version}, expected ACK {VERSION}")
    if len(frame) != _ACK.size + n * _RANGE.size:
        raise FrameError(f"ACK of {len(frame)} bytes with {n} ranges")
    return list(_RANGE.iter_unpack(frame[_ACK.size :]))


def encode_reply(stream: int, seq: int, body: Buffer, *, code: int = 0) -> bytes:
    """The reply to request (stream, seq)."""
    return b"".join((_REPLY.pack(REPLY, VERSION, 0, code, stream, seq), body))


def encode_error(stream: int, seq: int, *, type_name: str, message: str, traceback: str = "", code: int = 1) -> bytes:
    """A reply that says the handler raised. Texts are cut so that the body stays below 16 KiB."""
    body = _encode_map({"type": type_name[:200], "message": message[:3000], "traceback": traceback[-8000:]})
    return encode_reply(stream, seq, body, code=code)


def decode_reply(frame: Buffer) -> ReplyFrame:
    """A REPLY frame.

    Raises:
        FrameError: wrong kind or length.
    """
    if len(frame) < _REPLY.size:
        raise FrameError(f"REPLY of {len(frame)} bytes; the header alone has {_REPLY.size}")
    found, version, _flags, code, stream, seq = _REPLY.unpack_from(frame)
    if found != REPLY or version != VERSION:
        raise FrameError(f"kind {found} version {version}, expected REPLY {VERSION}")
    return ReplyFrame(code, stream, seq, frame[_REPLY.size :])


def error_fields(body: Buffer) -> tuple[str, str, str]:
    """(type, message, traceback) of an error reply; never raises: a body that is not such a map is described instead."""
    try:
        fields = _map(body)
    except FrameError as error:
        return "RemoteError", f"unreadable error reply: {error}", ""
    return str(fields.get("type", "RemoteError")), str(fields.get("message", "")), str(fields.get("traceback", ""))


def encode_control(control_kind: int, fields: dict[str, Any] | None = None) -> bytes:
    """HELLO, WELCOME, REVOKE, DRAIN, BYE, PING, PONG or REFUSE with its fields."""
    head = _CONTROL.pack(control_kind, VERSION, 0)
    return head + _encode_map(fields) if fields else head


def decode_control(frame: Buffer) -> tuple[int, dict[str, Any]]:
    """Kind and fields of a control frame.

    Raises:
        FrameError: not a control frame, longer than 16 KiB, or its map is not msgpack with text keys.
    """
    found = kind(frame)
    if found not in CONTROL_KINDS:
        raise FrameError(f"kind {found} is no control frame")
    if len(frame) > MAX_CONTROL_BYTES:
        raise FrameError(f"control frame of {len(frame)} bytes; at most {MAX_CONTROL_BYTES}")
    return found, _map(frame[_CONTROL.size :]) if len(frame) > _CONTROL.size else {}


def count_field(fields: dict[str, Any], name: str, default: int) -> int:
    """A non-negative integer field of a control frame.

    Raises:
        FrameError: present but no such integer.
    """
    value = fields.get(name, default)
    if type(value) is not int or value < 0:
        raise FrameError(f"field {name}: found {value!r}, expected a non-negative integer")
    return value


def _map(packed: Buffer) -> dict[str, Any]:
    try:
        return _decode_map(packed)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise FrameError(f"not a msgpack map with text keys: {error}") from None
