"""Frames of calls and of the directory. Pure; integers little endian.

```
header  kind u8 | version u8 1 | flags u16 | id u64 | life 16 bytes
'C' call     header, body: pickled (method, args, kwargs)      flags bit 0: no reply is wanted; life: whom it is meant for, 0: anyone
             with code that is signed: as `ganglion.imperative.envelope`
'R' reply    header, body: pickled value                       flags bit 0: an error, body as `ganglion.imperative.failures` makes it
                                                               bit 1: no such life here; bit 2: must be running for safe calls
'B' beat     header, body: msgpack Record; life: the agent's   answered by
'K' known    header                                            flags bit 0: the name belongs to another life
'G' goodbye  header, body: name (UTF-8)                        flags bit 0: it is killed. Answered by 'K'
'S' say      header, body: `shutdown` or `kill`: the name server to an agent
'W' watch    header, name, body: as `ganglion.wire.departures`   an agent to the name server; life: the agent's; answered by
'N' news     header, body: as there                            also without being asked
```
Bodies of 'C' and 'R' are loaded only from connections whose CURVE key is the domain's.
"""

from __future__ import annotations

import struct
from typing import Final

import msgspec

VERSION: Final = 1
HEADER: Final = struct.Struct("<BBHQ16s")
NO_LIFE: Final = bytes(16)

CALL, REPLY, BEAT, KNOWN, GOODBYE, SAY, WATCH, NEWS = (ord(letter) for letter in "CRBKGSWN")
ONEWAY: Final = 1
FAILED: Final = 1
WRONG_LIFE: Final = 2
NOT_RUNNING: Final = 4
TAKEN: Final = 1
KILLED: Final = 1


class FrameError(ValueError):
    """Not a frame of this version."""


class Record(msgspec.Struct, frozen=True, array_like=True):
    """What the directory knows of an agent.

    Attributes:
        name: unique among those that live.
        life: random id of this agent's life.
        control: endpoint of unsafe calls.
        safe: endpoint of safe calls.
        pid: of its process.
        running: it is in its main loop, and was not stopped.
    """

    name: str
    life: bytes
    control: str
    safe: str
    pid: int = 0
    running: bool = False


def header(kind: int, number: int = 0, life: bytes = NO_LIFE, flags: int = 0) -> bytes:
    """A header frame."""
    return HEADER.pack(kind, VERSION, flags, number, life)


def read_header(frame: bytes) -> tuple[int, int, int, bytes]:
    """(kind, flags, id, life).

    Raises:
        FrameError: another length or version.
    """
    if len(frame) != HEADER.size:
        raise FrameError(f"header: found {len(frame)} bytes, must be {HEADER.size}")
    kind, version, flags, number, life = HEADER.unpack(frame)
    if version != VERSION:
        raise FrameError(f"header: found version {version}, this process knows {VERSION}")
    return kind, flags, number, life


encode_record = msgspec.msgpack.Encoder().encode
_decoder = msgspec.msgpack.Decoder(Record)


def decode_record(body: bytes) -> Record:
    """A beat's body.

    Raises:
        FrameError: it is none.
    """
    try:
        return _decoder.decode(body)
    except (msgspec.MsgspecError, UnicodeError) as error:
        raise FrameError(f"record: {error}") from error
