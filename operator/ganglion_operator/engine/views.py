"""Models of the stored objects, and one view per namespace that lives until something in it changes its intent."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar, cast

from pydantic import ValidationError

from ganglion.api import Agent, Channel, NameServer
from ganglion.api.names import LABEL_CODE
from ganglion.api.rules import violations
from ganglion.planner import AgentPlan, ChannelPlan, DomainView, NameServerAddress, plan_channel
from ganglion_operator.core.actions import Settled
from ganglion_operator.core.kinds import AGENT, CHANNEL, CONFIGMAP, NAMESERVER, Key, Kind
from ganglion_operator.engine.relations import intent_changed
from ganglion_operator.engine.store import Change, Entry, Store

M = TypeVar("M", Agent, Channel, NameServer)
Model = Agent | Channel | NameServer
_ADVICE = "correct the object, or use an operator that knows its schema"
_MODELS: dict[str, type[Agent | Channel | NameServer]] = {"Agent": Agent, "Channel": Channel, "NameServer": NameServer}


@dataclass(frozen=True, slots=True)
class Invalid:
    """An object that this version's schema or rules refuse: stored while another version of them was installed."""

    message: str


_INTENT_METADATA = ("name", "namespace", "uid", "generation", "deletionTimestamp")


def _parse(entry: Entry) -> Model | Invalid:
    kind = entry.key.kind
    metadata = {name: value for name, value in entry.body["metadata"].items() if name in _INTENT_METADATA}
    try:
        model = _MODELS[kind].parse({"metadata": metadata, "spec": entry.body["spec"]})
    except ValidationError as error:
        return Invalid(_text(error, ""))
    broken = next(violations(kind, {"spec": model.spec.to_dict()}), None)
    return model if broken is None else Invalid(f"{broken[0]}: {broken[1]}; {_ADVICE}")


def _text(error: ValidationError, prefix: str) -> str:
    first = error.errors()[0]
    return f"{prefix}{'.'.join(map(str, first['loc']))}: {first['msg']}; {_ADVICE}"


def intent(entry: Entry) -> Model | Invalid:
    """The object without its status: what the planner looks at. Made once for each change of the spec."""
    if entry.intent is None:
        entry.intent = _parse(entry)
    return cast("Model | Invalid", entry.intent)


def whole(entry: Entry) -> Model | Invalid:
    """The object with its latest status; made for one pass, because thousands of statuses as models would take much memory."""
    model = intent(entry)
    if isinstance(model, Invalid):
        return model
    try:
        status = type(model.status).model_validate(entry.body.get("status") or {})
    except ValidationError:
        # Written under another version of the schema: it is derived, and is written anew.
        return model
    return model.model_copy(update={"status": status})


@dataclass(slots=True)
class Memo:
    """What is known of one agent as long as its intent is the same.

    Attributes:
        sources: what `plan` was made of.
        settled: what the last pass rendered and found in place.
    """

    sources: tuple[object, ...]
    plan: AgentPlan
    settled: Settled | None = None


class View:
    """One namespace as the planner sees it."""

    def __init__(self, domain: DomainView) -> None:
        self.domain = domain

    def channel(self, name: str) -> ChannelPlan:
        """Plan of a channel that exists."""
        return plan_channel(self.domain.channels[name], self.domain)

    def sources(self, agent: Agent) -> tuple[object, ...]:
        """All that `plan_agent` makes the plan of `agent` from; equal as long as it would make the same one."""
        domain, spec = self.domain, agent.spec
        server = spec.name_server_ref.name
        found: list[object] = [agent, domain.name_servers.get(server), domain.addresses.get(server)]
        for entry in spec.channels:
            name = entry.channel_ref.name
            channel = domain.channels.get(name)
            found.append(channel)
            if channel is not None:
                letters = self.channel(name).dead_letter
                found += [
                    domain.channels[letters] if letters is not None else None,
                    self.decided(name),
                    [verdict for verdict in self.channel(name).verdicts if not verdict.ok],
                ]
        if spec.code is not None and spec.code.config_map_ref is not None:
            found.append(domain.code.get(spec.code.config_map_ref.name))
        return tuple(found)

    def decided(self, name: str) -> tuple[object, ...]:
        """What the wiring of a channel's agents takes from decisions about the channel, beyond its spec."""
        plan = self.channel(name)
        decided: tuple[object, ...] = (plan.usable, plan.carrier, plan.frames, plan.dead_letter)
        if plan.dead_letter is None:
            return decided
        target = self.channel(plan.dead_letter)
        return (*decided, self.domain.channels[plan.dead_letter].metadata.generation, target.usable, target.frames)


class Views:
    """Views by namespace, kept while they hold."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._views: dict[str, View] = {}

    def changed(self, change: Change) -> None:
        """Make the view follow, or drop it."""
        key = change.key
        if key.kind not in ("NameServer", "Channel", "Agent", "ConfigMap") or not intent_changed(change):
            return
        view = self._views.get(key.namespace)
        if view is not None and key.kind == "Agent":
            # One of thousands: the others are not indexed again for it.
            model = intent(change.new) if change.new is not None else None
            view.domain.put_agent(key.name, model if isinstance(model, Agent) else None)
        else:
            self._views.pop(key.namespace, None)

    def get(self, namespace: str) -> View:
        """The view of a namespace."""
        view = self._views.get(namespace)
        if view is None:
            view = self._views[namespace] = View(self._build(namespace))
        return view

    def _models(self, kind: Kind, model: type[M], namespace: str) -> dict[str, M]:
        found = ((entry.key.name, intent(entry)) for entry in self._store.all(kind, namespace))
        return {name: body for name, body in found if isinstance(body, model)}

    def _build(self, namespace: str) -> DomainView:
        servers = self._models(NAMESERVER, NameServer, namespace)
        addresses = {}
        for name, server in servers.items():
            entry = self._store.get(Key(NAMESERVER.kind, namespace, name))
            status = (entry.body.get("status") or {}) if entry is not None else {}
            endpoint, key = status.get("endpoint"), status.get("publicKey") if server.spec.security == "Curve" else ""
            if endpoint and key is not None:
                addresses[name] = NameServerAddress(endpoint, key)
        code = {
            entry.key.name: str(entry.body["contentHash"])
            for entry in self._store.all(CONFIGMAP, namespace)
            if LABEL_CODE in (entry.body["metadata"].get("labels") or {})
        }
        return DomainView(
            name_servers=servers,
            channels=self._models(CHANNEL, Channel, namespace),
            agents=self._models(AGENT, Agent, namespace),
            addresses=addresses,
            code=code,
        )
