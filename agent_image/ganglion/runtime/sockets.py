"""The socket option profile, in one place: every ZeroMQ context and socket of the project is made here."""

from __future__ import annotations

import os
import resource
from dataclasses import dataclass, field
from pathlib import Path

import zmq

Context = zmq.Context[zmq.Socket[bytes]]
Socket = zmq.Socket[bytes]

MAX_MESSAGE_BYTES = 8 * 1024 * 1024
"""Largest frame taken from a peer. Without a limit, five connections that never authenticate can pin 1 GB."""
MAX_IPC_PATH_BYTES = 100
"""sun_path holds 108 bytes, libzmq's handshake of long paths fails late and unclearly."""
MAX_SOCKETS = 65535
"""libzmq's own default is 1023; each peer takes a socket and a monitor. A context writes 12 bytes for each at its start."""
FEW_SOCKETS = 64
"""Of a control thread: its leg and the leg's monitor."""

_HEARTBEAT_MS = 1000
_HEARTBEAT_TIMEOUT_MS = 3000
"""A vanished node is noticed in about 4 s; without heartbeats it is not noticed in a minute."""
_TCP_MAXRT_MS = 5000
_CONNECT_TIMEOUT_MS = 3000
_HANDSHAKE_MS = 3000
"""libzmq's 30 s would keep a peer waiting that was answered "try again" (ZAP 300)."""
_RECONNECT_MS = 100
_RECONNECT_MAX_MS = 5000
_BACKLOG = 1024
_IPC_RECONNECT_MS = 20
_IPC_RECONNECT_MAX_MS = 500


@dataclass(frozen=True, slots=True)
class CurveKeys:
    """A CURVE key pair, both halves in Z85 (40 characters). The secret half never shows in a repr."""

    public: str
    secret: str = field(repr=False)

    def __post_init__(self) -> None:
        for name, value in (("public", self.public), ("secret", self.secret)):
            if len(value) != 40 or not value.isascii():
                raise ValueError(f"CURVE {name} key: found {len(value)} characters, must be 40 of Z85")

    @classmethod
    def generate(cls) -> CurveKeys:
        """A fresh key pair from the operating system's random source."""
        public, secret = zmq.curve_keypair()
        return cls(public.decode(), secret.decode())

    @classmethod
    def from_secret(cls, secret: str) -> CurveKeys:
        """The pair that belongs to a secret half.

        Raises:
            ValueError: `secret` is not 40 characters of Z85.
        """
        try:
            return cls(zmq.curve_public(secret.encode("ascii")).decode(), secret)
        except (UnicodeEncodeError, zmq.ZMQError) as error:
            raise ValueError("CURVE secret key: not 40 characters of Z85") from error


def make_context(*, io_threads: int = 1, max_sockets: int | None = None) -> Context:
    """A context whose sockets do not hold up its end.

    Args:
        io_threads: threads for network I/O. DNS is resolved in them, synchronously: names belong in a context without data sockets.
        max_sockets: bound of its sockets, with two for each monitor; None: as many as this process may have descriptors, of which each
            takes at least one.
    """
    context = zmq.Context[zmq.Socket[bytes]](io_threads)
    if max_sockets is None:
        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        max_sockets = min(soft, MAX_SOCKETS) if soft != resource.RLIM_INFINITY else MAX_SOCKETS
    context.set(zmq.MAX_SOCKETS, max_sockets)
    context.linger = 0
    return context


def make_socket(
    context: Context,
    type: int,  # noqa: A002 - zmq's own name
    *,
    curve: CurveKeys | None = None,
    server_key: str | None = None,
    zap_domain: str | None = None,
    max_message_bytes: int = MAX_MESSAGE_BYTES,
    high_water_mark: int | None = None,
) -> Socket:
    """A network socket, not yet bound or connected.

    Args:
        context: from `make_context`.
        type: `zmq.ROUTER`, ...
        curve: our key pair; None with `security: None`.
        server_key: Z85 public key of the peer that we connect to. With `curve` and without `server_key` the socket is a CURVE server.
        zap_domain: domain that our ZAP handler decides by; required for a CURVE server, which would otherwise admit anybody.
        max_message_bytes: a peer that sends a longer frame is cut off before the frame is read.
        high_water_mark: messages queued for and from each peer; None: 1000 (libzmq), 0: no bound (credit bounds it).
    Raises:
        ValueError: a CURVE server without `zap_domain`, or `server_key` without `curve`.
    """
    if server_key is not None and curve is None:
        raise ValueError("server_key: found without curve; a CURVE client needs a key pair of its own")
    if curve is not None and server_key is None and not zap_domain:
        raise ValueError("zap_domain: missing; a CURVE server without a ZAP domain admits anybody")
    socket = context.socket(type)
    try:
        _set_common(socket, max_message_bytes, high_water_mark)
        socket.set(zmq.HEARTBEAT_IVL, _HEARTBEAT_MS)
        socket.set(zmq.HEARTBEAT_TIMEOUT, _HEARTBEAT_TIMEOUT_MS)
        socket.set(zmq.HEARTBEAT_TTL, _HEARTBEAT_TIMEOUT_MS)
        socket.set(zmq.TCP_MAXRT, _TCP_MAXRT_MS)
        socket.set(zmq.CONNECT_TIMEOUT, _CONNECT_TIMEOUT_MS)
        socket.set(zmq.RECONNECT_IVL, _RECONNECT_MS)
        socket.set(zmq.RECONNECT_IVL_MAX, _RECONNECT_MAX_MS)
        if curve is not None:
            socket.curve_publickey = curve.public.encode()
            socket.curve_secretkey = curve.secret.encode()
            if server_key is not None:
                socket.curve_serverkey = server_key.encode()
            else:
                socket.curve_server = True
        if zap_domain:
            socket.zap_domain = zap_domain.encode()
            # Without this a handshake passes unasked while no ZAP handler is bound.
            socket.set(zmq.ZAP_ENFORCE_DOMAIN, 1)
    except BaseException:
        socket.close()
        raise
    return socket


def make_ipc_socket(
    context: Context,
    type: int,  # noqa: A002 - zmq's own name
    *,
    max_message_bytes: int = MAX_MESSAGE_BYTES,
    high_water_mark: int | None = None,
) -> Socket:
    """A socket for a leg inside the pod: no CURVE and no heartbeats (the kernel tells at once when a process ends)."""
    socket = context.socket(type)
    try:
        _set_common(socket, max_message_bytes, high_water_mark)
        socket.set(zmq.RECONNECT_IVL, _IPC_RECONNECT_MS)
        socket.set(zmq.RECONNECT_IVL_MAX, _IPC_RECONNECT_MAX_MS)
    except BaseException:
        socket.close()
        raise
    return socket


def _set_common(socket: Socket, max_message_bytes: int, high_water_mark: int | None) -> None:
    # What must not be lost is in a ledger; a closing socket never waits for a peer.
    socket.linger = 0
    socket.set(zmq.MAXMSGSIZE, max_message_bytes)
    socket.set(zmq.HANDSHAKE_IVL, _HANDSHAKE_MS)
    socket.set(zmq.BACKLOG, _BACKLOG)
    if high_water_mark is not None:
        socket.set(zmq.SNDHWM, high_water_mark)
        socket.set(zmq.RCVHWM, high_water_mark)
    if socket.type == zmq.ROUTER:
        # Otherwise what is sent to a lost peer vanishes. HANDOVER stays off: a second client must not take over a routing id.
        socket.set(zmq.ROUTER_MANDATORY, 1)


def ipc_endpoint(path: Path | str) -> str:
    """`ipc://` endpoint of a socket file.

    Raises:
        ValueError: the path is longer than 100 bytes.
    """
    length = len(os.fsencode(path))
    if length > MAX_IPC_PATH_BYTES:
        raise ValueError(f"ipc path {str(path)!r}: found {length} bytes, at most {MAX_IPC_PATH_BYTES}; use a shorter directory or alias")
    return f"ipc://{path}"


def bind_ipc(socket: Socket, path: Path) -> str:
    """Bind a leg, replacing what a killed predecessor left behind. The process's umask decides who may connect (007).

    Raises:
        ValueError: the path is too long.
        zmq.ZMQError: the directory is missing or not writable.
    """
    endpoint = ipc_endpoint(path)
    path.unlink(missing_ok=True)
    socket.bind(endpoint)
    return endpoint
