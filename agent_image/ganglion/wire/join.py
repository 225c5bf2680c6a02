"""The join frame: the only bytes that the name server looks at before it knows who sends them.

A fixed header and seven fields, read with `struct` alone; at most 8 KiB. Nothing in it can allocate, recurse or run.

```
magic "GJ" | version u8 | flags u8 | start u64 | issued u64 | 7 × length u16 | agent | replica | uid | data key | host | software | token
```
All integers little endian, text ASCII but for `token`, which is bytes. `flags` bit 0: this replica has been a member before.
"""

from __future__ import annotations

import functools
import ipaddress
import re
import struct
from dataclasses import dataclass, field

JOIN_VERSION = 1
MAX_JOIN_BYTES = 8192
MAGIC = b"GJ"
FLAG_REJOIN = 1
VISITOR = "ad-hoc.visitor"
"""`agent` of a join of a program outside of the cluster, which becomes no member; no Agent can have this name."""

_HEADER = struct.Struct("<2sBBQQ7H")
_NAME = re.compile(rb"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?")
_UID = re.compile(rb"[-A-Za-z0-9]{1,64}")
_SOFTWARE = re.compile(rb"[-+.0-9A-Za-z]{0,64}")
_HOST_BYTES = 64


_Z85 = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.-:+=^!/*?&<>()[]{}@%$#"
_DIGIT = {character: number for number, character in enumerate(_Z85)}


def is_key(text: str) -> bool:
    """Whether a text is a CURVE key in Z85. libzmq takes no other, and some texts of 40 of its characters stand for more than 32 bytes."""
    if len(text) != 40 or not _DIGIT.keys() >= set(text):
        return False
    groups = (text[start : start + 5] for start in range(0, 40, 5))
    return all(functools.reduce(lambda value, character: 85 * value + _DIGIT[character], group, 0) < 1 << 32 for group in groups)


class JoinError(ValueError):
    """The frame is not a join frame that this version understands."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        """`TooLarge`, `UnknownVersion` or `Malformed`."""


@dataclass(frozen=True, slots=True)
class Join:
    """A replica asks to become a member.

    Attributes:
        agent, replica: names; the replica is the pod.
        uid, start, issued: the incarnation, see `ganglion.wire.control.Incarnation`.
        key: public CURVE key of the data plane (Z85), empty while an agent process has not said its own yet or with `security: None`.
        host: IP address that peers connect to.
        software: version of the distribution, for people.
        token: projected token, or the join secret; never in a repr.
        rejoin: this incarnation has been a member of an earlier epoch or lease.
    """

    agent: str
    replica: str
    uid: str
    start: int
    issued: int
    key: str
    host: str
    software: str
    token: bytes = field(repr=False)
    rejoin: bool = False


def encode_join(join: Join) -> bytes:
    """The frame.

    Raises:
        JoinError: a field is not valid, or the frame would exceed 8 KiB.
    """
    try:
        fields = [text.encode("ascii") for text in (join.agent, join.replica, join.uid, join.key, join.host, join.software)]
        header = _HEADER.pack(
            MAGIC,
            JOIN_VERSION,
            FLAG_REJOIN if join.rejoin else 0,
            join.start,
            join.issued,
            *(len(value) for value in fields),
            len(join.token),
        )
    except (UnicodeEncodeError, struct.error) as error:
        raise JoinError("Malformed", f"join: a field cannot be encoded: {error}") from error
    frame = b"".join([header, *fields, join.token])
    decode_join(frame)
    return frame


def decode_join(frame: bytes | memoryview) -> Join:
    """Read a join frame from a peer that nobody has authenticated yet.

    Raises:
        JoinError: with `reason`; the text holds nothing of the frame but lengths.
    """
    if len(frame) > MAX_JOIN_BYTES:
        raise JoinError("TooLarge", f"join frame: found {len(frame)} bytes, at most {MAX_JOIN_BYTES}")
    if len(frame) < _HEADER.size or bytes(frame[:2]) != MAGIC:
        raise JoinError("Malformed", f"join frame: {len(frame)} bytes that are no join frame")
    _, version, flags, start, issued, *lengths = _HEADER.unpack_from(frame)
    if version != JOIN_VERSION:
        raise JoinError("UnknownVersion", f"join frame: found version {version}, this name server knows {JOIN_VERSION}")
    if _HEADER.size + sum(lengths) != len(frame):
        raise JoinError("Malformed", f"join frame: lengths add up to {_HEADER.size + sum(lengths)} bytes, found {len(frame)}")
    fields: list[bytes] = []
    offset = _HEADER.size
    for length in lengths:
        fields.append(bytes(frame[offset : offset + length]))
        offset += length
    agent, replica, uid, key, host, software, token = fields
    for name, value, pattern in (
        ("agent", agent, _NAME),
        ("replica", replica, _NAME),
        ("uid", uid, _UID),
        ("software", software, _SOFTWARE),
    ):
        if pattern.fullmatch(value) is None:
            raise JoinError("Malformed", f"join frame: {name}: {len(value)} bytes that are not valid there")
    if key and not is_key(key.decode("ascii", "replace")):
        raise JoinError("Malformed", f"join frame: key: {len(key)} bytes that are no key")
    return Join(
        agent=agent.decode("ascii"),
        replica=replica.decode("ascii"),
        uid=uid.decode("ascii"),
        start=start,
        issued=issued,
        key=key.decode("ascii"),
        host=_host(host),
        software=software.decode("ascii"),
        token=token,
        rejoin=bool(flags & FLAG_REJOIN),
    )


def _host(value: bytes) -> str:
    # An address and no name: peers must never be made to resolve what a stranger wrote.
    if len(value) <= _HOST_BYTES and value.isascii():
        try:
            return str(ipaddress.ip_address(value.decode("ascii")))
        except ValueError:
            pass
    raise JoinError("Malformed", f"join frame: host: {len(value)} bytes that are no IP address")
