"""Where sockets are: addresses and channels, which travel in messages and serve as keys. Pure."""

from __future__ import annotations

import ipaddress
import re
from pathlib import Path
from typing import Any, ClassVar, Self
from uuid import uuid4

from ganglion.imperative.serializers import separates, serializer_name

_HOST = re.compile(r"[A-Za-z0-9_]([-A-Za-z0-9_.]{0,252}[A-Za-z0-9_.])?")


def unique_identifier() -> bytes:
    """32 random hexadecimal digits."""
    return uuid4().hex.encode()


class _Word(str):
    """A word of a closed set, usable as text.

    Raises:
        ValueError: any other word.
    """

    __slots__ = ()
    WORDS: ClassVar[tuple[str, ...]] = ()
    WHAT: ClassVar[str] = ""

    def __new__(cls, value: str) -> Self:
        if value not in cls.WORDS:
            raise ValueError(f"Invalid {cls.WHAT} {value!r}; must be one of {', '.join(cls.WORDS)}")
        return super().__new__(cls, value)


class AgentAddressTransport(_Word):
    """tcp, ipc or inproc."""

    __slots__ = ()
    WORDS = ("tcp", "ipc", "inproc")
    WHAT = "address transport"


class AgentAddressRole(_Word):
    """Who binds is the server, whatever it sends."""

    __slots__ = ()
    WORDS = ("server", "client")
    WHAT = "address role"

    def twin(self) -> AgentAddressRole:
        """The other one."""
        return AgentAddressRole("client" if self == "server" else "server")


class AgentAddressKind(_Word):
    """Kind of one socket."""

    __slots__ = ()
    TWIN: ClassVar[dict[str, str]] = {
        "REQ": "REP",
        "REP": "REQ",
        "PUSH": "PULL",
        "PULL": "PUSH",
        "PUB": "SUB",
        "SUB": "PUB",
        "PAIR": "PAIR",
        "DEALER": "ROUTER",
        "ROUTER": "DEALER",
        "PULL_SYNC_PUB": "PUSH_SYNC_SUB",
        "PUSH_SYNC_SUB": "PULL_SYNC_PUB",
    }
    WORDS = tuple(TWIN)
    WHAT = "address kind"
    NUMBERS: ClassVar[dict[str, int]] = {
        "PAIR": 0,
        "PUB": 1,
        "SUB": 2,
        "REQ": 3,
        "REP": 4,
        "DEALER": 5,
        "ROUTER": 6,
        "PULL": 7,
        "PUSH": 8,
        "PULL_SYNC_PUB": 7,
        "PUSH_SYNC_SUB": 8,
    }
    """ZeroMQ's own (zmq.h), so that this module needs no socket library."""
    REQUIRE_HANDLER: ClassVar[tuple[str, ...]] = ("REP", "PULL", "SUB", "ROUTER", "PULL_SYNC_PUB")

    def zmq(self) -> int:
        """ZeroMQ's number of this kind of socket."""
        return self.NUMBERS[self]

    def requires_handler(self) -> bool:
        """Whether what arrives can only go to a handler."""
        return self in self.REQUIRE_HANDLER

    def twin(self) -> AgentAddressKind:
        """Kind of the other end."""
        return AgentAddressKind(self.TWIN[self])


class AgentChannelKind(_Word):
    """Kind of a pair of sockets that make one channel."""

    __slots__ = ()
    TWIN: ClassVar[dict[str, str]] = {"ASYNC_REP": "ASYNC_REQ", "ASYNC_REQ": "ASYNC_REP", "SYNC_PUB": "SYNC_SUB", "SYNC_SUB": "SYNC_PUB"}
    WORDS = tuple(TWIN)
    WHAT = "channel kind"

    def twin(self) -> AgentChannelKind:
        """Kind of the other end."""
        return AgentChannelKind(self.TWIN[self])


class AgentAddressSerializer(str):
    """Name of a codec as an address holds it.

    Raises:
        ValueError: no such codec.
    """

    __slots__ = ("requires_separator",)
    requires_separator: bool

    def __new__(cls, value: str) -> Self:
        made = super().__new__(cls, serializer_name(value))
        made.requires_separator = separates(made)
        return made

    def __getnewargs__(self) -> tuple[str]:
        return (str(self),)


def guess_kind(kind: str) -> AgentAddressKind | AgentChannelKind:
    """The kind with this name.

    Raises:
        ValueError: there is none.
    """
    if kind in AgentAddressKind.WORDS:
        return AgentAddressKind(kind)
    if kind in AgentChannelKind.WORDS:
        return AgentChannelKind(kind)
    raise ValueError(f"Invalid channel kind {kind!r}; must be one of {', '.join((*AgentAddressKind.WORDS, *AgentChannelKind.WORDS))}")


class SocketAddress:
    """Host and port.

    Args:
        host: IP address or host name.
        port: TCP port.
    Raises:
        ValueError: not a host.
        AssertionError: `port` is not an int.
    """

    def __init__(self, host: Any, port: int) -> None:
        assert isinstance(port, int), f"SocketAddress port: found {port!r}; must be an int"
        self.host = _host(host)
        self.port = port

    def __repr__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    def __hash__(self) -> int:
        return hash((self.host, self.port))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, SocketAddress):
            return False
        return (self.host, self.port) == (other.host, other.port)


def _host(value: Any) -> str:
    text = str(value)
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        # Digits and dots alone are an address that somebody mistyped, not a name.
        if _HOST.fullmatch(text) is None or not re.search("[A-Za-z]", text):
            raise ValueError(f"{text!r} does not appear to be an IPv4 or IPv6 address or a host name") from None
        return text


def address_to_host_port(addr: Any) -> tuple[str | None, int | None]:
    """(host, port) of what a program may give as an address: None, text `host`, `host:port` or `[v6]:port`, or an address object.

    Raises:
        ValueError: something else.
    """
    if addr is None:
        return None, None
    if isinstance(addr, str):
        host, _, port = addr.rpartition(":") if ":" in addr else (addr, "", "")
        return host.strip("[]"), int(port) if port else None
    inner = getattr(addr, "address", addr)
    if hasattr(inner, "host") and hasattr(inner, "port"):
        return inner.host, inner.port
    raise ValueError(f"Unsupported address type {type(addr).__name__!r}; pass 'host:port' or a SocketAddress")


class AgentAddress:
    """One socket of an agent.

    Args:
        transport: tcp, ipc or inproc.
        address: `host:port` or SocketAddress, a path, or a name.
        kind: REQ, REP, PUSH, PULL, PUB, SUB, PAIR, DEALER or ROUTER.
        role: server for the end that binds.
        serializer: name of the codec of its messages.
    Raises:
        ValueError: one of them is none of these.
    """

    channel: AgentChannel | None

    def __init__(self, transport: str, address: Any, kind: str, role: str, serializer: str) -> None:
        if transport == "tcp":
            host, port = address_to_host_port(address)
            if port is None:
                raise ValueError(f"address: found {address!r}; a tcp address has a port")
            address = SocketAddress(host, port)
        self.transport = AgentAddressTransport(transport)
        self.address: SocketAddress | Path | str = address
        self.kind = AgentAddressKind(kind)
        self.role = AgentAddressRole(role)
        self.serializer = AgentAddressSerializer(serializer)
        self.channel = None

    @property
    def endpoint(self) -> str:
        """As ZeroMQ wants it."""
        return f"{self.transport}://{self.address}"

    def __repr__(self) -> str:
        return f"AgentAddress({self.transport}, {self.address}, {self.kind}, {self.role}, {self.serializer})"

    def _key(self) -> tuple[str, str, str, str, str]:
        return self.transport, str(self.address), self.kind, self.role, self.serializer

    def __hash__(self) -> int:
        return hash(self._key())

    def __eq__(self, other: object) -> bool:
        return isinstance(other, AgentAddress) and self._key() == other._key()

    def twin(self) -> AgentAddress:
        """The other end: same place, opposite kind and role."""
        return AgentAddress(self.transport, self.address, self.kind.twin(), self.role.twin(), self.serializer)


class AgentChannel:
    """A pair of addresses that make one channel, seen from one end.

    Args:
        kind: ASYNC_REP, SYNC_PUB or a twin of these.
        receiver: where this end receives; None when it has no such socket.
        sender: where it sends.
        twin_uuid: `uuid` of the other end's channel.
    """

    def __init__(
        self,
        kind: str,
        receiver: AgentAddress | None,
        sender: AgentAddress | None,
        twin_uuid: bytes | None = None,
        uuid: bytes | None = None,
    ) -> None:
        self.kind = AgentChannelKind(kind)
        self.receiver = receiver
        self.sender = sender
        some = receiver or sender
        assert some is not None, "AgentChannel: found neither receiver nor sender"
        self.transport = some.transport
        self.serializer = some.serializer
        self.uuid = uuid or unique_identifier()
        self.twin_uuid = twin_uuid
        for address in (receiver, sender):
            if address is not None:
                address.channel = self

    def __repr__(self) -> str:
        return f"AgentChannel(kind={self.kind}, receiver={self.receiver}, sender={self.sender})"

    def __hash__(self) -> int:
        return hash((self.kind, self.receiver, self.sender))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, AgentChannel):
            return False
        return (self.kind, self.receiver, self.sender) == (other.kind, other.receiver, other.sender)

    def twin(self) -> AgentChannel:
        """The other end."""
        return AgentChannel(
            self.kind.twin(),
            receiver=self.sender.twin() if self.sender is not None else None,
            sender=self.receiver.twin() if self.receiver is not None else None,
            twin_uuid=self.uuid,
        )
