"""Ganglion: ZeroMQ agents on Kubernetes and on a laptop, from the same manifests."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ganglion.codecs.errors import CodecError, CodecForbidden, DecodeError, EncodeError, UnknownCodec
    from ganglion.errors import GanglionError
    from ganglion.imperative.addresses import AgentAddress, AgentChannel, SocketAddress
    from ganglion.imperative.agents import run_agent, run_nameserver
    from ganglion.imperative.errors import (
        AdHocForbidden,
        AgentNameTaken,
        AgentStartError,
        CallTimeout,
        CommunicationError,
        NamingError,
        SignatureError,
        TemplateRefused,
    )
    from ganglion.imperative.forwarder import Forwarder, run_forwarder
    from ganglion.imperative.futures import Future
    from ganglion.imperative.logger import Logger, run_logger
    from ganglion.imperative.nameserver import NameServer
    from ganglion.imperative.nsproxy import NSProxy
    from ganglion.imperative.proxy import Proxy
    from ganglion.imperative.settings import config
    from ganglion.runtime.errors import (
        ChannelClosed,
        MessageTooLarge,
        ReceiverAbsent,
        RemoteError,
        ReplierLost,
        RequestTimeout,
        SendTimeout,
        UnknownReceiver,
    )
    from ganglion.sdk.agent import Agent
    from ganglion.sdk.errors import (
        AgentNotRunning,
        AgentStopping,
        AliasError,
        AttributeTaken,
        HandlerError,
        NotSupported,
        RecvTimeout,
        StreamEnded,
    )
    from ganglion.wire.departures import Departure

__all__ = [
    "AdHocForbidden",
    "Agent",
    "AgentAddress",
    "AgentChannel",
    "AgentNameTaken",
    "AgentNotRunning",
    "AgentStartError",
    "AgentStopping",
    "AliasError",
    "AttributeTaken",
    "CallTimeout",
    "ChannelClosed",
    "CodecError",
    "CodecForbidden",
    "CommunicationError",
    "DecodeError",
    "Departure",
    "EncodeError",
    "Forwarder",
    "Future",
    "GanglionError",
    "HandlerError",
    "Logger",
    "MessageTooLarge",
    "NSProxy",
    "NameServer",
    "NamingError",
    "NotSupported",
    "Proxy",
    "ReceiverAbsent",
    "RecvTimeout",
    "RemoteError",
    "ReplierLost",
    "RequestTimeout",
    "SendTimeout",
    "SignatureError",
    "SocketAddress",
    "StreamEnded",
    "TemplateRefused",
    "UnknownCodec",
    "UnknownReceiver",
    "config",
    "run_agent",
    "run_forwarder",
    "run_logger",
    "run_nameserver",
]

_HOMES = {
    "ganglion.codecs.errors": ("CodecError", "CodecForbidden", "DecodeError", "EncodeError", "UnknownCodec"),
    "ganglion.errors": ("GanglionError",),
    "ganglion.imperative.addresses": ("AgentAddress", "AgentChannel", "SocketAddress"),
    "ganglion.imperative.agents": ("run_agent", "run_nameserver"),
    "ganglion.imperative.errors": (
        "AdHocForbidden",
        "AgentNameTaken",
        "AgentStartError",
        "CallTimeout",
        "CommunicationError",
        "NamingError",
        "SignatureError",
        "TemplateRefused",
    ),
    "ganglion.imperative.forwarder": ("Forwarder", "run_forwarder"),
    "ganglion.imperative.futures": ("Future",),
    "ganglion.imperative.logger": ("Logger", "run_logger"),
    "ganglion.imperative.nameserver": ("NameServer",),
    "ganglion.imperative.nsproxy": ("NSProxy",),
    "ganglion.imperative.proxy": ("Proxy",),
    "ganglion.imperative.settings": ("config",),
    "ganglion.runtime.errors": (
        "ChannelClosed",
        "MessageTooLarge",
        "ReceiverAbsent",
        "RemoteError",
        "ReplierLost",
        "RequestTimeout",
        "SendTimeout",
        "UnknownReceiver",
    ),
    "ganglion.sdk.agent": ("Agent",),
    "ganglion.wire.departures": ("Departure",),
    "ganglion.sdk.errors": (
        "AgentNotRunning",
        "AgentStopping",
        "AliasError",
        "AttributeTaken",
        "HandlerError",
        "NotSupported",
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
