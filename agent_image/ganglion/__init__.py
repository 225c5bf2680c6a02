"""Ganglion: ZeroMQ agents on Kubernetes and on a laptop, from the same manifests."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ganglion.codecs.errors import CodecError, CodecForbidden, DecodeError, EncodeError
    from ganglion.errors import GanglionError
    from ganglion.runtime.errors import ChannelClosed, MessageTooLarge, RemoteError, ReplierLost, RequestTimeout, SendTimeout
    from ganglion.sdk.agent import Agent
    from ganglion.sdk.errors import AgentNotRunning, AgentStopping, AliasError, AttributeTaken, HandlerError, RecvTimeout, StreamEnded

__all__ = [
    "Agent",
    "AgentNotRunning",
    "AgentStopping",
    "AliasError",
    "AttributeTaken",
    "ChannelClosed",
    "CodecError",
    "CodecForbidden",
    "DecodeError",
    "EncodeError",
    "GanglionError",
    "HandlerError",
    "MessageTooLarge",
    "RecvTimeout",
    "RemoteError",
    "ReplierLost",
    "RequestTimeout",
    "SendTimeout",
    "StreamEnded",
]

_HOMES = {
    "ganglion.codecs.errors": ("CodecError", "CodecForbidden", "DecodeError", "EncodeError"),
    "ganglion.errors": ("GanglionError",),
    "ganglion.runtime.errors": ("ChannelClosed", "MessageTooLarge", "RemoteError", "ReplierLost", "RequestTimeout", "SendTimeout"),
    "ganglion.sdk.agent": ("Agent",),
    "ganglion.sdk.errors": (
        "AgentNotRunning",
        "AgentStopping",
        "AliasError",
        "AttributeTaken",
        "HandlerError",
        "RecvTimeout",
        "StreamEnded",
    ),
}
_HOME = {name: module for module, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    # Found when asked for: the operator imports subpackages of this package and must not pull in the SDK.
    module = _HOME.get(name)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    value = getattr(importlib.import_module(module), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
