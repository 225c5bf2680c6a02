"""What a link is to those who use it: one live connection to one peer on one channel, after HELLO and WELCOME."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, Protocol

import zmq

from ganglion.runtime.connections import DesiredPeer
from ganglion.wire import frames
from ganglion.wire.control import Incarnation

NO_SLOT = b"\0\0\0\0"
"""Slot of frames that concern the leg itself."""

Frame = bytes | zmq.Frame
"""A frame to send, or a batch that a relay passes on: `zmq.Frame` leaves it where libzmq has it."""

Host = Literal["sidecar", "process"]


@dataclass(frozen=True, slots=True)
class Identity:
    """Who this end is, as HELLO and WELCOME say it.

    Attributes:
        replica: name of the replica.
        incarnation: which life of it.
        host: `sidecar`: runs no user code, so it answers heartbeats at any time and its loss is no message's fault;
            `process`: hosts handlers, which may keep it from answering.
        alias: which of its aliases connects; a replica may have several on one channel. Empty in a WELCOME.
    """

    replica: str
    incarnation: Incarnation
    host: Host = "process"
    alias: str = ""

    def fields(self) -> dict[str, Any]:
        """Fields of HELLO and WELCOME."""
        fields: dict[str, Any] = {
            "replica": self.replica,
            "incarnation": [self.incarnation.uid, self.incarnation.start, self.incarnation.issued],
            "host": self.host,
        }
        return {**fields, "alias": self.alias} if self.alias else fields

    @classmethod
    def parse(cls, fields: dict[str, Any]) -> Identity:
        """The peer's identity.

        Raises:
            FrameError: a field is missing or of the wrong type.
        """
        replica, life, host, alias = fields.get("replica"), fields.get("incarnation"), fields.get("host"), fields.get("alias", "")
        if not isinstance(replica, str) or len(replica) > 253:
            raise frames.FrameError(f"field replica: found {str(replica)[:80]!r}, expected a name")
        if not isinstance(life, list) or len(life) != 3 or not isinstance(life[0], str) or not all(type(part) is int for part in life[1:]):
            raise frames.FrameError(f"field incarnation: found {str(life)[:80]!r}, expected [uid, start, issued]")
        if host not in ("sidecar", "process"):
            raise frames.FrameError(f"field host: found {str(host)[:80]!r}, expected sidecar or process")
        if not isinstance(alias, str) or len(alias) > 253:
            raise frames.FrameError(f"field alias: found {str(alias)[:80]!r}, expected a name")
        return cls(replica, Incarnation(life[0], life[1], life[2]), host, alias)


class Link:
    """One live connection. Made by a port; `send` never blocks and never raises."""

    __slots__ = ("address", "heard", "peer", "slotted", "up")

    def __init__(self) -> None:
        self.address = ""
        """By what name the peer is sent to: as the directory has it for the peer's key, whatever it says itself. Empty on an ipc leg."""
        self.peer: Identity | None = None
        self.up = False
        self.slotted = False
        """Its frames carry slots: it leads to a sidecar, and each slot to one peer."""
        self.heard = 0.0
        """Monotonic seconds of the last frame."""

    @property
    def charge(self) -> bool:
        """Whether a sudden loss of this link may be a message's fault."""
        return self.peer is None or self.peer.host == "process"

    def send(self, frame: Frame) -> bool:
        """Queue a frame. False: the peer is gone; `link_down` follows at the port's next turn."""
        raise NotImplementedError

    def send_slot(self, slot: bytes, frame: Frame) -> bool:
        """Queue a frame on a slot of a slotted leg."""
        raise NotImplementedError


class LinkUser(Protocol):
    """Receives what a port has. Called in the reactor's thread, also from blocking calls when the port is pumped."""

    def link_up(self, link: Link) -> None:
        """HELLO and WELCOME were exchanged."""
        ...

    def link_frame(self, link: Link, kind: int, frame: Any, slot: bytes) -> None:
        """A frame other than HELLO, PING and PONG of a link that is up. `slot` is NO_SLOT on a leg without slots.

        `frame` is bytes; a DATA frame from a port with `zero_copy` is a `zmq.Frame`.

        May raise FrameError: the port counts it, tells the peer and goes on.
        """
        ...

    def link_down(self, link: Link, *, crashed: bool) -> None:
        """The link is gone: suddenly (`crashed`) or with a BYE, by departure from the directory, or by our own `close`."""
        ...


class Port(Protocol):
    """Connections of one socket role on one channel alias."""

    def set_peers(self, peers: dict[str, DesiredPeer]) -> None:
        """Peers of the directory, by replica. Links to others are closed, missing ones are opened or admitted."""
        ...

    def close(self) -> None:
        """Say BYE and close every socket; idempotent. `link_down` is not called for links that are up."""
        ...

    @property
    def tcp_port(self) -> int:
        """Port that it listens on; 0 when it connects."""
        ...
