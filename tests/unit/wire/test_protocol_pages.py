"""What the protocol pages say, against the bytes: frames are read by the layouts that stand on the page."""

from __future__ import annotations

import re
import struct
from pathlib import Path

import msgspec

from ganglion.wire import admin, control, frames
from ganglion.wire.join import Join, encode_join

ROOT = Path(__file__).parents[3]
DATA_PAGE = (ROOT / "docs/reference/protocol.md").read_text(encoding="utf-8")
CONTROL_PAGE = (ROOT / "docs/reference/control-protocol.md").read_text(encoding="utf-8")
SIZES = {"u8": "B", "u16": "H", "u32": "I", "u64": "Q"}
STREAM, FIRST = 0x1122334455667788, 0x99AABBCCDDEEFF


def section(page: str, title: str) -> str:
    """The text below a heading, up to the next one."""
    return re.split(r"\n#+ ", page.partition(f"# {title}")[2])[0]


def rows(text: str) -> list[list[str]]:
    """Cells of a section's table, without its head."""
    table = [line.strip("|").split(" | ") for line in text.splitlines() if line.startswith("| ")]
    return [[cell.strip(" |") for cell in row] for row in table[1:]]


def read(layout: str, frame: bytes) -> dict[str, int]:
    """The integers that a layout like `n u32 | stream u64` names, from the start of a frame."""
    fields = [field.split() for field in layout.split(" | ")]
    packed = struct.Struct("<" + "".join(SIZES[size] for _, size in fields))
    return dict(zip((name for name, _ in fields), packed.unpack_from(frame), strict=True))


def layout(pattern: str) -> str:
    """A layout in backticks that matches; `kind | version | flags` is written out, and what is no integer cut off."""
    [found] = re.findall(rf"`({pattern})`", DATA_PAGE)
    [head] = re.findall(r"Every frame begins with `([^`]+)`", DATA_PAGE)
    return str(found).replace("kind | version | flags", head).removesuffix(" | body")


def test_a_batch_is_read_by_the_table() -> None:
    bodies = [b"a", b"bcd", b""]
    frame = frames.encode_data(STREAM, FIRST, bodies, flags=frames.FLAG_REDELIVERY, skip=0b010)
    found = {}
    for place, name, _ in rows(section(DATA_PAGE, "DATA `D`"))[:6]:
        start, _, end = place.partition("–")
        found[name] = int.from_bytes(frame[int(start) : int(end or start) + 1], "little")
    # Of the flags: bit 1 says redelivery, bit 3 that a mask follows.
    assert found == {"kind": 0x44, "version": 1, "flags": 1 << 1 | 1 << 3, "n": 3, "stream": STREAM, "first": FIRST}
    assert frame[24:] == bytes([0b010]) + struct.pack("<III", *map(len, bodies)) + b"".join(bodies)


def test_acknowledgements_and_replies_are_read_by_their_layouts() -> None:
    frame = frames.encode_ack([(STREAM, FIRST, 7, frames.RELEASED)])
    head = layout(r"kind \| version \| flags \| n u32")
    assert read(head, frame) == {"kind": ord("A"), "version": 1, "flags": 0, "n": 1}
    one = layout(r"stream u64 \| first u64 \| count u32 \| code u32")
    assert read(one, frame[8:]) == {"stream": STREAM, "first": FIRST, "count": 7, "code": 2}
    assert len(frame) == 8 + 24
    reply = frames.encode_reply(STREAM, FIRST, b"body", code=0)
    whole = layout(r"kind \| version \| flags \| code u32 \| stream u64 \| sequence u64 \| body")
    assert read(whole, reply) == {"kind": ord("R"), "version": 1, "flags": 0, "code": 0, "stream": STREAM, "sequence": FIRST}
    assert reply[24:] == b"body"


def test_codes_of_acknowledgements() -> None:
    table = {int(row[0]): (row[1], row[2]) for row in rows(section(DATA_PAGE, "ACK `A`"))}
    words = {
        frames.DONE: "done",
        frames.REJECTED: "rejected",
        frames.RELEASED: "released",
        frames.HANDLED: "handled",
        frames.DEAD: "dead-lettered",
        frames.STARTED: "started",
    }
    assert table.keys() == words.keys()
    assert all(table[code][0].startswith(word) for code, word in words.items())
    assert {code for code, (_, settles) in table.items() if settles == "yes"} == {frames.DONE, frames.DEAD}


def test_every_control_frame_is_in_the_table() -> None:
    table = rows(section(DATA_PAGE, "Control frames"))
    listed = {letter: name for row in table for letter, name in re.findall(r"`([A-Z])` ([A-Z]+)", row[0])}
    assert {ord(letter) for letter in listed} == frames.CONTROL_KINDS
    assert all(getattr(frames, name) == ord(letter) for letter, name in listed.items())


def test_every_refusal_is_in_the_table() -> None:
    [refuse] = [row for row in rows(section(DATA_PAGE, "Control frames")) if row[0] == "`N` REFUSE"]
    listed = set(re.findall(r"`([A-Z]\w+)`", refuse[3]))
    sources = [path.read_text(encoding="utf-8") for path in (ROOT / "agent_image/ganglion/runtime").glob("*.py")]
    said = {code for text in sources for code in re.findall(r'_refuse\([^"\n]*"([A-Z]\w+)"', text)}
    said |= {code for text in sources for code in re.findall(r'REFUSE, \{"code": "(\w+)"', text)}
    assert {"BadFrame", "NotAuthorised", "Replaced"} <= said <= listed


def test_the_join_frame_is_read_by_its_layout() -> None:
    frame = encode_join(
        Join(agent="worker", replica="worker-0", uid="uid-1", start=3, issued=4, key="", host="10.0.0.1", software="1.0", token=b"token")
    )
    texts = [b"worker", b"worker-0", b"uid-1", b"", b"10.0.0.1", b"1.0", b"token"]
    pattern = r'"GJ" \| version u8 = 1 \| (flags u8 \| start u64 \| issued u64) \| length u16 × 7 \| ([^\n]+)\n'
    [(numbers, names)] = re.findall(pattern, CONTROL_PAGE)
    assert frame[:3] == b"GJ\x01"
    assert read(numbers, frame[3:]) == {"flags": 0, "start": 3, "issued": 4}
    assert names.split(" | ") == ["agent", "replica", "uid", "data key", "host", "software", "token"]
    assert struct.unpack_from("<7H", frame, 20) == tuple(map(len, texts))
    assert frame[34:] == b"".join(texts)


def test_every_control_message_is_named() -> None:
    kinds = [kind for module in (control, admin) for kind in vars(module).values() if isinstance(kind, type)]
    structs = [kind for kind in kinds if issubclass(kind, msgspec.Struct) and not kind.__name__.startswith("_")]
    tags = {kind.__struct_config__.tag for kind in structs} - {None}
    assert len(tags) > 15
    assert not {tag for tag in tags if not re.search(rf"\b{tag}\b", CONTROL_PAGE)}
