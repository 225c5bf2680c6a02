"""Addresses: what they accept, equal and pickle as."""

from __future__ import annotations

import pickle

import pytest
import zmq

from ganglion.imperative.addresses import (
    AgentAddress,
    AgentAddressKind,
    AgentChannel,
    SocketAddress,
    address_to_host_port,
    guess_kind,
)


@pytest.mark.parametrize(
    ("given", "found"),
    [
        (None, (None, None)),
        ("127.0.0.1", ("127.0.0.1", None)),
        ("127.0.0.1:80", ("127.0.0.1", 80)),
        ("worker.example:80", ("worker.example", 80)),
        ("[::1]:80", ("::1", 80)),
        (SocketAddress("127.0.0.1", 80), ("127.0.0.1", 80)),
        (AgentAddress("tcp", "127.0.0.1:80", "PUB", "server", "json"), ("127.0.0.1", 80)),
    ],
)
def test_host_and_port(given: object, found: tuple[str | None, int | None]) -> None:
    assert address_to_host_port(given) == found


@pytest.mark.parametrize("host", ["", "1.2.3", "a b", "-x", "300.1.1.1"])
def test_a_bad_host(host: str) -> None:
    with pytest.raises(ValueError, match="does not appear"):
        SocketAddress(host, 1)


def test_twins_are_each_others() -> None:
    address = AgentAddress("ipc", "name", "PUSH", "server", "pickle")
    twin = address.twin()
    assert (twin.kind, twin.role) == ("PULL", "client")
    assert twin.twin() == address
    assert len({address, twin.twin(), twin}) == 2


def test_an_address_travels() -> None:
    address = AgentAddress("tcp", "127.0.0.1:80", "PUB", "server", "Raw")
    copy = pickle.loads(pickle.dumps(address))
    assert copy == address
    assert copy.serializer.requires_separator is False


def test_a_channel_travels_with_its_identity() -> None:
    pull = AgentAddress("ipc", "in", "PULL_SYNC_PUB", "server", "pickle")
    pub = AgentAddress("ipc", "out", "PUB", "server", "pickle")
    channel = pickle.loads(pickle.dumps(AgentChannel("SYNC_PUB", receiver=pull, sender=pub)))
    assert channel.receiver.channel is channel
    assert channel.twin().twin_uuid == channel.uuid


@pytest.mark.parametrize("kind", ["PUSH", "ASYNC_REP"])
def test_kinds_are_words(kind: str) -> None:
    assert guess_kind(kind) == kind


def test_no_other_words() -> None:
    with pytest.raises(ValueError, match="PUSH"):
        guess_kind("PULLEY")


def test_kinds_know_zeromqs_numbers() -> None:
    for kind in ("PAIR", "PUB", "SUB", "REQ", "REP", "PULL", "PUSH", "DEALER", "ROUTER"):
        assert AgentAddressKind(kind).zmq() == getattr(zmq, kind)
