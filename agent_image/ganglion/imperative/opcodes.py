"""Which pickles can be left to C's unpickler. It is quick, and helpless before three things: a key that is nested deeply is hashed by
recursion, until the stack ends; one that holds the same tuple twice, which holds another twice, and so on, is hashed for ever; and a memo
index is an allocation.

So a pickle is walked first, without making anything: mostly by regular expressions, which are C, too. What it does not know is loaded step by step.
"""

from __future__ import annotations

import pickle
import re
from collections.abc import Callable

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


_ONE = re.escape(pickle.NONE + pickle.NEWTRUE + pickle.NEWFALSE + pickle.EMPTY_TUPLE)
_REST = (
    _sized(BININT1=1),
    _sized(BININT2=2),
    _sized(BINFLOAT=8),
    _counted(pickle.SHORT_BINUNICODE, 255),
    _sized(BININT=4),
    # A larger one is hashed anew each time, and many of them can have the same hash.
    _counted(pickle.LONG1, 8),
    _counted(pickle.SHORT_BINBYTES, 255),
)
_SCALAR = b"(?>(?:%s)\x94?)" % b"|".join((b"[%s]" % _ONE, *_REST))
# As many scalars as there are, and what makes a tuple of no more than these.
_SCALARS = b"%s(?:\x85|%s(?:[\x85\x86]|%s++[\x85-\x87]?)?)?" % ((_SCALAR,) * 3)
_MARKED = b"\\((?:%s(?:[\x85t]|%s(?:[\x85\x86t]|%s{1,%d}+[\x85-\x87t]?)?)?)?" % ((_SCALAR,) * 3 + (FLAT_ITEMS - 2,))
_CONTAINERS = pickle.EMPTY_LIST + pickle.EMPTY_DICT + pickle.EMPTY_SET + pickle.APPEND + pickle.APPENDS + pickle.MEMOIZE
_GETS = {pickle.BINGET[0]: 1, pickle.LONG_BINGET[0]: 4}
_HASHING = pickle.SETITEM + pickle.SETITEMS + pickle.ADDITEMS


_TUPLES = pickle.TUPLE + pickle.TUPLE1 + pickle.TUPLE2 + pickle.TUPLE3


def _run(*known: bytes) -> Callable[[Body, int], re.Match[bytes] | None]:
    return re.compile(b"(?:%s)*+" % b"|".join(known), re.DOTALL).match


def _plainly(more: bytes) -> Callable[[Body, int], re.Match[bytes] | None]:
    # Alternatives of one byte and of fixed bytes come first: which of them it is, is told without trying.
    one = b"[%s]++" % (_ONE + re.escape(_CONTAINERS + pickle.MARK + more))
    return _run(one, _sized(BINGET=1), *_REST, _sized(LONG_BINGET=4), _sized(PROTO=1), _sized(FRAME=8))


_first, _then = _plainly(_HASHING), _plainly(_TUPLES)
"""Steps before the first tuple, and then those that hash nothing."""
_before = _run(_SCALARS, _MARKED, b"[%s]" % re.escape(_CONTAINERS + _HASHING), _sized(PROTO=1, FRAME=8), _sized(BINGET=1, LONG_BINGET=4))
"""Steps while there is no tuple of other than scalars: no key can be nested."""
_after = _run(_SCALARS, _MARKED, b"[%s]" % re.escape(_CONTAINERS), _sized(PROTO=1, FRAME=8))
_LONG = {
    **dict.fromkeys(pickle.BINUNICODE + pickle.BINBYTES, 4),
    **dict.fromkeys(pickle.BINUNICODE8 + pickle.BINBYTES8 + pickle.BYTEARRAY8, 8),
}
_NESTING = frozenset(_TUPLES + pickle.FROZENSET)
_STOP, _FROZENSET = pickle.STOP[0], pickle.FROZENSET[0]


def harmless(body: Body) -> bool:
    """Whether C's unpickler makes nothing but numbers, text, bytes and containers of this, in time and memory of its size.

    Keys that were made to collide still cost quadratic time.
    """
    run, at = _first, 0
    while True:
        code, at = _next(run, body, at)
        if code == _STOP:
            return True
        if code not in _LONG:
            if run is _first and code in _NESTING and code != _FROZENSET:
                run = _then
            elif code in _HASHING or code in _NESTING:
                # A tuple may have become a key: which of them may is told by a closer look, which takes longer.
                return _harmless_keys(body)
            else:
                return False


def _next(run: Callable[[Body, int], re.Match[bytes] | None], body: Body, at: int) -> tuple[int, int]:
    """(opcode, position after it and its bytes) of the first step that is not of the run; -1 when there is none."""
    found = run(body, at)
    assert found is not None
    at = found.end()
    if at >= len(body):
        return -1, at
    code = body[at]
    at += 1
    size = _LONG.get(code, 0)
    return code, at + size + (int.from_bytes(body[at : at + size], "little") if size else 0)


def _harmless_keys(body: Body) -> bool:
    run, at, nested, shared = _before, 0, 0, False
    while True:
        code, at = _next(run, body, at)
        if code == _STOP:
            return True
        if code in _LONG:
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
