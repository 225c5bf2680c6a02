"""What peers may send where remote code is forbidden."""

from __future__ import annotations

import contextlib
import datetime as dt
import decimal
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

from ganglion import AgentAddress, AgentChannel, CodecForbidden, DecodeError, EncodeError, NamingError, SocketAddress
from ganglion.imperative import trust
from ganglion.imperative.frames import Record
from ganglion.imperative.trust import loads_data

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
    NamingError,
    KeyError,
]


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


def function() -> None:
    """Of a module that the receiver can import."""


@pytest.mark.parametrize("value", [Bomb(), [Bomb()], os.mkdir, function, eval, pathlib.Path.unlink, lambda: 1, Bomb], ids=repr)
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
    for load in (trust.peer_loads(), loads_data):
        with contextlib.suppress(CodecForbidden, DecodeError):
            load(body)


@pytest.mark.parametrize("value", [KeyError, Record(name="a", life=b"l", control="c", safe="s"), {1}], ids=repr)
def test_a_directory_takes_no_class_at_all(value: Any) -> None:
    with pytest.raises(CodecForbidden):
        loads_data(pickle.dumps([value], 2))


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
