"""Checks of one agent, and its wiring document."""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import msgspec
from pydantic import BaseModel

from ganglion.api import ROLES, Agent, AgentChannel, Channel, NameServer
from ganglion.api.channel import BOTH_WAYS
from ganglion.api.names import DATA_PORT_COUNT
from ganglion.api.rules import DEAD_LETTER_PREFIX
from ganglion.api.structure import MAX_DEPTH, too_deep
from ganglion.planner.channels import ChannelPlan, plan_channel
from ganglion.planner.domain import DomainView
from ganglion.planner.legs import Leg, legs
from ganglion.planner.verdicts import Verdict
from ganglion.wiring import INWARD, AgentWiring, BarrierWiring, ChannelWiring, HandlerWiring, NameServerWiring, TimerWiring, WiringDocument

STOP_SECONDS = 5
"""Part of the termination grace that is kept for stopping after the drain."""
MAX_WIRING_BYTES = 196608
"""The document travels in a pod annotation; Kubernetes allows 256 KiB for all annotations of an object."""
_NOT_INTENT = {"replicas", "suspend", "minAvailable", "backoffLimit", "channels", "nameServerRef", "logLevel"}
"""Spec fields that reach running pods without replacing them, or are part of the wiring."""


@dataclass(frozen=True, slots=True)
class AgentPlan:
    """What should run for one agent.

    Attributes:
        verdicts: conditions `NameServerResolved`, `ChannelsResolved`, `Accepted` (and `CodeResolved` with a ConfigMap).
        wiring: None while something unresolved keeps the agent from being started or changed.
        intent: hash of what the user wants of a pod; pods that carry another are replaced. None with `wiring` None.
        replicas: pods wanted now.
    """

    verdicts: tuple[Verdict, ...]
    wiring: WiringDocument | None
    intent: str | None
    replicas: int


def _name_server(agent: Agent, view: DomainView) -> Verdict:
    name = agent.spec.name_server_ref.name
    server = view.name_servers.get(name)
    if server is None:
        return Verdict("NameServerResolved", "False", "NotFound", f"spec.nameServerRef.name: NameServer {name!r} does not exist; create it")
    if server.deleting:
        return Verdict("NameServerResolved", "False", "Deleting", f"NameServer {name!r} is being deleted")
    if name not in view.addresses:
        return Verdict("NameServerResolved", "False", "KeysPending", f"the keys of NameServer {name!r} are not made yet")
    return Verdict("NameServerResolved", "True", "Resolved", "")


def _channel(agent: Agent, index: int, entry: AgentChannel, view: DomainView, plan: ChannelPlan | None) -> Verdict | None:
    field = f"spec.channels[{index}]"
    name = entry.channel_ref.name
    channel = view.channels.get(name)
    if channel is None or plan is None:
        return Verdict("ChannelsResolved", "False", "NotFound", f"{field}.channelRef.name: Channel {name!r} does not exist; create it")
    if channel.spec.name_server_ref.name != agent.spec.name_server_ref.name:
        return Verdict(
            "ChannelsResolved",
            "False",
            "OtherNameServer",
            f"{field}.channelRef.name: Channel {name!r} belongs to NameServer {channel.spec.name_server_ref.name!r},"
            f" this agent to {agent.spec.name_server_ref.name!r}",
        )
    roles = ROLES[channel.spec.pattern]
    if entry.role not in roles:
        return Verdict(
            "ChannelsResolved",
            "False",
            "RoleNotInPattern",
            f"{field}.role: found {entry.role}, but Channel {name!r} has pattern {channel.spec.pattern}; must be {roles[0]} or {roles[1]}",
        )
    if channel.deleting:
        return Verdict("ChannelsResolved", "False", "Deleting", f"{field}.channelRef.name: Channel {name!r} is being deleted")
    if not plan.usable:
        failed = next(v for v in plan.verdicts if not v.ok and v.type in ("NameServerResolved", "Accepted"))
        return Verdict("ChannelsResolved", "False", failed.reason, f"{field}.channelRef.name: Channel {name!r}: {failed.message}")
    return None


def _channels(agent: Agent, view: DomainView, plans: dict[str, ChannelPlan]) -> Verdict:
    for index, entry in enumerate(agent.spec.channels):
        failure = _channel(agent, index, entry, view, plans.get(entry.channel_ref.name))
        if failure is not None:
            return failure
    return Verdict("ChannelsResolved", "True", "Resolved", "")


def _free_form(agent: Agent, server: NameServer | None) -> Iterable[tuple[str, Any]]:
    """(field, value) of what takes any JSON; its depth must be known before anything recurses into it."""
    yield "spec.attributes", agent.spec.attributes
    yield "spec.affinity", agent.spec.affinity
    yield "spec.topologySpreadConstraints", agent.spec.topology_spread_constraints
    if server is not None:
        defaults = server.spec.agent_defaults
        yield f"NameServer {server.name!r}: spec.agentDefaults.affinity", defaults.affinity
        yield f"NameServer {server.name!r}: spec.agentDefaults.topologySpreadConstraints", defaults.topology_spread_constraints


def _fits(wiring: WiringDocument) -> Verdict | None:
    if len(wiring.channels) > DATA_PORT_COUNT:
        return Verdict(
            "Accepted",
            "False",
            "TooManyChannels",
            f"spec.channels: found {len(wiring.channels)} with the dead-letter channels, those with two directions counted twice; must be at most {DATA_PORT_COUNT}, one data port each",
        )
    size = len(wiring.to_json().encode())
    if size > MAX_WIRING_BYTES:
        return Verdict(
            "Accepted",
            "False",
            "WiringTooLarge",
            f"spec: attributes, channels and timers take {size} bytes; must take at most {MAX_WIRING_BYTES}: put data in a ConfigMap or volume",
        )
    return None


def _accepted(agent: Agent, server: NameServer | None) -> Verdict:
    account = agent.spec.service_account_name
    if account is not None and server is not None and account not in server.spec.allowed_service_accounts:
        return Verdict(
            "Accepted",
            "False",
            "ServiceAccountNotAllowed",
            f"spec.serviceAccountName: {account!r} is not in spec.allowedServiceAccounts of NameServer {server.name!r}",
        )
    for field, value in _free_form(agent, server):
        if too_deep(value):
            return Verdict("Accepted", "False", "TooDeep", f"{field}: nested deeper than {MAX_DEPTH} levels; flatten it")
    return Verdict("Accepted", "True", "Valid", "")


def _code(agent: Agent, view: DomainView) -> Verdict | None:
    code = agent.spec.code
    if code is None or code.config_map_ref is None:
        return None
    name = code.config_map_ref.name
    if name not in view.code:
        return Verdict(
            "CodeResolved",
            "False",
            "NotFound",
            f'spec.code.configMapRef.name: ConfigMap {name!r} does not exist or lacks the label ganglion.dev/code: "true";'
            " create it, or label it (in a kustomization: configMapGenerator with options.labels)",
        )
    return Verdict("CodeResolved", "True", "Resolved", "")


def _wire_leg(entry: AgentChannel, alias: str, leg: Leg, channel: Channel, plan: ChannelPlan, agent: Agent) -> ChannelWiring:
    spec = channel.spec
    # Of two directions, what comes in has the handler.
    outward = entry.role in BOTH_WAYS and not leg.alias_suffix
    handlers = () if outward else entry.topic_handlers or ()
    topics = () if outward else entry.topics or ()
    return ChannelWiring(
        alias=f"{alias}{leg.alias_suffix}",
        channel=f"{channel.name}{leg.channel_suffix}",
        pattern=leg.pattern,
        role=leg.role,
        peer_role=leg.peer_role,
        bind=channel.binder == entry.role,
        carrier="Endpoint" if leg.pattern == "RequestReply" else plan.carrier,
        frames="Ganglion" if leg.pattern == "RequestReply" else plan.frames,
        speaks=agent.speaks(entry),
        delivery=channel.delivery,
        # Acknowledged causally in both directions, the two sides would wait for each other.
        ack="Handler" if entry.role in BOTH_WAYS and leg.pattern == "PushPull" and not leg.channel_suffix else spec.ack,
        codec=spec.codec,
        message_type=spec.message_type,
        reply_type=spec.message_type if spec.pattern == "SyncPub" and leg.pattern == "RequestReply" else spec.reply_type,
        high_water_mark=spec.high_water_mark,
        max_message_bytes=spec.max_message_bytes,
        linger_seconds=float(spec.linger_seconds),
        overflow=spec.overflow,
        barrier=BarrierWiring(peers=spec.barrier.peers, timeout_seconds=float(spec.barrier.timeout_seconds)) if spec.barrier else None,
        dead_letter=f"{DEAD_LETTER_PREFIX}{alias}" if leg.role == "Push" and plan.dead_letter is not None else None,
        inward=f"{alias}{INWARD}" if outward else None,
        addressed=leg.addressed,
        handler=None if outward else entry.handler,
        topics=tuple(h.topic for h in handlers) or topics or ("",),
        topic_handlers=tuple(HandlerWiring(topic=h.topic, handler=h.handler) for h in handlers),
    )


def _wire_channels(agent: Agent, view: DomainView, plans: dict[str, ChannelPlan]) -> Iterable[ChannelWiring]:
    for entry in agent.spec.channels:
        plan = plans[entry.channel_ref.name]
        for leg in legs(entry.role):
            yield (wired := _wire_leg(entry, entry.alias, leg, view.channels[entry.channel_ref.name], plan, agent))
            if wired.dead_letter is not None and plan.dead_letter is not None:
                target = view.channels[plan.dead_letter]
                letter = AgentChannel(alias=entry.alias, channel_ref={"name": target.name}, role="Push", speaks="Sdk")
                letters = _wire_leg(letter, wired.dead_letter, legs("Push")[0], target, plan_channel(target, view), agent)
                yield msgspec.structs.replace(letters, dead_letter=None)


def _wiring(agent: Agent, server: NameServer, view: DomainView, plans: dict[str, ChannelPlan]) -> WiringDocument:
    spec = agent.spec
    address = view.addresses[server.name]
    return WiringDocument(
        name_server=NameServerWiring(
            name=server.name,
            namespace=server.namespace,
            uid=server.metadata.uid,
            endpoint=address.endpoint,
            public_key=address.public_key,
            security=server.spec.security,
            remote_code=server.spec.remote_code,
            shutdown_timeout_seconds=server.spec.shutdown.timeout_seconds,
        ),
        agent=AgentWiring(
            name=agent.name,
            namespace=agent.namespace,
            run=spec.run,
            data_plane=spec.data_plane,
            target=spec.class_,
            on_error=spec.on_error,
            log_level=spec.log_level or "",
            attributes=spec.attributes or {},
            timers=tuple(
                TimerWiring(
                    name=timer.name,
                    method=timer.method,
                    period_seconds=timer.period_milliseconds / 1000,
                    initial_delay_seconds=timer.initial_delay_milliseconds / 1000,
                )
                for timer in spec.timers
            ),
            drain_timeout_seconds=max(1, termination_grace(agent, server) - STOP_SECONDS),
        ),
        channels=tuple(_wire_channels(agent, view, plans)),
    )


def termination_grace(agent: Agent, server: NameServer) -> int:
    """Seconds that a replica has to drain and stop: what the agent asks for, at most half of what the whole domain has."""
    return max(1, min(agent.spec.termination_grace_period_seconds, server.spec.shutdown.timeout_seconds // 2))


def pod_grace(agent: Agent, server: NameServer) -> int:
    """Seconds from the deletion of a pod until whatever still runs in it is killed.

    A cascade deletes the pods in the moment in which their domain begins to end: the flow has its time, and after it the leaving. SDK agents
    keep the shorter bound of a replica that leaves alone by themselves; programs of others do not, so they have no more than that.
    """
    leaving = termination_grace(agent, server)
    return leaving if agent.spec.class_ is None else server.spec.shutdown.timeout_seconds // 2 + leaving


def intent_hash(agent: Agent, server: NameServer, wiring: WiringDocument, code: str | None) -> str:
    """Hash of what the user wants of a pod: wiring, pod fields with their defaults, and the code's content.

    It covers neither how the operator renders a pod nor the values of defaults, so an upgrade alone replaces nothing.
    """
    own = {key: value for key, value in _stated(agent.spec).items() if key not in _NOT_INTENT}
    # Processes hear of another level from the name server; in the wiring it is for those that start later.
    wiring = msgspec.structs.replace(wiring, agent=msgspec.structs.replace(wiring.agent, log_level=""))
    content = {"wiring": _stated(wiring), "spec": {**_stated(server.spec.agent_defaults), **own}, "code": code}
    return hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest()[:32]


@functools.cache
def _fields(model: type[msgspec.Struct]) -> tuple[tuple[str, str, Any], ...]:
    """(attribute, JSON name, default) of each field; msgspec evaluates all annotations at each call."""
    return tuple((field.name, field.encode_name, field.default) for field in msgspec.structs.fields(model))


def _stated(value: Any) -> Any:
    """JSON value of what differs from the defaults, so that a field added by a later version changes no hash."""
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json", by_alias=True, exclude_none=True, exclude_defaults=True)
    if isinstance(value, msgspec.Struct):
        found = ((name, getattr(value, attribute), default) for attribute, name, default in _fields(type(value)))
        return {name: _stated(item) for name, item, default in found if item != default}
    if isinstance(value, tuple):
        return [_stated(item) for item in value]
    return value


def declared_roles(agent: Agent, view: DomainView) -> dict[str, set[str]]:
    """Channel → roles that this agent may join in, dead-letter channels included: what the name server authorises."""
    roles: dict[str, set[str]] = {}
    for entry in agent.spec.channels:
        for leg in legs(entry.role):
            roles.setdefault(f"{entry.channel_ref.name}{leg.channel_suffix}", set()).add(leg.role)
        channel = view.channels.get(entry.channel_ref.name)
        if channel is not None and entry.role in ("Push", "Router", "Dealer"):
            letters = plan_channel(channel, view).dead_letter
            if letters is not None:
                roles.setdefault(letters, set()).add("Push")
    return roles


def plan_agent(agent: Agent, view: DomainView) -> AgentPlan:
    """Judge one agent and, when everything it refers to is there, wire it."""
    server = view.name_servers.get(agent.spec.name_server_ref.name)
    names = {entry.channel_ref.name for entry in agent.spec.channels}
    plans = {name: plan_channel(view.channels[name], view) for name in names if name in view.channels}
    code = _code(agent, view)
    verdicts = [_name_server(agent, view), _channels(agent, view, plans), _accepted(agent, server)]
    if code is not None:
        verdicts.append(code)
    if server is None or not all(verdict.ok for verdict in verdicts):
        return AgentPlan(tuple(verdicts), None, None, agent.desired_replicas)
    wiring = _wiring(agent, server, view, plans)
    too_much = _fits(wiring)
    if too_much is not None:
        return AgentPlan(
            tuple(too_much if verdict.type == "Accepted" else verdict for verdict in verdicts), None, None, agent.desired_replicas
        )
    source = agent.spec.code.config_map_ref if agent.spec.code is not None else None
    content = view.code[source.name] if source is not None else None
    return AgentPlan(tuple(verdicts), wiring, intent_hash(agent, server, wiring, content), agent.desired_replicas)
