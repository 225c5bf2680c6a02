"""Checks of one channel, and the decisions that concern all its legs at once."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from ganglion.api import ROLES, Channel
from ganglion.api.channel import CODE_CODECS, RECEIVING, SENDING
from ganglion.planner.domain import DomainView
from ganglion.planner.verdicts import Verdict


@dataclass(frozen=True, slots=True)
class ChannelPlan:
    """Decisions about a channel.

    Attributes:
        verdicts: conditions `NameServerResolved`, `Accepted`, `Acyclic`, `RolesFilled`.
        carrier: who moves the messages.
        frames: Bare when a plain program takes part in a proxied channel.
        senders, receivers: replicas that agents declare.
        dead_letter: name of the channel for dead letters when it can be used, else None.
    """

    verdicts: tuple[Verdict, ...]
    carrier: Literal["Endpoint", "Proxy"]
    frames: Literal["Ganglion", "Bare"]
    senders: int
    receivers: int
    dead_letter: str | None

    @property
    def usable(self) -> bool:
        """Whether agents may be wired to it."""
        return all(verdict.ok for verdict in self.verdicts if verdict.type in ("NameServerResolved", "Accepted"))


def _carrier(channel: Channel) -> Literal["Endpoint", "Proxy"]:
    return "Endpoint" if channel.delivery == "AtLeastOnce" or channel.spec.pattern == "RequestReply" else "Proxy"


def _name_server(channel: Channel, view: DomainView) -> Verdict:
    name = channel.spec.name_server_ref.name
    server = view.name_servers.get(name)
    if server is None:
        return Verdict("NameServerResolved", "False", "NotFound", f"spec.nameServerRef.name: NameServer {name!r} does not exist; create it")
    if server.deleting:
        return Verdict("NameServerResolved", "False", "Deleting", f"NameServer {name!r} is being deleted")
    return Verdict("NameServerResolved", "True", "Resolved", "")


def _accepted(channel: Channel, view: DomainView, counts: Mapping[str, int]) -> Verdict:
    spec = channel.spec
    binders = counts[channel.binder]
    server = view.name_servers.get(spec.name_server_ref.name)
    if spec.codec in CODE_CODECS and server is not None and server.spec.remote_code != "Trusted":
        return Verdict(
            "Accepted",
            "False",
            "CodecForbidden",
            f"spec.codec: {spec.codec} can run code while decoding; use another codec, or set spec.remoteCode: Trusted in NameServer {server.name!r}",
        )
    if spec.max_binders is not None and binders > spec.max_binders:
        return Verdict(
            "Accepted",
            "False",
            "TooManyBinders",
            f"spec.maxBinders: found {binders} replicas that take the binding role {channel.binder}; at most {spec.max_binders} may:"
            " lower their replicas or let the other role bind",
        )
    if spec.pattern == "Pair":
        for role, found in counts.items():
            if found > 1:
                return Verdict(
                    "Accepted",
                    "False",
                    "TooManyPeers",
                    f"spec.pattern: a Pair has one replica in each role, found {found} that take the role {role}:"
                    " lower replicas, or use a Channel for each pair",
                )
    return Verdict("Accepted", "True", "Valid", "")


def _dead_letter(channel: Channel, view: DomainView) -> tuple[str | None, Verdict | None]:
    ref = channel.spec.dead_letter
    if ref is None:
        return None, None
    target = view.channels.get(ref.name)
    if target is None:
        return None, Verdict(
            "DeadLetterResolved", "False", "NotFound", f"spec.deadLetter.name: Channel {ref.name!r} does not exist; create it"
        )
    where = f"spec.deadLetter.name: Channel {ref.name!r}"
    if (
        target.spec.pattern != "PushPull"
        or target.spec.name_server_ref.name != channel.spec.name_server_ref.name
        or target.name == channel.name
    ):
        text = f"{where} must be another PushPull channel of the same NameServer"
        return None, Verdict("DeadLetterResolved", "False", "NotUsable", text)
    if target.deleting:
        return None, Verdict("DeadLetterResolved", "False", "Deleting", f"{where} is being deleted")
    refused = _accepted(target, view, _counts(target, view))
    if not refused.ok:
        return None, Verdict("DeadLetterResolved", "False", "NotUsable", f"{where}: {refused.message}")
    return ref.name, Verdict("DeadLetterResolved", "True", "Resolved", "")


def ack_cycle(channel: Channel, view: DomainView) -> tuple[str, ...]:
    """Names of the channels of a cycle of causally acknowledged channels through `channel`; empty when there is none.

    In such a cycle an input waits for an acknowledgement that waits for that input.
    """

    edges = _causal_edges(view)
    before: dict[str, str] = {}
    reached = deque([channel.name])
    while reached:
        name = reached.popleft()
        for target in edges.get(name, ()):
            if target == channel.name:
                path = [name]
                while path[-1] != channel.name:
                    path.append(before[path[-1]])
                return tuple(reversed(path))
            if target not in before:
                before[target] = name
                reached.append(target)
    return ()


def _causal(channel: Channel | None) -> bool:
    return channel is not None and channel.delivery == "AtLeastOnce" and channel.spec.ack == "Causal"


def _causal_edges(view: DomainView) -> dict[str, list[str]]:
    """Causally acknowledged channel → those that its receivers send to."""
    cached: dict[str, list[str]] | None = view.memo.get(("edges", ""))
    if cached is not None:
        return cached
    edges: dict[str, dict[str, None]] = {}
    for name, channel in view.channels.items():
        if not _causal(channel):
            continue
        for agent, entry in view.participants(name):
            # Of two directions, what a Connector or a Dealer sends is acknowledged causally.
            if entry.role in ("Pull", "Binder", "Router"):
                outputs = [out.channel_ref.name for out in agent.spec.channels if out.role in ("Push", "Connector", "Dealer")]
                edges.setdefault(name, {}).update(dict.fromkeys(out for out in outputs if _causal(view.channels.get(out))))
    result = {name: sorted(targets) for name, targets in edges.items()}
    view.memo["edges", ""] = result
    return result


def _counts(channel: Channel, view: DomainView) -> dict[str, int]:
    """Role → replicas that agents declare; whoever sends to a channel also sends its dead letters."""
    counts: dict[str, int] = {role: view.replicas(channel.name, role) for role in ROLES[channel.spec.pattern]}
    if channel.spec.pattern == "PushPull":
        counts["Push"] += sum(
            view.replicas(source.name, role)
            for source in view.dead_letter_sources(channel.name)
            for role in ROLES[source.spec.pattern]
            if role in SENDING
        )
    return counts


def plan_channel(channel: Channel, view: DomainView) -> ChannelPlan:
    """Judge one channel of the view against everything that refers to it."""
    cached: ChannelPlan | None = view.memo.get(("plan", channel.name))
    if cached is None:
        cached = view.memo["plan", channel.name] = _plan(channel, view)
    return cached


def _plan(channel: Channel, view: DomainView) -> ChannelPlan:
    counts = _counts(channel, view)
    plain = view.plain(channel.name, counts)
    carrier = _carrier(channel)
    # The one that sends (first) is named first.
    first, second = sorted(counts, key=lambda role: role not in SENDING)
    dead_letter, dead_letter_verdict = _dead_letter(channel, view)
    verdicts = [_name_server(channel, view), _accepted(channel, view, counts)]
    if dead_letter_verdict is not None:
        verdicts.append(dead_letter_verdict)
    cycle = ack_cycle(channel, view)
    if cycle:
        verdicts.append(
            Verdict(
                "Acyclic",
                "False",
                "AckCycle",
                f"causal acknowledgements wait for each other along {' → '.join((*cycle, cycle[0]))}; set spec.ack: Handler in one of them",
            )
        )
    missing = [role for role in (first, second) if not counts[role]]
    if missing:
        verdicts.append(Verdict("RolesFilled", "False", f"No{missing[0]}", f"no agent takes the role {' or '.join(missing)} yet"))
    else:
        verdicts.append(Verdict("RolesFilled", "True", "Filled", f"{counts[first]} {first}, {counts[second]} {second}"))
    return ChannelPlan(
        verdicts=tuple(verdicts),
        carrier=carrier,
        frames="Bare" if plain and carrier == "Proxy" else "Ganglion",
        senders=sum(count for role, count in counts.items() if role in SENDING),
        receivers=sum(count for role, count in counts.items() if role in RECEIVING),
        dead_letter=dead_letter,
    )
