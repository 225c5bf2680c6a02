"""The SDK: write an agent as a class or a function, and let the runtime move its messages."""

from ganglion.sdk.agent import Agent
from ganglion.sdk.errors import AgentNotRunning, AgentStopping, AliasError, AttributeTaken, HandlerError, RecvTimeout, StreamEnded

__all__ = ["Agent", "AgentNotRunning", "AgentStopping", "AliasError", "AttributeTaken", "HandlerError", "RecvTimeout", "StreamEnded"]
