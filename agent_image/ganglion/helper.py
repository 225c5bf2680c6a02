"""What people test agents with: wait until an agent is in some state. Each wait has a deadline, and says whether the state was reached."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from typing import Any
from uuid import uuid4

INTERVAL_SECONDS = 0.01
SYNC_SECONDS = 10.0


def _wait(condition: Callable[[], Any], timeout: float) -> Any:
    deadline = time.monotonic() + timeout
    while True:
        value = condition()
        if value or time.monotonic() >= deadline:
            return value
        time.sleep(INTERVAL_SECONDS)


def regex_count_in_list(regex: str, strings: Sequence[str]) -> int:
    """How many of the texts contain the expression; a dot matches newlines."""
    return sum(re.search(regex, text, re.DOTALL) is not None for text in strings)


def logger_received(
    logger: Any, message: str, log_name: str = "log_history_info", position: int | None = None, timeout: float = 1.0
) -> int:
    """How many messages of a logger match, once one does; 0 when none did in time.

    Args:
        logger: proxy.
        message: regular expression.
        log_name: attribute of the logger.
        position: index of the message to look at; None: all.
        timeout: seconds.
    """

    def count() -> int:
        history = logger.get_attr(log_name)
        return regex_count_in_list(message, history if position is None else history[position : position + 1 or None])

    return int(_wait(count, timeout))


def sync_agent_logger(agent: Any, logger: Any) -> None:
    """Return when what the agent logs arrives at the logger.

    Raises:
        TimeoutError: it did not within 10 seconds.
    """

    def arrived() -> bool:
        mark = str(uuid4())
        agent.log_info(mark)
        return bool(_wait(lambda: mark in "".join(logger.get_attr("log_history_info")[-5:]), 0.1))

    if not _wait(arrived, SYNC_SECONDS):
        raise TimeoutError(f"nothing that {agent!r} logs arrives at {logger!r}")


def agent_dies(agent: str, nsproxy: Any, timeout: float = 1.0) -> bool:
    """Whether an agent left the name server within `timeout` seconds."""
    assert isinstance(agent, str), f"agent: found a {type(agent).__name__}; must be its name"
    return bool(_wait(lambda: agent not in nsproxy.agents(), timeout))


def attribute_match_all(
    attribute: Any, length: int | None = None, data: Any = None, value: Any = None, endswith: Sequence[Any] | None = None
) -> bool:
    """Whether an attribute has at least this length, contains this item, equals this value and ends with this, as far as given."""
    assert any(wanted is not None for wanted in (length, data, value, endswith)), "no condition: it would always hold"
    return (
        (length is None or len(attribute) >= length)
        and (data is None or data in attribute)
        and (value is None or attribute == value)
        and (endswith is None or attribute[-len(endswith) :] == endswith)
    )


def wait_agent_attr(agent: Any, name: str = "received", timeout: float = 3.0, **wanted: Any) -> bool:
    """Whether an attribute came to match within `timeout` seconds; `wanted` as of `attribute_match_all`."""
    return bool(_wait(lambda: attribute_match_all(agent.get_attr(name), **wanted), timeout))


def wait_condition(condition: Callable[..., Any], *args: Any, negate: bool = False, timeout: float = 3.0, **kwargs: Any) -> bool:
    """Whether `condition(*args, **kwargs)` became true (with `negate`: false) within `timeout` seconds."""
    return bool(_wait(lambda: bool(condition(*args, **kwargs)) != negate, timeout))


def wait_agent_condition(agent: Any, condition: Callable[..., Any], *args: Any, timeout: float = 3.0, **kwargs: Any) -> bool:
    """Whether `condition(agent, *args, **kwargs)`, called in the agent, became true within `timeout` seconds."""
    return wait_condition(agent.execute_as_method, condition, *args, timeout=timeout, **kwargs)


def last_received_endswith(agent: Any, tail: Sequence[Any]) -> bool:
    """In an agent: whether the last of `received` ends with `tail`."""
    received = getattr(agent, "received", [])
    return bool(received) and bool(received[-1][-len(tail) :] == tail)
