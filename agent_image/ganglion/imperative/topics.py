"""Subscriptions of a socket: which topics go to which handlers."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import zmq

from ganglion.imperative.addresses import AgentChannel
from ganglion.imperative.sockets import Entry, Key


def subscriber_of(entry: Entry, alias: Key) -> tuple[Entry, bytes]:
    """The socket that has the topics of an alias, and what stands before each of them.

    Raises:
        NotImplementedError: it has none.
    """
    if entry.kind == "SUB":
        return entry, b""
    if isinstance(entry.place, AgentChannel) and entry.place.kind == "SYNC_SUB" and entry.partner is not None:
        return entry.partner, entry.place.twin_uuid or b""
    raise NotImplementedError(f"alias {alias!r}: found kind {entry.kind}; only SUB and SYNC_PUB channels have topics")


def add_topics(entry: Entry, topics: dict[bytes, Any], prefix: bytes = b"") -> None:
    """Subscribe to topics, or give those that are subscribed to another handler."""
    for topic, handler in topics.items():
        if prefix + topic not in entry.topics:
            entry.socket.set(zmq.SUBSCRIBE, prefix + topic)
        entry.topics[prefix + topic] = handler
        entry.routes = None


def remove_topics(entry: Entry, topics: Iterable[bytes], prefix: bytes = b"") -> None:
    """Undo `add_topics`.

    Raises:
        KeyError: a topic that is not subscribed to.
    """
    for topic in topics:
        if prefix + topic not in entry.topics:
            raise KeyError(topic)
        entry.socket.set(zmq.UNSUBSCRIBE, prefix + topic)
        del entry.topics[prefix + topic]
        entry.routes = None
