"""The sockets of one agent: made, found by alias or address, closed. Main thread only."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import zmq

from ganglion.codecs import Codec
from ganglion.imperative.addresses import (
    AgentAddress,
    AgentAddressKind,
    AgentChannel,
    SocketAddress,
    address_to_host_port,
    unique_identifier,
)
from ganglion.imperative.hosts import advertised, bind_tcp, numeric_host
from ganglion.imperative.routes import route
from ganglion.imperative.secret import ZAP_DOMAIN, domain_keys
from ganglion.imperative.settings import config, linger_ms
from ganglion.imperative.trust import permitted_codec
from ganglion.runtime.sockets import Context, Socket, ipc_endpoint, make_ipc_socket, make_socket
from ganglion.sdk.handlers import Resolved

NOBLOCK, MORE = int(zmq.NOBLOCK), int(zmq.NOBLOCK | zmq.SNDMORE)
"""Plain integers: combining the enum's members costs as much as the send."""
_NAME = re.compile(r"[-A-Za-z0-9_.]{1,64}")
_EXTENDED = {"PUB": int(zmq.XPUB), "SUB": int(zmq.XSUB)}

Place = AgentAddress | AgentChannel
Key = Any
"""An alias (any hashable value), an address or a channel."""


@dataclass(eq=False, slots=True)
class Entry:
    """One socket.

    Attributes:
        place: what it is known as.
        kind: as of AgentAddress.
        handler: what gets each message; None: they wait for `recv`.
        topics: SUB: what gets which topics.
        partner: the channel's other socket, closed together with this one.
        waiting: REQ: a request has no reply yet.
        open: the loop runs, and handlers get what arrives.
        busy: REP: a coroutine makes the reply.
        monitor: REQ that connects: tells that the replier is gone.
        large: the last messages were.
        routes: SUB: `topics`, until they change; None: they have.
        careful: SUB: with these topics and this codec a frame may look like a topic or a body that is neither.
    """

    socket: Socket
    place: Place
    kind: str
    codec: Codec
    raw: bool
    file: Path | None = None
    handler: Resolved | None = None
    topics: dict[bytes, Resolved] = field(default_factory=dict)
    partner: Entry | None = None
    drain: Any = None
    waiting: bool = False
    busy: bool = False
    closed: bool = False
    open: bool = False
    monitor: Socket | None = None
    large: bool = False
    routes: tuple[tuple[bytes, Resolved], ...] | None = None
    careful: bool = True

    def set_routes(self) -> tuple[tuple[bytes, Resolved], ...]:
        """`topics` as they are now, for the loop over them: a handler may change them."""
        self.routes = tuple(self.topics.items())
        self.careful = self.raw or any(len(prefix) < 2 for prefix in self.topics)
        return self.routes


def plain_send(socket: Socket) -> Callable[..., Any]:
    """`send` of a socket without pyzmq's outer method, which looks for options of draft sockets and costs a third of a small send.

    Raises:
        TypeError: it is none of pyzmq's sockets. The method's own descriptor does not look, and crashes the process.
    """
    bound: Callable[..., Any] = super(zmq.Socket, socket).send
    return bound


def need_handler(handler: Any, *, required: bool) -> None:
    """Raise ValueError when a handler is missing."""
    if required and handler is None:
        raise ValueError("This socket requires a handler!")


class Sockets:
    """See the module.

    Args:
        context: of the data plane; its ZAP handler runs.
        host: bound by tcp sockets that name none.
    """

    def __init__(self, context: Context, host: str) -> None:
        self._context = context
        self._host = host
        self._entries: dict[Key, Entry] = {}

    def __contains__(self, key: Key) -> bool:
        return key in self._entries

    def __len__(self) -> int:
        return len(set(self._entries.values()))

    def entries(self) -> Iterator[Entry]:
        """Each socket once."""
        return iter(list(dict.fromkeys(self._entries.values())))

    def keys(self, entry: Entry) -> list[Key]:
        """Aliases and addresses of a socket."""
        return [key for key, value in self._entries.items() if value is entry]

    def get(self, key: Key) -> Entry:
        """The socket with this alias or address.

        Raises:
            KeyError: there is none, or it was closed.
        """
        entry = self._entries.get(key)
        if entry is None:
            known = ", ".join(str(alias) for alias in self._entries if isinstance(alias, str)) or "none"
            raise KeyError(f"alias {key!r}: no such socket; aliases are: {known}")
        return entry

    def register(self, entry: Entry, *keys: Key) -> None:
        """Make a socket known under these. An alias that is in use is taken over; the other socket keeps its address."""
        for key in keys:
            if key is not None and key != "":
                self._entries[key] = entry

    # -- making

    def bind(self, kind: str, transport: str, addr: Any, serializer: str, *, extended: bool = False) -> Entry:
        """A bound socket, not yet registered.

        Args:
            kind, transport, addr, serializer: as of `Agent.bind`.
            extended: XPUB for PUB, XSUB for SUB; to others they are PUB and SUB.
        Raises:
            ValueError: the address does not fit the transport, or no such codec or transport.
            zmq.ZMQError: it cannot be bound.
        """
        codec = permitted_codec(serializer)
        socket = self._make(kind, transport, server=True, extended=extended)
        try:
            place, file = self._bind_socket(socket, transport, addr)
        except BaseException:
            socket.close(0)
            raise
        address = AgentAddress(transport, place, kind, "server", serializer)
        return Entry(socket, address, address.kind, codec, not address.serializer.requires_separator, file)

    def connect(self, address: AgentAddress, *, extended: bool = False) -> Entry:
        """A socket that is connected; `address` is the client's end. Otherwise as `bind`."""
        socket = self._make(address.kind, address.transport, server=False, extended=extended)
        try:
            entry = Entry(socket, address, address.kind, permitted_codec(address.serializer), not address.serializer.requires_separator)
            if address.kind == "REQ":
                entry.monitor = socket.get_monitor_socket(zmq.EVENT_DISCONNECTED)
                entry.monitor.linger = 0
            socket.connect(route(address.endpoint))
        except BaseException:
            socket.close(0)
            raise
        return entry

    def _make(self, kind: str, transport: str, *, server: bool, extended: bool) -> Socket:
        number = _EXTENDED[kind] if extended else AgentAddressKind(kind).zmq()
        limit = int(config["MAX_MESSAGE_BYTES"])
        if transport == "tcp":
            keys = domain_keys()
            if server:
                socket = make_socket(self._context, number, curve=keys, zap_domain=ZAP_DOMAIN, max_message_bytes=limit)
            else:
                socket = make_socket(self._context, number, curve=keys, server_key=keys.public, max_message_bytes=limit)
        else:
            socket = make_ipc_socket(self._context, number, max_message_bytes=limit)
        if number == zmq.REQ:
            # After a reply that never came the next request must not be refused, nor get the late reply.
            socket.set(zmq.REQ_RELAXED, 1)
            socket.set(zmq.REQ_CORRELATE, 1)
        return socket

    def _bind_socket(self, socket: Socket, transport: str, addr: Any) -> tuple[Any, Path | None]:
        if transport == "tcp":
            return self._bind_tcp(socket, addr), None
        name = str(addr) if addr else unique_identifier().decode()
        if _NAME.fullmatch(name) is None:
            raise ValueError(f"addr: found {name!r}; an {transport} address is a name of letters, digits, '-', '_' and '.'")
        if transport == "inproc":
            socket.bind(f"inproc://{name}")
            return name, None
        file = Path(config["IPC_DIR"]) / name
        socket.bind(ipc_endpoint(file))
        return file, file

    def _bind_tcp(self, socket: Socket, addr: Any) -> SocketAddress:
        host, port = address_to_host_port(addr)
        host = host or self._host
        return SocketAddress(advertised(host), bind_tcp(socket, numeric_host(host), port))

    # -- closing

    def close(self, entry: Entry, linger: float | None) -> None:
        """Close a socket and forget its keys; peers are not told."""
        entry.closed, entry.open = True, False
        for key in self.keys(entry):
            del self._entries[key]
        if entry.monitor is not None:
            entry.socket.disable_monitor()
            entry.monitor.close(0)
        entry.socket.close(linger_ms(linger))
        if entry.file is not None:
            with contextlib.suppress(FileNotFoundError):
                entry.file.unlink()
