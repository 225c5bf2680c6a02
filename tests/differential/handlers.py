"""Handlers that many scenarios use. Agents import them by name; they know no library."""

from __future__ import annotations

from typing import Any


def receive(agent: Any, message: Any) -> None:
    """Append the message to `received`."""
    agent.received.append(message)


def receive_topic(agent: Any, message: Any, topic: Any) -> None:
    """Append message and topic to `received`."""
    agent.received.append([message, topic])


def receive_bytes(agent: Any, message: Any) -> None:
    """Append a raw message to `received`, whatever buffer it came in."""
    agent.received.append(bytes(message))


def echo(agent: Any, message: Any) -> Any:
    """Reply with the request."""
    return message


def double(agent: Any, message: Any) -> Any:
    """Reply with the request twice."""
    return message * 2


def early(agent: Any, message: Any) -> Any:
    """Reply first, then note the request."""
    yield f"early {message}"
    agent.received.append(message)


def fail(agent: Any, message: Any) -> Any:
    """Raise."""
    raise ValueError(f"refused {message}")


def boom(agent: Any) -> Any:
    """Raise, as a method."""
    raise ValueError("boom")


def tick(agent: Any) -> None:
    """Count, as a method."""
    agent.ticks += 1
