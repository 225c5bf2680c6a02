"""Pickles of plain data: all that a peer may send where it may not send code.

A pickle that names no class makes nothing but numbers, text, bytes and containers. With classes it can do more than to make values, even
when each of them is harmless: set attributes of a class itself, call one with arguments that take for ever, or add items to an object
by a method that asks the network. So it is loaded by Python's own unpickler, each of whose steps is judged here, and so is one without
classes whose keys could take the stack or all time to hash (`ganglion.imperative.opcodes`).
"""

from __future__ import annotations

import builtins
import importlib
import io
import pickle
from collections import OrderedDict, deque
from collections.abc import Callable, Collection, Sequence
from decimal import Decimal
from fractions import Fraction
from typing import Any
from uuid import UUID

from ganglion.codecs.base import Body, excerpt
from ganglion.codecs.errors import CodecForbidden, DecodeError
from ganglion.imperative.frames import Record
from ganglion.imperative.opcodes import harmless
from ganglion.wire.departures import Departure

NAME = "cloudpickle"

_CALLED: dict[str, frozenset[str]] = {
    "builtins": frozenset({"complex", "range", "slice"}),
    "collections": frozenset({"OrderedDict", "deque"}),
    "datetime": frozenset({"date", "datetime", "time", "timedelta", "timezone"}),
    "decimal": frozenset({"Decimal"}),
    "fractions": frozenset({"Fraction"}),
    "pathlib": frozenset({"Path", "PosixPath", "PurePosixPath"}),
    "pathlib._local": frozenset({"Path", "PosixPath", "PurePosixPath"}),
    "ganglion.imperative.frames": frozenset({"Record"}),
    "ganglion.wire.departures": frozenset({"Departure"}),
}
"""Classes whose values are made by a call."""
_FILLED: dict[str, frozenset[str]] = {
    "uuid": frozenset({"UUID"}),
    "ganglion.imperative.addresses": frozenset(
        {
            "AgentAddress",
            "AgentAddressKind",
            "AgentAddressRole",
            "AgentAddressSerializer",
            "AgentAddressTransport",
            "AgentChannel",
            "AgentChannelKind",
            "SocketAddress",
        }
    ),
    "ganglion.imperative.nsproxy": frozenset({"NSProxy"}),
    "ganglion.imperative.proxy": frozenset({"Proxy"}),
}
"""Classes whose values are made without `__init__`, which would look for the agent."""
_NAMED = {"builtins": frozenset({"set", "frozenset"})}
"""Named only: values of these have opcodes of their own."""
_ERRORS = frozenset(
    {
        "builtins",
        "ganglion.errors",
        "ganglion.codecs.errors",
        "ganglion.imperative.connections",
        "ganglion.imperative.errors",
        "ganglion.imperative.futures",
        "ganglion.runtime.errors",
        "ganglion.sdk.errors",
        "zmq.error",
    }
)
"""Modules whose exceptions may be named; those that end a process are none."""
_Unpickler: Any = pickle._Unpickler  # type: ignore[attr-defined,unused-ignore]  # noqa: SLF001 - its steps are what it is for
_STEPS: dict[int, Any] = _Unpickler.dispatch
_SCALARS = (str, bytes, int, float, bool, type(None))


MAX_DEPTH = 100
"""Of tuples in tuples in a key."""
MAX_BITS = 1 << 14
"""Of a Fraction's and a Decimal's numbers, and of integers in keys: what is made of larger ones takes longer than linear time."""
SPARE_PARTS = 10_000
SPARE_COPIES = 1 << 16


def _refuse(what: str) -> Any:
    raise CodecForbidden(NAME, f"found a pickle that would {what}, which no value does")


class _Judged(_Unpickler):  # type: ignore[misc]
    """Loads values of the classes above."""

    stack: list[Any]
    metastack: list[list[Any]]

    def __init__(self, body: Body, advice: Callable[[], str]) -> None:
        super().__init__(io.BytesIO(body))
        self._advice = advice
        self._size = len(body)
        # Parts of keys; those that a key has twice count twice, as they are hashed.
        self._parts_left = SPARE_PARTS + 4 * self._size
        self._copies_left = SPARE_COPIES + 64 * self._size
        self._callable: set[Any] = set()
        self._fillable: set[Any] = set()

    def find_class(self, module: str, name: str) -> Any:
        found = _error(module, name)
        if found is not None or name in _CALLED.get(module, ()):
            found = found or getattr(importlib.import_module(module), name)
            self._callable.add(found)
        elif name in _FILLED.get(module, ()):
            found = getattr(importlib.import_module(module), name)
            self._fillable.add(found)
        elif name in _NAMED.get(module, ()):
            found = getattr(builtins, name)
        else:
            raise CodecForbidden(NAME, f"found {module}.{name}, which is no plain data; {self._advice()}, or send data")
        return found

    def load_reduce(self) -> None:
        called, arguments = self.stack[-2:]
        if not isinstance(called, type) or called not in self._callable or type(arguments) is not tuple:
            _refuse(f"call {_name(called)}")
        self._bounded(arguments)
        if called is Fraction and not all(type(one) is int for one in arguments):
            _refuse("make a Fraction of something else than integers")
        if called in (Fraction, Decimal) and any(_bits(one) > MAX_BITS for one in arguments):
            _refuse(f"make a {called.__name__} of more than {MAX_BITS} bits")
        if called is OrderedDict and arguments:
            _refuse("hash the arguments of an OrderedDict")
        if called is deque and arguments and arguments[0]:
            _refuse("fill a deque by its arguments")
        # The same text may be given many times: each value has a copy.
        self._copies_left -= sum(len(one) for one in arguments if isinstance(one, (str, bytes, bytearray)))
        if self._copies_left < 0:
            _refuse("copy the same text again and again")
        # A range can be longer than memory, and a proxy's attributes are looked up at its agent.
        if any(type(one) is range or type(one) in self._fillable for one in arguments):
            _refuse(f"make a {called.__name__} of a range or an address")
        super().load_reduce()

    def load_newobj(self) -> None:
        made, arguments = self.stack[-2:]
        if not isinstance(made, type) or made not in self._fillable:
            _refuse(f"make {_name(made)} without its constructor")
        if type(arguments) is not tuple or not all(type(one) is str for one in arguments):
            _refuse(f"make a {made.__name__} of something else than text")
        super().load_newobj()

    def load_build(self) -> None:
        if isinstance(self.stack[-2], type):
            _refuse(f"change the class {self.stack[-2].__name__}")
        self._bounded(self.stack[-1:])
        if type(self.stack[-2]) is UUID and not all(type(one) in (int, type(None)) for one in dict(self.stack[-1]).values()):
            _refuse("make a UUID of something else than integers")
        super().load_build()

    def load_append(self) -> None:
        _fills(self.stack[-2], list, deque)
        super().load_append()

    def load_appends(self) -> None:
        _fills(self.metastack[-1][-1], list, deque)
        super().load_appends()

    def load_setitem(self) -> None:
        _fills(self.stack[-3], dict, OrderedDict)
        self._hashed(self.stack[-2:-1])
        super().load_setitem()

    def load_setitems(self) -> None:
        _fills(self.metastack[-1][-1], dict, OrderedDict)
        self._hashed(self.stack[::2])
        super().load_setitems()

    def load_dict(self) -> None:
        self._hashed(self.stack[::2])
        super().load_dict()

    def load_additems(self) -> None:
        _fills(self.metastack[-1][-1], set)
        self._hashed(self.stack)
        super().load_additems()

    def load_frozenset(self) -> None:
        self._hashed(self.stack)
        super().load_frozenset()

    def load_bytearray8(self) -> None:
        # It is made, and filled with zeros, before it is read.
        size = int.from_bytes(self.read(8), "little")
        if size > self._size:
            raise pickle.UnpicklingError(f"a bytearray of {size} bytes in a pickle of {self._size}")
        self.append(bytearray(self.read(size)))

    def _hashed(self, keys: list[Any]) -> None:
        """Refuse keys that are hashed by deep recursion, or by more steps than the pickle is long."""
        for key in keys:
            if type(key) not in _SCALARS or type(key) is int:
                self._walk(key, MAX_DEPTH)

    def _bounded(self, values: Sequence[Any]) -> None:
        """The same of what a class is given: it may hash it, or make a text of it."""
        for value in values:
            self._walk(value, MAX_DEPTH)

    def _walk(self, value: Any, deeper: int) -> None:
        self._parts_left -= 1
        if self._parts_left < 0:
            _refuse("use the same parts again and again")
        parts = _parts(value)
        if parts and not deeper:
            _refuse(f"nest a key or an argument more than {MAX_DEPTH} levels deep")
        for part in parts:
            self._walk(part, deeper - 1)

    def load_other(self) -> None:
        _refuse("use an opcode that Python has not written for long")


_Judged.dispatch = {
    **_STEPS,
    **dict.fromkeys(b"".join((pickle.OBJ, pickle.INST, pickle.NEWOBJ_EX, pickle.EXT1, pickle.EXT2, pickle.EXT4)), _Judged.load_other),
    **dict.fromkeys(pickle.PERSID + pickle.BINPERSID, _Judged.load_other),
    pickle.REDUCE[0]: _Judged.load_reduce,
    pickle.NEWOBJ[0]: _Judged.load_newobj,
    pickle.BUILD[0]: _Judged.load_build,
    pickle.APPEND[0]: _Judged.load_append,
    pickle.APPENDS[0]: _Judged.load_appends,
    pickle.SETITEM[0]: _Judged.load_setitem,
    pickle.SETITEMS[0]: _Judged.load_setitems,
    pickle.DICT[0]: _Judged.load_dict,
    pickle.ADDITEMS[0]: _Judged.load_additems,
    pickle.FROZENSET[0]: _Judged.load_frozenset,
    pickle.BYTEARRAY8[0]: _Judged.load_bytearray8,
}


def _fills(found: Any, *wanted: type) -> None:
    if type(found) not in wanted:
        _refuse(f"add to a {type(found).__name__}")


def _bits(value: Any) -> int:
    """How large a number is, or the text of one."""
    if isinstance(value, int):
        return value.bit_length()
    return 4 * len(value) if isinstance(value, (str, tuple)) else 0


def _parts(value: Any) -> Collection[Any]:
    """What is hashed or shown with a value of one of the types that can be made here."""
    kind = type(value)
    if kind is int and value.bit_length() > MAX_BITS:
        _refuse(f"hash or show an integer of more than {MAX_BITS} bits")
    if kind in _SCALARS or isinstance(value, type):
        return ()
    if kind in (tuple, frozenset, list, set, deque):
        return value  # type: ignore[no-any-return]
    if kind in (dict, OrderedDict):
        return [*value, *value.values()]
    if kind is Departure:
        return (value.agent, value.replica, value.incarnation, value.reason)
    if kind is Record:
        return (value.name, value.life, value.control, value.safe, value.pid, value.running)
    # Not by asking it: a proxy would ask its agent.
    held = object.__getattribute__(value, "__dict__") if kind.__dictoffset__ else {}
    return [*held.values(), *(value.args if isinstance(value, BaseException) else ())]


def _name(value: Any) -> str:
    # Its repr may be endless.
    return value.__name__ if isinstance(value, type) else f"a {type(value).__name__}"


def _error(module: str, name: str) -> Any:
    """The exception of this name, or None."""
    if module not in _ERRORS or "." in name:
        return None
    found = getattr(importlib.import_module(module), name, None)
    return found if isinstance(found, type) and issubclass(found, Exception) else None


def loads_plain(body: Body, advice: Callable[[], str]) -> Any:
    """A value.

    Args:
        advice: what to do about one that is none, for error messages.
    Raises:
        CodecForbidden: it names another class, or wants more than to be made.
        DecodeError: garbage.
    """
    try:
        if harmless(body):
            return pickle.loads(body)  # noqa: S301 - see `harmless`: it names no class
        return _Judged(body, advice).load()
    except CodecForbidden:
        raise
    except Exception as error:  # garbage raises anything
        raise DecodeError(NAME, f"found {excerpt(body)}: {type(error).__name__}: {error}") from error


class _Flat(_Unpickler):  # type: ignore[misc]
    """Loads what a call of flat arguments needs. In C, a pickle of a few bytes can take all memory (its memo), and one of tuples in tuples
    all time or the stack, when one is a key and hashed."""

    stack: list[Any]

    def load_setitem(self) -> None:
        _flat(self.stack[-2:])
        super().load_setitem()

    def load_setitems(self) -> None:
        _flat(self.stack)
        super().load_setitems()

    def load_other(self) -> None:
        raise CodecForbidden(NAME, "found more than text, numbers and bytes; this name server takes these alone")


_FLAT = b"".join(
    (
        *(pickle.PROTO, pickle.FRAME, pickle.STOP, pickle.MARK, pickle.MEMOIZE, pickle.BINPUT, pickle.LONG_BINPUT),
        *(pickle.BINGET, pickle.LONG_BINGET, pickle.NONE, pickle.NEWTRUE, pickle.NEWFALSE, pickle.BININT, pickle.BININT1, pickle.BININT2),
        *(pickle.LONG1, pickle.BINFLOAT, pickle.SHORT_BINUNICODE, pickle.BINUNICODE, pickle.BINUNICODE8, pickle.SHORT_BINBYTES),
        *(pickle.BINBYTES, pickle.BINBYTES8, pickle.EMPTY_TUPLE, pickle.TUPLE, pickle.TUPLE1, pickle.TUPLE2, pickle.TUPLE3),
        pickle.EMPTY_DICT,
    )
)
_Flat.dispatch = {
    **dict.fromkeys(_STEPS, _Flat.load_other),
    **{code: _STEPS[code] for code in _FLAT},
    pickle.SETITEM[0]: _Flat.load_setitem,
    pickle.SETITEMS[0]: _Flat.load_setitems,
}


def _flat(found: Any) -> None:
    for one in found:
        if type(one) not in _SCALARS:
            raise CodecForbidden(NAME, f"found a {type(one).__name__}; this name server takes text, numbers and bytes alone")


def loads_flat_call(body: Body) -> Any:
    """(method, args, kwargs) of a call whose arguments are text, numbers, bytes and None.

    Raises:
        CodecForbidden: there is anything else in it.
        DecodeError: garbage.
    """
    try:
        method, arguments, named = _Flat(io.BytesIO(body)).load()
        _flat((method, *arguments, *named.values()))
    except CodecForbidden:
        raise
    except Exception as error:  # garbage raises anything
        raise DecodeError(NAME, f"found {excerpt(body)}: {type(error).__name__}: {error}") from error
    return method, arguments, named
