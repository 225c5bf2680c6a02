"""Loggers: agents that keep what others log."""

from __future__ import annotations

from typing import Any

from ganglion.imperative.agents import Backend, run_agent
from ganglion.imperative.proxy import Proxy
from ganglion.sdk.agent import Agent


class Logger(Agent):
    """Keeps log messages: `log_history`, and by level `log_history_info`, `_warning`, `_error` and `_debug`."""

    def on_init(self) -> None:
        """Bind the socket `sub`, to which `set_logger` connects others."""
        self.log_history: list[str] = []
        self.log_history_info: list[str] = []
        self.log_history_warning: list[str] = []
        self.log_history_error: list[str] = []
        self.log_history_debug: list[str] = []
        self.bind("SUB", "sub", dict.fromkeys(("INFO", "WARNING", "ERROR", "DEBUG"), self.log_handler))

    def log_handler(self, message: str, topic: bytes) -> None:
        """Keep one message."""
        self.get_attr(f"log_history_{topic.decode().lower()}").append(message)
        self.log_history.append(message)


def run_logger(name: str, nsaddr: Any = None, addr: Any = None, base: type[Logger] = Logger, *, backend: Backend = "process") -> Proxy:
    """Start a logger.

    Args:
        name, nsaddr, addr, backend: as of `run_agent`.
        base: a class derived from Logger.
    Returns:
        A proxy to it; give it to `set_logger` of the agents whose messages it is to keep.
    Raises:
        AgentStartError, TimeoutError: as `run_agent`.
    """
    return run_agent(name, nsaddr, addr, base, backend=backend)
