"""Which pickles can be left to C's unpickler. It is quick, and helpless before three things: a key that is nested deeply is hashed by
recursion, until the stack ends; one that holds the same tuple twice, which holds another twice, and so on, is hashed for ever; and a memo
index is an allocation.

So a pickle is walked first, without making anything: mostly by one regular expression, which is C, too. What it does not know is loaded step by step.
"""

from __future__ import annotations

import pickle
import re

from ganglion.codecs.base import Body

MAX_NESTED = 256
"""Tuples and frozensets with other than scalars, before a key that they might be."""
FLAT_ITEMS = 32
"""A tuple of so few scalars is hashed at once, and as good as one."""


def _counted(code: bytes, most: int) -> bytes:
    """An opcode, a length of one byte, and so many bytes."""
    lengths = [re.escape(bytes([size])) + b".{%d}" % size for size in range(most + 1)]
    # Alternatives are tried in turn: long ones are asked for by groups.
    groups = [
        b"(?=[%s-%s])(?:%s)" % (re.escape(bytes([low])), re.escape(bytes([low + 31])), b"|".join(lengths[low : low + 32]))
        for low in range(32, most, 32)
    ]
    return re.escape(code) + b"(?:" + b"|".join((*lengths[:32], *groups)) + b")"


def _sized(**sizes: int) -> bytes:
    return b"|".join(re.escape(getattr(pickle, name)) + b".{%d}" % size for name, size in sizes.items())


_SCALAR = b"(?>(?:%s)\x94?)" % b"|".join(
    (
        _counted(pickle.SHORT_BINUNICODE, 255),
        _sized(BININT1=1, BININT2=2, BININT=4, BINFLOAT=8),
        b"[%s]" % re.escape(pickle.NONE + pickle.NEWTRUE + pickle.NEWFALSE + pickle.EMPTY_TUPLE),
        # A larger one is hashed anew each time, and many of them can have the same hash.
        _counted(pickle.LONG1, 8),
        _counted(pickle.SHORT_BINBYTES, 255),
    )
)
# As many scalars as there are, and what makes a tuple of no more than these.
_SCALARS = b"%s(?:\x85|%s(?:[\x85\x86]|%s++[\x85-\x87]?)?)?" % ((_SCALAR,) * 3)
_MARKED = b"\\((?:%s(?:[\x85t]|%s(?:[\x85\x86t]|%s{1,%d}+[\x85-\x87t]?)?)?)?" % ((_SCALAR,) * 3 + (FLAT_ITEMS - 2,))
_CONTAINERS = pickle.EMPTY_LIST + pickle.EMPTY_DICT + pickle.EMPTY_SET + pickle.APPEND + pickle.APPENDS + pickle.MEMOIZE
_GETS = {pickle.BINGET[0]: 2, pickle.LONG_BINGET[0]: 5}
_HASHING = pickle.SETITEM + pickle.SETITEMS + pickle.ADDITEMS


def _run(more: bytes, *others: bytes) -> re.Pattern[bytes]:
    known = (_SCALARS, _MARKED, b"[%s]" % re.escape(_CONTAINERS + more), _sized(PROTO=1, FRAME=8), *others)
    return re.compile(b"(?:%s)*+" % b"|".join(known), re.DOTALL)


_before = _run(_HASHING, _sized(BINGET=1, LONG_BINGET=4)).match
"""Steps while there is no tuple of other than scalars: no key can be nested."""
_after = _run(b"").match
_LONG = {
    **dict.fromkeys(pickle.BINUNICODE + pickle.BINBYTES, 4),
    **dict.fromkeys(pickle.BINUNICODE8 + pickle.BINBYTES8 + pickle.BYTEARRAY8, 8),
}
_NESTING = frozenset(pickle.TUPLE + pickle.TUPLE1 + pickle.TUPLE2 + pickle.TUPLE3 + pickle.FROZENSET)
_STOP, _FROZENSET = pickle.STOP[0], pickle.FROZENSET[0]


def harmless(body: Body) -> bool:
    """Whether C's unpickler makes nothing but numbers, text, bytes and containers of this, in time and memory of its size."""
    run, at, nested, shared = _before, 0, 0, False
    while True:
        found = run(body, at)
        assert found is not None
        at = found.end()
        if at >= len(body):
            return False
        code = body[at]
        if code == _STOP:
            return True
        if code in _LONG:
            start = at + 1 + _LONG[code]
            at = start + int.from_bytes(body[at + 1 : start], "little")
            continue
        if code in _GETS:
            # It may be a tuple.
            shared = True
            at += _GETS[code]
            continue
        if (code in _HASHING or code == _FROZENSET) and (shared or nested > MAX_NESTED):
            return False
        if code in _NESTING:
            run = _after
            nested += 1
        elif code not in _HASHING:
            return False
        at += 1
