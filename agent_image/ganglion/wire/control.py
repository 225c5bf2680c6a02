"""Messages of the control plane: name server ↔ runtime, and sidecar ↔ SDK on `control.sock`.

Every message is one frame: a msgpack map whose `t` field names the struct. `Join` travels inside the fixed join frame that the
name server can check before it decodes anything (see `ganglion.wire.join`).
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from ganglion.wire.departures import News

PROTOCOL_VERSION = 1

Phase = Literal["Starting", "Ready", "Draining", "AtRest", "Stopped"]
"""A replica's own view: `Ready` latches; `AtRest` means intake has ended and every ledger is empty."""


class _Message(msgspec.Struct, frozen=True, tag_field="t", kw_only=True, omit_defaults=True):
    """Base of tagged messages."""


class Incarnation(msgspec.Struct, frozen=True, array_like=True):
    """One life of one replica. Newer fences older: same `uid` compares `start`, different uids compare `issued`."""

    uid: str
    """Pod UID, or the UUID a laptop's supervisor made for the replica."""
    start: int
    """Start counter kept beside the ipc sockets: counts runtime starts within one uid."""
    issued: int
    """`iat` of the token that the replica joined with (Unix seconds); start time on a laptop."""

    def supersedes(self, other: Incarnation) -> bool:
        """Whether this life is newer than `other`, which is then fenced off."""
        if self.uid == other.uid:
            return self.start > other.start
        return self.issued >= other.issued


class Ledger(msgspec.Struct, frozen=True, array_like=True):
    """A sender's account of one channel, in messages: accepted = acked + in_flight + dead_lettered + dropped.

    On BestEffort channels nobody acknowledges: `acked` counts what left for a carrier, and the receivers' `delivered` tells the rest.
    """

    accepted: int = 0
    acked: int = 0
    in_flight: int = 0
    dead_lettered: int = 0
    dropped: int = 0
    redelivered: int = 0
    """Messages sent again after a loss; not a term of the balance."""


class ChannelReport(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What one replica reports about one alias with every beat."""

    port: Annotated[int, msgspec.Meta(ge=0, le=65535)] = 0
    """TCP port this replica listens on for the channel; 0 when it does not bind or is not listening yet."""
    wired: int = 0
    """Peers of the opposite role with which a link is up in both directions (PubSub: whose beacon was echoed)."""
    sent: Ledger | None = None
    """Present for sending roles (Push, Pub, Req)."""
    delivered: int = 0
    """Messages handed to the handler (receiving roles)."""
    failed: int = 0
    """Handler exceptions."""
    ended: bool = False
    """Sender: END was said with its ledger at rest. Receiver: the end of the stream was observed."""
    counter: Annotated[str, msgspec.Meta(max_length=32)] = ""
    """Which process counts, for its counts begin at 0: an agent process and its sidecar die one without the other. Empty: the runtime that reports."""


class Report(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """State of one replica, sent with every beat. `channels` is keyed by alias."""

    phase: Phase = "Starting"
    channels: dict[str, ChannelReport] = {}
    message: str = ""
    """Short reason for people, e.g. why the replica is not Ready; ≤ 256 characters."""
    process: Annotated[str, msgspec.Meta(max_length=32)] | None = None
    """Id of the SDK process; empty: it has not come, or was lost. None: the agent is a program without the SDK."""
    goodbye: bool = False
    """That process has left in order."""


class PeerChannel(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A peer's part in one channel that the reader shares with it."""

    role: str
    port: int = 0
    wired: bool = False
    """Whether it reports at least one peer."""
    ended: bool = False
    also: tuple[PeerChannel, ...] = ()
    """The replica's further aliases on the same channel, each with its port: two channels may share a dead-letter channel."""


class Peer(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A directory entry as another member sees it. `channels` is keyed by channel name and filtered to shared ones."""

    agent: str
    replica: str
    incarnation: Incarnation
    host: str
    key: str
    """Public CURVE key of the data plane, Z85."""
    phase: Phase = "Starting"
    channels: dict[str, PeerChannel] = {}


class Part(msgspec.Struct, frozen=True, array_like=True):
    """What an alias of a replica's wiring stands for."""

    channel: str
    role: str


class Addresses(msgspec.Struct, frozen=True, array_like=True):
    """The receiving replicas of one agent that are declared: `agent-0` to `agent-<replicas - 1>`, but those that are done."""

    replicas: int
    done: tuple[int, ...] = ()
    """Indices whose work is completed (`run: Once`): they do not come back."""


class ChannelState(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What the name server knows of a channel as a whole."""

    ended: bool = False
    """Every declared replica of every sending agent has said END."""
    declared_senders: int = 0
    declared_receivers: int = 0
    receivers: dict[str, Addresses] | None = None
    """By agent; only of channels whose messages name their receiver. While the domain ends nobody is: who has left does not come back."""


class AdHocTerms(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How programs of this domain make agents of their own; only where its NameServer says `adHoc: Allowed`."""

    port: Annotated[int, msgspec.Meta(ge=1, le=65535)]
    """Of their directory, on the name server's host."""
    secret: str
    """What the key pair of all their sockets is derived from."""
    remote_code: Literal["Forbidden", "Signed", "Trusted"] = "Forbidden"
    """`NameServer.spec.remoteCode`."""


class Welcome(_Message, frozen=True, tag="Welcome"):
    """Answer to a join that was accepted; the first `Directory` follows at once."""

    version: int
    epoch: str
    """One life of the name server; sequence numbers restart with it."""
    lease_seconds: float
    beat_seconds: float
    issued: int = 0
    """`issued` of the incarnation as peers see it. The member claims it from now on: a renewed token is not another life."""
    ad_hoc: AdHocTerms | None = None
    """None: `adHoc: Forbidden`."""


class Refuse(_Message, frozen=True, tag="Refuse"):
    """A join or a message was refused. `retry` false ends the replica with exit code 78 and this text."""

    reason: str
    """CamelCase: NotAuthenticated, NotDeclared, Fenced, ShuttingDown, UnknownVersion, TooLarge, Malformed."""
    message: str
    retry: bool


class Beat(_Message, frozen=True, tag="Beat"):
    """Member → name server, every `beat_seconds`, and at once when the report changed in kind (port, phase, ended)."""

    epoch: str
    seq: int
    """Last directory sequence applied; the name server sends a snapshot when it cannot continue from here."""
    report: Report
    parts: dict[str, Part] = {}
    """By alias; in the first beat after each `Welcome`. Parts that the agent's declaration lacks are not entered in the directory."""
    key: str = ""
    """Public CURVE key of the data plane (Z85) when it is not the one of the join: an agent process behind the sidecar has its own."""


class BeatAck(_Message, frozen=True, tag="BeatAck"):
    """Name server → member, sidecar → SDK. An unknown member gets `Refuse(reason="NotAuthenticated", retry=True)` and joins again."""

    epoch: str
    seq: int
    stay: bool | None = None
    """Answer to a beat that says `Draining`: whether no other receiver would take what is sent to this member now. A sidecar relays it."""
    log_level: str | None = None
    """`spec.logLevel` of the member's agent, with every answer to a beat; empty: it has none. None: not told. A sidecar relays changes."""


class Directory(_Message, frozen=True, tag="Directory"):
    """Snapshot (`full`) or delta. Sequence numbers are per member and per epoch, without gaps."""

    epoch: str
    seq: int
    full: bool
    peers: list[Peer] = []
    gone: list[str] = []
    """Replica names that left (delta only)."""
    channels: dict[str, ChannelState] = {}


class Command(_Message, frozen=True, tag="Command"):
    """Name server → member, sidecar → SDK.

    Shutdown: with the flow: sources stop, a receiver takes input until all its senders are at rest, flushes, runs on_exit, says BYE.
    Leave: intake stops, outputs flush, unacknowledged inputs are handed back, exit.
    """

    kind: Literal["Shutdown", "Leave"]
    deadline_seconds: float
    reason: str = ""
    loops: tuple[str, ...] = ()
    """Shutdown: channels of this member that are part of a loop: their senders wait for it as it waits for them."""


def tarry_seconds(bound: float) -> float:
    """For how long a receiver that is told to leave goes on, unless others take what is sent to it: its domain may be ending.

    A cascade deletes pods before, or while, their name server hears of it.

    Args:
        bound: seconds in which it must have left.
    """
    return min(2.0, bound / 4)


def frozen_after(flow_seconds: float) -> float:
    """Seconds of silence after which a process counts as frozen while its domain ends.

    Control threads wait for no handler. What a frozen process holds is handled by others only if they are told while there is time.

    Args:
        flow_seconds: deadline of the Shutdown.
    """
    return min(max(flow_seconds / 2, 2.5), 10.0)


class Watch(_Message, frozen=True, tag="Watch"):
    """SDK → sidecar → name server, with every beat, and at once when it changes: of whose ends this agent wants to hear. See `ganglion.wire.departures`."""

    names: dict[str, dict[str, str]] = {}
    """By name of an agent or replica: the lives (by replica) that the watcher knows."""
    goes_on: bool = False
    """In addition to the message before."""


class Ends(_Message, frozen=True, tag="Ends"):
    """Name server → sidecar → SDK: what a watcher does not know yet. Answers `Watch`, and comes unasked with each end."""

    news: list[News] = []


class Notice(_Message, frozen=True, tag="Notice"):
    """Member → name server: something a person should see as an Event (dead letters, refused peers)."""

    reason: str
    """CamelCase event reason, e.g. DeadLettered."""
    channel: str
    message: str
    count: int = 1


class Bye(_Message, frozen=True, tag="Bye"):
    """The replica leaves by itself; its lease ends now."""

    report: Report
    completed: bool = False
    """A `run: Once` replica that finished its work (exit code 0)."""


class ByeAck(_Message, frozen=True, tag="ByeAck"):
    """Name server → member: the lease has ended, the process may go."""


class AppHello(_Message, frozen=True, tag="AppHello"):
    """SDK → sidecar, first message on `control.sock`. `key` is set by an InProcess agent: the sidecar vouches for it."""

    version: int
    pid: int
    key: str = ""


class AppWelcome(_Message, frozen=True, tag="AppWelcome"):
    """Sidecar → SDK. The first `Directory` follows once the sidecar has one itself."""

    version: int
    replica: str
    epoch: str = ""
    """One life of the sidecar; sequence numbers of its directories restart with it."""


class AppReport(_Message, frozen=True, tag="AppReport"):
    """SDK → sidecar with every beat: the SDK's part of the report (handler counts, end of stream, phase)."""

    report: Report


class AppBye(_Message, frozen=True, tag="AppBye"):
    """SDK → sidecar: on_exit ran, the ledger is at rest, the process ends now. Answered by `ByeAck`."""

    completed: bool = False
    report: Report = Report()
    """The SDK's last words: counts after the last beat."""


class Drain(_Message, frozen=True, tag="Drain"):
    """preStop hook → sidecar: leave within `deadline_seconds`; answered by `Drained`."""

    deadline_seconds: float


class Drained(_Message, frozen=True, tag="Drained"):
    """Sidecar → preStop hook."""

    at_rest: bool


class AskAdHoc(_Message, frozen=True, tag="AskAdHoc"):
    """Any program beside the sidecar → sidecar: it is about to make agents of its own. Answered by `AdHoc` once the sidecar has joined."""


class AdHoc(_Message, frozen=True, tag="AdHoc"):
    """Sidecar → program."""

    name_server: str
    """Host name or address of the domain's name server."""
    host: str
    """Address of this pod, where peers connect to the program's sockets."""
    terms: AdHocTerms | None = None
    """None: `adHoc: Forbidden`."""


Message = (
    Welcome | Refuse | Beat | BeatAck | Directory | Command | Notice | Bye | ByeAck
    | AppHello | AppWelcome | AppReport | AppBye | Drain | Drained | AskAdHoc | AdHoc | Watch | Ends
)  # fmt: skip

_encoder = msgspec.msgpack.Encoder()
_decoder: msgspec.msgpack.Decoder[Message] = msgspec.msgpack.Decoder(Message)


def encode(message: Message) -> bytes:
    """Encode one control message as one frame."""
    return _encoder.encode(message)


def decode(frame: bytes | memoryview) -> Message:
    """Decode one frame from an authenticated peer.

    Raises:
        msgspec.MsgspecError: the frame is not msgpack, has an unknown `t`, or a field of the wrong type.
    """
    try:
        return _decoder.decode(frame)
    except RecursionError:
        # An unknown field may nest as deep as the frame is long.
        raise msgspec.DecodeError("nested too deeply") from None
    except UnicodeDecodeError as error:
        raise msgspec.DecodeError(f"text that is no UTF-8: {error.reason}") from None
