"""What peers may send where remote code is forbidden."""

from __future__ import annotations

import contextlib
import datetime as dt
import decimal
import fractions
import importlib
import os
import pathlib
import pickle
import sys
import uuid
from collections import OrderedDict, deque
from typing import Any

import cloudpickle
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ganglion import (
    AgentAddress,
    AgentChannel,
    CodecForbidden,
    DecodeError,
    EncodeError,
    NamingError,
    RemoteError,
    SocketAddress,
    UnknownCodec,
)
from ganglion.imperative import trust
from ganglion.imperative.failures import decode_error
from ganglion.imperative.frames import Record
from ganglion.imperative.opcodes import harmless
from ganglion.imperative.plain import _Judged, loads_flat_call
from ganglion.wire.departures import Departure

VALUES = [
    {"a": [1, 2.5, None, True, b"x", "ü"], "b": ({1, 2}, frozenset("ab"), 3 + 4j, bytearray(b"y"))},
    dt.datetime(2024, 1, 2, 3, 4, tzinfo=dt.UTC),
    decimal.Decimal("1.5"),
    uuid.UUID(int=7),
    pathlib.Path("/x/y"),
    OrderedDict(a=1),
    deque([1, 2], maxlen=3),
    AgentAddress("tcp", "h:1", "PUSH", "server", "msgpack"),
    AgentChannel("ASYNC_REP", AgentAddress("tcp", SocketAddress("h", 2), "PULL", "server", "json"), None),
    Record(name="a", life=b"l" * 16, control="tcp://h:1", safe="tcp://h:2"),
    Departure("a", "a", "1", "Killed"),
    NamingError,
    KeyError,
    {KeyError: 1, AgentAddress: 2, (dt.date(2024, 1, 2), uuid.UUID(int=8)): 3, AgentAddress("ipc", "x", "REP", "server", "json"): 4},
    {Record(name="a", life=b"l" * 16, control="tcp://h:1", safe="tcp://h:2"): decimal.Decimal("1e999999")},
]
KEYS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8) | st.binary(max_size=8),
    lambda one: st.tuples(one, one) | st.frozensets(one, max_size=3),
    max_leaves=5,
)
DATA = st.recursive(
    KEYS | st.binary(max_size=8).map(bytearray),
    lambda one: (
        st.lists(one, max_size=3)
        | st.lists(one, max_size=3).map(tuple)
        | st.dictionaries(KEYS, one, max_size=3)
        | st.sets(KEYS, max_size=3)
        | one.map(lambda it: [it, it])
    ),
    max_leaves=8,
)


class Bomb:
    """Runs code where it is loaded."""

    def __reduce__(self) -> Any:
        return os.mkdir, ("made by a bomb",)


@pytest.fixture(autouse=True)
def _forbidden(monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path) -> Any:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GANGLION_REMOTE_CODE", "Forbidden")
    caches = (trust.remote_code, trust.peer_loads, trust.peer_dumps)
    for cache in caches:
        cache.cache_clear()
    yield
    assert not list(tmp_path.iterdir())
    for cache in caches:
        cache.cache_clear()


@pytest.mark.parametrize("value", VALUES, ids=lambda value: type(value).__name__)
def test_data_travels(value: Any) -> None:
    assert trust.peer_loads()(trust.peer_dumps()(value)) == value


def _kind(value: Any) -> str:
    # The same in each process that collects.
    return f"{type(value).__name__} {getattr(value, '__qualname__', '')}"


def function() -> None:
    """Of a module that the receiver can import."""


@pytest.mark.parametrize("value", [Bomb(), [Bomb()], os.mkdir, function, eval, pathlib.Path.unlink, lambda: 1, Bomb], ids=_kind)
def test_code_is_refused_before_it_is_loaded(value: Any) -> None:
    with pytest.raises(CodecForbidden, match=r"spec\.remoteCode"):
        trust.peer_loads()(cloudpickle.dumps(value, 5))


@pytest.mark.parametrize("name", ["os\nsystem", "builtins\neval", "builtins\nError.mro", "ganglion.imperative.proxy\ncalls.call"])
def test_names_of_old_protocols_are_refused(name: str) -> None:
    with pytest.raises((CodecForbidden, DecodeError)):
        trust.peer_loads()(b"c" + name.encode() + b"\n(tR.")


def test_a_lambda_is_refused_where_it_is_sent() -> None:
    with pytest.raises(EncodeError, match="remote code is forbidden here"):
        trust.peer_dumps()(lambda: 1)


@given(st.binary(max_size=200))
def test_garbage_is_an_error(body: bytes) -> None:
    for load in (trust.peer_loads(), loads_flat_call):
        with contextlib.suppress(CodecForbidden, DecodeError):
            load(body)


@pytest.mark.parametrize("value", [KeyError, Record(name="a", life=b"l", control="c", safe="s"), {1}], ids=repr)
def test_a_directory_takes_no_class_at_all(value: Any) -> None:
    with pytest.raises(CodecForbidden):
        loads_flat_call(pickle.dumps([value], 2))


@pytest.mark.parametrize("name", ["pickle", "dill", "cloudpickle"])
def test_codecs_that_run_code_are_refused(name: str) -> None:
    with pytest.raises(CodecForbidden, match=r"spec\.remoteCode"):
        trust.permitted_codec(name)


def test_what_is_neither_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GANGLION_REMOTE_CODE", "Maybe")
    trust.remote_code.cache_clear()
    with pytest.raises(ValueError, match="GANGLION_REMOTE_CODE: found 'Maybe', must be Forbidden, Signed or Trusted"):
        trust.remote_code()


def test_a_peer_does_not_choose_what_is_imported() -> None:
    assert "antigravity" not in sys.modules
    with pytest.raises(CodecForbidden, match="module 'antigravity' is not imported here"):
        trust.permitted_codec("protobuf:antigravity:fly")
    assert "antigravity" not in sys.modules
    importlib.import_module("google.protobuf.struct_pb2")
    assert trust.permitted_codec("protobuf:google.protobuf.struct_pb2:Struct").name.startswith("protobuf:")


def _name(module: str, name: str) -> bytes:
    return b"".join(bytes([0x8C, len(text)]) + text.encode() for text in (module, name)) + b"\x93"


_ADDRESS = _name("ganglion.imperative.addresses", "AgentAddress")
_PROXY = _name("ganglion.imperative.nsproxy", "NSProxy")
_ENDLESS = _name("builtins", "range") + b"K\x00\x8a\x08" + (1 << 60).to_bytes(8, "little") + b"\x86R"
_LARGE = b"\x8b\x00\x00\x10\x00" + b"\x7f" * (1 << 20)
_DOUBLED = b")" + b"2\x86" * 60
"""A tuple of an empty one twice, in one that holds it twice, and so on."""
ODD = {
    "sets an attribute of a class": _ADDRESS + b"N}\x8c\x04twin" + _name("builtins", "KeyError") + b"s\x86b.",
    "connects": _PROXY + b"\x8c\x0b127.0.0.1:1\x85R.",
    "asks a proxy for a method": _PROXY + b")\x81(K\x01e.",
    "asks a proxy for keys": _name("collections", "OrderedDict") + _PROXY + b")\x81\x85R.",
    "adds to a proxy": _PROXY + b")\x81(K\x01\x90.",
    "fills memory": _name("collections", "deque") + _ENDLESS + b"\x85R.",
    "fills memory with a set": _name("builtins", "set") + _ENDLESS + b"\x85R.",
    "fills memory with a frozenset": _name("builtins", "frozenset") + _ENDLESS + b"\x85\x81.",
    "computes for ever": _name("fractions", "Fraction") + b"\x8c\x0b1e999999999\x85R.",
    "computes for long": _name("fractions", "Fraction") + _LARGE + b"\x94h\x00\x86R.",
    "makes a large text of a small one": _name("decimal", "Decimal") + _LARGE + b"\x85R.",
    "shows a bomb": _name("ganglion.codecs.errors", "UnknownCodec") + b"K\x00" + _DOUBLED + b"\x86R.",
    "calls a bomb": _DOUBLED + b")R.",
    "makes a bomb": _DOUBLED + b")\x81.",
    "hashes a bomb in an OrderedDict": _name("collections", "OrderedDict") + b"]]" + _DOUBLED + b"aK\x01aa\x85R.",
    "hashes a bomb in an address": _ADDRESS + b")\x81}\x8c\x07address" + _DOUBLED + b"sb.",
    "hashes a bomb in a UUID": _name("uuid", "UUID") + b")\x81}\x8c\x03int" + _DOUBLED + b"sb.",
    "hashes a tuple in a UUID": _name("uuid", "UUID") + b")\x81}\x8c\x03intK\x01\x85sb.",
    "ends the process": _name("builtins", "SystemExit") + b".",
    "uses an old opcode": b"(" + _name("collections", "deque") + _ENDLESS + b"o.",
}


@pytest.mark.parametrize("what", ODD)
def test_a_pickle_of_permitted_classes_only_makes_values(what: str) -> None:
    with pytest.raises(CodecForbidden):
        trust.peer_loads()(b"\x80\x05" + ODD[what])
    assert AgentAddress("tcp", "h:1", "PUSH", "server", "json").twin().kind == "PULL"


@pytest.mark.parametrize(
    "value",
    [fractions.Fraction(1, 3), range(3), slice(1, 2), dt.timedelta(1), deque([1, 2]), {(1, dt.date(2024, 1, 2)): [complex(1, 2)]}],
    ids=repr,
)
def test_values_come_back(value: Any) -> None:
    assert trust.peer_loads()(trust.peer_dumps()(value)) == value


def test_errors_are_values_too() -> None:
    error = trust.peer_loads()(trust.peer_dumps()(NamingError("unknown", 7)))
    assert isinstance(error, NamingError)
    assert error.args == ("unknown", 7)


@pytest.mark.parametrize("cls", [SystemExit, KeyboardInterrupt, GeneratorExit])
@pytest.mark.parametrize("mode", ["Forbidden", "Trusted"])
def test_an_exception_of_a_peer_does_not_end_its_caller(cls: type[BaseException], mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GANGLION_REMOTE_CODE", mode)
    trust.remote_code.cache_clear()
    body = pickle.dumps((f"builtins.{cls.__name__}", "3", "trace", pickle.dumps(cls), {}))
    error = decode_error(body)
    assert isinstance(error, RemoteError)
    assert cls.__name__ in str(error)


def test_what_an_imported_module_holds_is_not_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GANGLION_TEST_HIDDEN", "only here")
    for name in ("protobuf:os:environ", "protobuf:os:environ.copy", "protobuf:os:environ.nothing"):
        with pytest.raises(UnknownCodec) as caught:
            trust.permitted_codec(name)
        assert "only here" not in str(caught.value)


NESTED = {
    "deep": b"\x80\x05}\x8c\x01xK\x01s)" + b"\x85" * 150_000 + b"\x86.",
    "a deep key": b"\x80\x05})" + b"\x85" * 150_000 + b"Ns.",
    "two of two of two": b"\x80\x05})" + b"".join(b"\x94h" + bytes([n]) + b"\x86" for n in range(200)) + b"Ns.",
    "a deep argument": b"\x80\x05\x8c\x06lookup)" + b"\x85" * 150_000 + b"}\x87.",
    "memory": b"\x80\x05K\x01r\xff\xff\xff\xff.",
}


@pytest.mark.parametrize("what", NESTED)
@pytest.mark.parametrize("classes", [False, True], ids=["plain", "with a class"])
def test_an_agent_survives_what_is_nested(what: str, classes: bool) -> None:
    # With a class it goes the other way.
    body = NESTED[what].replace(b"\x80\x05", b"\x80\x05" + _name("builtins", "KeyError") + b"0" if classes else b"\x80\x05")
    if what in ("deep", "a deep argument", "memory"):
        trust.peer_loads()(body)
    else:
        with pytest.raises(CodecForbidden):
            trust.peer_loads()(body)


BOMBS = {
    "a set": b"\x8f(" + _DOUBLED + b"\x90.",
    "a frozenset": b"(" + _DOUBLED + b"\x91.",
    "a dict of old": b"(" + _DOUBLED + b"Nd.",
    "one item": b"}" + _DOUBLED + b"Ns.",
    "an inner frozenset": b"(" + b"K\x01" + b"\x85)\x86" * 300 + b"\x91.",
    "frozensets in frozensets": b"(" * 300 + b"K\x01" + b"\x91" * 300 + b".",
    "one tuple again and again": b"(" + b"K\x01" * 50_000 + b"t\x94}(" + b"h\x00N" * 50_000 + b"u.",
    "a large integer again and again": _LARGE + b"\x94}(" + b"h\x00N" * 50_000 + b"u.",
    "a bytearray of more than there is": b"\x96" + (1 << 34).to_bytes(8, "little") + b"x.",
    "a deque of letters": b"\x8c\x0bcollections\x8c\x05deque\x93\x94\x8c\x03abc\x94" + b"h\x00h\x01\x85R" * 3 + b".",
    "one text copied again and again": b"\x8c\x07pathlib\x8c\x09PosixPath\x93\x94X"
    + (30_000).to_bytes(4, "little")
    + b"x" * 30_000
    + b"\x94"
    + b"h\x00h\x01\x85R0" * 100
    + b"("
    + b"h\x00h\x01\x85R" * 100
    + b"t.",
    "text of more than there is": b"\x8d" + (1 << 34).to_bytes(8, "little") + b"x.",
}


@pytest.mark.parametrize("what", BOMBS)
def test_keys_cost_no_more_than_they_are_long(what: str) -> None:
    with pytest.raises((CodecForbidden, DecodeError)):
        trust.peer_loads()(b"\x80\x05" + BOMBS[what])


SHARED = ("a", (1, "b"), (1, (2, ("c",) * 40)))
PLAIN: list[Any] = [
    [{"x": number, "y": str(number), "z": [SHARED]} for number in range(400)],
    {(number, (number, ("n", 2.5))): {"k": SHARED} for number in range(400)},
    {frozenset({number, "é" * number}): "é" * 300 * number for number in range(100)},
    ("m", ([{"a": 1 << number} for number in range(200)], b"x" * 70_000, bytearray(300)), {"u": {(1, 2, 3, 4, 5), "u" * 256}}),
]


@pytest.mark.parametrize("value", PLAIN, ids=["rows", "tuples", "frozensets", "a call"])
def test_containers_travel(value: Any) -> None:
    body = pickle.dumps(value, 5)
    assert trust.peer_loads()(body) == value
    assert trust.peer_loads()(memoryview(body)) == value


@given(DATA)
def test_the_two_ways_agree(value: Any) -> None:
    body = pickle.dumps(value, 5)
    assert _Judged(body, str).load() == value
    if harmless(body):
        assert pickle.loads(body) == value


@pytest.mark.parametrize(
    "value", [("method", (1, "two", 2.5), {}), ("method", (), {"a": [1, 2], "b": {"c": (1, 2)}}), list(range(5000))], ids=repr
)
def test_what_is_called_most_goes_the_quick_way(value: Any) -> None:
    assert harmless(pickle.dumps(value, 5))


@pytest.mark.parametrize("what", NESTED)
def test_a_directory_survives_what_is_nested(what: str) -> None:
    with pytest.raises((CodecForbidden, DecodeError)):
        loads_flat_call(NESTED[what])


def test_a_directory_takes_flat_calls() -> None:
    call = ("remove", ("a", b"life", 3, -70_000, 1 << 40, 2.5, None, True), {"x": "y", "z": "é" * 300, "f": False})
    assert loads_flat_call(pickle.dumps(call, 5)) == call
