"""Versioned model of the wiring document, written by the planner and read by sidecar, SDK and local mode.

One document serves all replicas of one agent. It holds intent only: a change of it is a change of what the user wants, so it rolls
the pods (but `logLevel`). Replica counts, peers and keys of peers are not in it: they come from the name server's directory.

The models are msgspec structs, not pydantic: every agent process reads this document, and pydantic would add 0.1 s and 15 MB to each.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import msgspec

WIRING_VERSION = 1

Pattern = Literal["PushPull", "PubSub", "RequestReply"]
Role = Literal["Push", "Pull", "Pub", "Sub", "Req", "Rep"]
Carrier = Literal["Endpoint", "Proxy"]
"""Endpoint: the acknowledged protocol (PushPull AtLeastOnce, RequestReply). Proxy: libzmq's own proxy (BestEffort)."""
Frames = Literal["Ganglion", "Bare"]
"""Ganglion: DATA frames. Bare: user frames as they are, because a plain program takes part in a proxied channel."""

BACK = "/back"
"""Pair, DealerRouter and SyncPub are two channels: from Binder to Connector, from Router to Dealer, or from SyncPub to SyncSub, under the
channel's name, and back under its name and this. No manifest can name that."""
INWARD = ".in"
"""The alias of such a channel sends; under it and this the same agent receives. No manifest can name that."""
TWO_WAY: frozenset[str] = frozenset({"Pair", "DealerRouter", "SyncPub"})
"""Patterns that are wired so."""


class WiringError(ValueError):
    """The document cannot be used; the text names the field and what was found."""


class _Wiring(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Base of all parts. Unknown fields are ignored: an older runtime may read a newer operator's document of the same version."""


class NameServerWiring(_Wiring, frozen=True, kw_only=True, rename="camel"):
    """How to reach and recognise the name server."""

    name: str
    namespace: str
    uid: str
    endpoint: str
    """`tcp://<FQDN with final dot or IP>:<port>`."""
    public_key: str
    """Z85 CURVE public key; empty with `security: None`."""
    security: Literal["Curve", "None"] = "Curve"
    remote_code: Literal["Forbidden", "Signed", "Trusted"] = "Forbidden"
    """Whether codecs that can run code while decoding (Pickle, Dill) may be used."""
    shutdown_timeout_seconds: int = 60

    @property
    def audience(self) -> str:
        """Audience prefix of the join tokens; the agent's name follows after a slash."""
        return f"ganglion:{self.namespace}/{self.uid}"


class BarrierWiring(_Wiring, frozen=True, kw_only=True, rename="camel"):
    """Hold the first send until enough receivers are wired."""

    peers: int
    timeout_seconds: float


class HandlerWiring(_Wiring, frozen=True, kw_only=True, rename="camel"):
    """One topic's handler (Sub with several topics)."""

    topic: str
    handler: str


class ChannelWiring(_Wiring, frozen=True, kw_only=True, rename="camel"):
    """One alias of the agent."""

    alias: str
    channel: str
    pattern: Pattern
    role: Role
    peer_role: Role
    bind: bool
    """Whether this side binds (listens)."""
    carrier: Carrier
    frames: Frames
    speaks: Literal["Sdk", "Plain"]
    delivery: Literal["BestEffort", "AtLeastOnce"]
    ack: Literal["Causal", "Handler"]
    codec: Literal["MsgPack", "MsgPackBlosc", "Json", "Raw", "Protobuf", "Pickle", "Dill"]
    high_water_mark: int
    """Messages."""
    max_message_bytes: int
    linger_seconds: float
    overflow: Literal["Block", "DropNewest"]
    barrier: BarrierWiring | None = None
    dead_letter: str | None = None
    """Alias (of this document, role Push) that takes this alias's dead letters; added by the planner."""
    inward: str | None = None
    """Two directions: alias (of this document) of the one that comes in; the agent's code knows both by this alias. So a Pub with one is of a
    SyncPub, whose requests come in by a Rep, and a Req with one asks there, and hears publications and replies by a Sub."""
    addressed: bool = False
    """Router, role Push: each message names the replica that it is for."""
    handler: str | None = None
    """Method or function name; None: the agent polls with recv(), or the role only sends."""
    topics: tuple[str, ...] = ("",)
    """Sub: initial subscriptions (UTF-8 text; the empty topic is everything)."""
    topic_handlers: tuple[HandlerWiring, ...] = ()
    message_type: str | None = None
    """Protobuf: full name of the messages, of RequestReply: of the requests."""
    reply_type: str | None = None
    """Protobuf, RequestReply: full name of the replies."""

    @property
    def declared(self) -> str:
        """Name of the Channel object that this is a part of."""
        return self.channel.removesuffix(BACK)

    @property
    def sends(self) -> bool:
        """Whether the role sends first (Push, Pub, Req)."""
        return self.role in ("Push", "Pub", "Req")

    @property
    def window(self) -> int:
        """Most credit that a receiver grants each link, in messages."""
        return max(1, min(1024, self.high_water_mark))

    @property
    def batch(self) -> int:
        """Most messages in one frame."""
        return max(1, min(256, self.window // 4))


class TimerWiring(_Wiring, frozen=True, kw_only=True, rename="camel"):
    """A method that runs every `period_seconds`."""

    name: str
    method: str
    period_seconds: float
    initial_delay_seconds: float = 0.0


class AgentWiring(_Wiring, frozen=True, kw_only=True, rename="camel"):
    """The agent itself."""

    name: str
    namespace: str
    run: Literal["Always", "Once"]
    data_plane: Literal["Sidecar", "InProcess"]
    target: str | None = None
    """`module:Class` or `module:function`; None for a container agent."""
    on_error: Literal["Continue", "Restart", "Stop"] = "Continue"
    log_level: str = ""
    """What the agent begins with; the name server tells of every other one. Empty: GANGLION_LOG_LEVEL. Not a part of the intent."""
    attributes: dict[str, Any] = {}
    """Set on the agent before on_init."""
    timers: tuple[TimerWiring, ...] = ()
    drain_timeout_seconds: int = 20
    """Bound of leaving (scale-down, rollout)."""


class WiringDocument(_Wiring, frozen=True, kw_only=True, rename="camel"):
    """Everything above, with a version."""

    version: int = WIRING_VERSION
    name_server: NameServerWiring
    agent: AgentWiring
    channels: tuple[ChannelWiring, ...] = ()

    def channel(self, alias: str) -> ChannelWiring:
        """The channel with this alias.

        Raises:
            KeyError: no such alias.
        """
        for channel in self.channels:
            if channel.alias == alias:
                return channel
        raise KeyError(alias)

    @property
    def domain_end_seconds(self) -> float:
        """Bound of this replica's end as a part of its domain's: for the flow, and then for leaving. A program of others has the latter."""
        leaving = float(self.agent.drain_timeout_seconds)
        return leaving if self.agent.target is None else self.name_server.shutdown_timeout_seconds / 2 + leaving

    def to_json(self) -> str:
        """Canonical JSON: equal documents give equal bytes, so it can be hashed."""
        return msgspec.json.encode(self, order="sorted").decode()


_decoder = msgspec.json.Decoder(WiringDocument)


def load_wiring(source: str | bytes | Path) -> WiringDocument:
    """Read a document from a path or from JSON text.

    Raises:
        WiringError: unreadable, not valid, or of a version that this runtime does not know.
    """
    try:
        text = source.read_bytes() if isinstance(source, Path) else source
    except OSError as error:
        raise WiringError(f"wiring document {source!s}: {error.strerror}") from error
    try:
        document = _decoder.decode(text)
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        what, _, path = str(error).partition(" - at ")
        where = path.strip("`").removeprefix("$.")
        raise WiringError(f"wiring document: {where}: {what}" if where else f"wiring document: {what}") from error
    if document.version != WIRING_VERSION:
        raise WiringError(f"wiring document: version: found {document.version}, this runtime knows {WIRING_VERSION}; use a newer image")
    return document
