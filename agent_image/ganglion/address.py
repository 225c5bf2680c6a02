"""Addresses of the sockets that programs make, where osBrain has them; they are made in `ganglion.imperative.addresses`."""

from ganglion.imperative.addresses import (
    AgentAddress,
    AgentAddressKind,
    AgentAddressRole,
    AgentAddressSerializer,
    AgentAddressTransport,
    AgentChannel,
    AgentChannelKind,
    SocketAddress,
    address_to_host_port,
    guess_kind,
)

__all__ = [
    "AgentAddress",
    "AgentAddressKind",
    "AgentAddressRole",
    "AgentAddressSerializer",
    "AgentAddressTransport",
    "AgentChannel",
    "AgentChannelKind",
    "SocketAddress",
    "address_to_host_port",
    "guess_kind",
]
