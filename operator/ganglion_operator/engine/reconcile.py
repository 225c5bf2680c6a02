"""One reconciliation: gather, plan, act, tell. The only place where the pure plans meet the API."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from datetime import datetime
from typing import TypeVar

from pydantic import ValidationError

from ganglion.api import Agent, Channel, NameServer
from ganglion.api.nameserver import MAX_COUNTED_AGENTS, AgentCount, ChannelCount, Copy
from ganglion.planner import Verdict, merge_conditions, plan_agent
from ganglion_operator.core import agent as agents
from ganglion_operator.core import channel as channels
from ganglion_operator.core import nameserver as nameservers
from ganglion_operator.core.actions import Plan
from ganglion_operator.core.curve import KeyPair, key_pair
from ganglion_operator.core.kinds import (
    AGENT,
    CHANNEL,
    CONFIGMAP,
    DISRUPTION_BUDGET,
    KINDS,
    NAMESERVER,
    NODE,
    POD,
    STATEFULSET,
    Body,
    Key,
    Kind,
)
from ganglion_operator.core.meta import controller_of
from ganglion_operator.core.ownership import RECHECK_SECONDS, owned_by
from ganglion_operator.core.rollout import overdue
from ganglion_operator.core.snapshot import AgentSnapshot, Around, ChannelSnapshot, NameServerSnapshot
from ganglion_operator.engine.context import Engine
from ganglion_operator.engine.executor import Executor
from ganglion_operator.engine.pace import Pace
from ganglion_operator.engine.relations import intent_changed, wishes_changed
from ganglion_operator.engine.store import Entry
from ganglion_operator.engine.views import Invalid, Memo, View, intent, whole
from ganglion_operator.kube.errors import ApiError, ApiUnavailableError

logger = logging.getLogger(__name__)

STATUS_SECONDS = 1.0
"""Least time between two writes of an object's status that differ in numbers only, or in what every start goes through."""
COUNTER_SECONDS = 5.0
"""Least time between two writes of a channel's counters: a name server reports every two seconds, people look less often."""
LOOK_AGAIN_SECONDS = 3.0
"""After a pass that acted."""
LOOK_UP_SECONDS = 300.0
"""How long an object that is not watched is trusted to be as it was."""

C = TypeVar("C", AgentCount, ChannelCount)


class Reconciler:
    """Brings one key after the other to what its spec says."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._store = engine.store
        self._executor = Executor(engine)
        self._pending_keys: dict[Key, tuple[str, KeyPair]] = {}
        """NameServer → its UID and the keys that its status does not show yet."""
        self._told: dict[Key, float] = {}
        self._pace = Pace()
        self._decided: dict[Key, tuple[object, ...]] = {}

    async def __call__(self, key: Key) -> float | None:
        """One pass; returns seconds until the next one is wanted, or None.

        Raises:
            AgainError, ApiError, ApiUnavailableError: try again, later each time.
        """
        entry = self._store.get(key)
        if entry is None:
            self._told.pop(key, None)
            self._pace.forget(key)
            self._decided.pop(key, None)
            self._pending_keys.pop(key, None)
            return None
        model = whole(entry)
        if isinstance(model, Invalid):
            await self._refuse(entry, model)
            return None
        try:
            plan = await self._plan(entry, model, None)
            for action in plan.actions:
                await self._executor.run(key, action)
        except ApiError as error:
            if error.namespace_ending:
                return None
            if error.terminal:
                # A condition tells the user; the retry comes late, and at once when the spec changes.
                plan = await self._plan(entry, model, ("Rejected", f"the API server refuses it: {error.message}"))
                await self._tell(entry, model, plan)
            raise
        wait = await self._tell(entry, model, plan)
        if plan.actions:
            # The echoes of own writes wake nobody; what they lead to is looked at soon, or sooner when the cluster reacts.
            return LOOK_AGAIN_SECONDS if wait is None else min(wait, LOOK_AGAIN_SECONDS)
        return wait

    async def _plan(self, entry: Entry, model: Agent | Channel | NameServer, rejected: tuple[str, str] | None) -> Plan:
        match model:
            case Agent():
                snapshot = self._agent(entry, model)
                plan = agents.plan_pass(snapshot, await self._around(snapshot.pods, rejected))
                if entry.memo is not None:
                    entry.memo.settled = plan.settled
                return plan
            case Channel():
                view = self._engine.views.get(entry.key.namespace)
                if model.name not in view.domain.channels:
                    return Plan()
                self._spread(entry.key, view)
                channel = ChannelSnapshot(model, view.channel(model.name), self._count(ChannelCount, "channels", model))
                return channels.plan_pass(channel, await self._around((), rejected))
            case NameServer():
                await self._look_up(model)
                server = self._name_server(model)
                return nameservers.plan_pass(server, await self._around(server.pods, rejected))

    def _spread(self, key: Key, view: View) -> None:
        """Look at a channel's agents when what they are wired with changed: one agent's part can change the frames of all."""
        decided = view.decided(key.name)
        if self._decided.get(key) != decided:
            self._decided[key] = decided
            for referrer in self._engine.relations.referrers(key):
                self._engine.queue.add(referrer, initial=True)

    # ------------------------------------------------------------------ gathering

    def _agent(self, entry: Entry, agent: Agent) -> AgentSnapshot:
        key, namespace = entry.key, entry.key.namespace
        view = self._engine.views.get(namespace)
        server = view.domain.name_servers.get(agent.spec.name_server_ref.name)
        workload = self._fresh(agents.workload_kind(agent), namespace, agent.name)
        memo = self._memo(entry, view)
        return AgentSnapshot(
            agent=agent,
            metadata=entry.body["metadata"],
            server=server,
            plan=memo.plan,
            workload=workload,
            pods=self._pods(key, workload),
            budget=self._fresh(DISRUPTION_BUDGET, namespace, agent.name),
            code_maps=tuple(self._store.children(key, CONFIGMAP)),
            count=self._count(AgentCount, "agents", agent) if server is not None else None,
            counted=self._counts(agent) < MAX_COUNTED_AGENTS,
            settled=memo.settled,
        )

    def _memo(self, entry: Entry, view: View) -> Memo:
        """The plan of an agent, made anew when something that it is made of changed: thousands of passes look at numbers only."""
        agent = intent(entry)
        if not isinstance(agent, Agent):
            raise TypeError(f"{entry.key} has no valid intent")
        sources = view.sources(agent)
        memo: Memo | None = entry.memo
        if memo is None or memo.sources != sources:
            memo = entry.memo = Memo(sources, plan_agent(agent, view.domain))
        return memo

    def _counts(self, agent: Agent) -> int:
        """How many agents the NameServer counts."""
        entry = self._store.get(Key(NAMESERVER.kind, agent.namespace, agent.spec.name_server_ref.name))
        return len((entry.body.get("status") or {}).get("agents") or ()) if entry is not None else 0

    def _count(self, model: type[C], field: str, owner: Agent | Channel) -> C | None:
        """What the NameServer's latest status counts of an agent or channel."""
        entry = self._store.get(Key(NAMESERVER.kind, owner.namespace, owner.spec.name_server_ref.name))
        found = entry.count(field, owner.name) if entry is not None else None
        try:
            return model.model_validate(found) if found is not None else None
        except ValidationError:
            # Written under another version of the schema.
            return None

    def _name_server(self, server: NameServer) -> NameServerSnapshot:
        key = Key(NAMESERVER.kind, server.namespace, server.name)

        def find(kind: Kind, name: str) -> Body | None:
            return self._fresh(kind, server.namespace, name)

        def fresh_keys() -> KeyPair:
            # Kept until the status shows it: a pass that fails later must not leave one Secret after the other behind.
            uid, pair = self._pending_keys.get(key, ("", None))
            if pair is None or uid != server.metadata.uid:
                pair = key_pair(os.urandom(32))
                self._pending_keys[key] = server.metadata.uid, pair
            return pair

        if server.status.public_key:
            pending = self._pending_keys.get(key)
            if pending is not None and pending[1].public == server.status.public_key:
                del self._pending_keys[key]
        referrers = self._engine.relations.referrers(key)
        view = self._engine.views.get(server.namespace)
        return NameServerSnapshot(
            server=server,
            existing=find,
            fresh_keys=fresh_keys,
            token_keys=self._engine.token_keys,
            agents=sum(referrer.kind == AGENT.kind for referrer in referrers),
            channels=sum(referrer.kind == CHANNEL.kind for referrer in referrers),
            pods=self._pods(key, find(STATEFULSET, server.name)),
            copies=tuple(body for body in self._store.children(key, AGENT) if owned_by(body, server)),
            wanted=self._wanted(key),
            find=view.domain.agents.get,
            taken=lambda name: self._store.get(Key(AGENT.kind, server.namespace, name)) is not None,
        )

    def _wanted(self, key: Key) -> tuple[Copy, ...] | None:
        """Copies that a NameServer's status asks for, apart from the rest of it."""
        entry = self._store.get(key)
        listed = (entry.body.get("status") or {}).get("copies") if entry is not None else None
        if not isinstance(listed, list):
            return None
        try:
            return tuple(Copy.model_validate(one) for one in listed)
        except ValidationError:
            # Written under another version of the schema.
            return None

    def _pods(self, key: Key, workload: Body | None) -> tuple[Body, ...]:
        """Pods of the workload; those of a former life with the same labels are not counted."""
        uid = workload["metadata"].get("uid") if workload is not None else None
        return tuple(pod for pod in self._store.children(key, POD) if uid and (controller_of(pod) or {}).get("uid") == uid)

    def _fresh(self, kind: Kind, namespace: str, name: str) -> Body | None:
        """An object from the store; a stranger's is forgotten after a while, since nothing tells when it goes."""
        key = Key(kind.kind, namespace, name)
        entry = self._store.get(key)
        if entry is None:
            return None
        if (
            entry.looked_up is not None
            and entry.looked_up + RECHECK_SECONDS * 0.9 < self._engine.clock()
            and kind.watched
            and not _own(entry)
        ):
            self._store.discard(key)
            return None
        return entry.body

    async def _look_up(self, server: NameServer) -> None:
        """Fetch what is not watched, unless it was fetched lately."""
        if server.deleting:
            return
        now = self._engine.clock()
        key = Key(NAMESERVER.kind, server.namespace, server.name)
        for kind, name in nameservers.looked_up(server):
            entry = self._store.get(Key(kind.kind, server.namespace, name))
            if entry is not None and entry.looked_up is not None:
                patience = LOOK_UP_SECONDS if (controller_of(entry.body) or {}).get("uid") == server.metadata.uid else RECHECK_SECONDS * 0.9
                if entry.looked_up + patience > now:
                    continue
            if entry is not None:
                self._store.discard(entry.key)
            try:
                body = await self._engine.port.get(kind, server.namespace, name)
            except ApiError as error:
                if not error.not_found:
                    raise
            else:
                self._engine.learned(kind, body, by=key, looked_up=True)

    async def _around(self, pods: Sequence[Body], rejected: tuple[str, str] | None) -> Around:
        now = self._engine.now()
        return Around(self._engine.settings, now, self._alive, await self._nodes(pods, now), rejected)

    async def _nodes(self, pods: Sequence[Body], now: datetime) -> dict[str, bool | None]:
        """Whether the nodes of overdue pods are ready; asked for only then, so no watch of nodes is needed."""
        states: dict[str, bool | None] = {}
        for name in sorted(overdue(pods, now)):
            try:
                node = await self._engine.port.get(NODE, "", name)
            except ApiError as error:
                states[name] = False if error.not_found else None
            except ApiUnavailableError:
                states[name] = None
            else:
                conditions = (node.get("status") or {}).get("conditions") or ()
                states[name] = any(c.get("type") == "Ready" and c.get("status") == "True" for c in conditions)
        return states

    def _alive(self, reference: Body) -> bool:
        """Whether the owner that a reference names exists. Owners of other kinds are taken to be alive."""
        kind = KINDS.get(str(reference.get("kind")))
        if kind not in (AGENT, CHANNEL, NAMESERVER) or reference.get("apiVersion") != kind.api_version:
            return True
        return any(entry.uid == reference.get("uid") for entry in self._store.all(kind))

    # ------------------------------------------------------------------ telling

    async def _tell(self, entry: Entry, model: Agent | Channel | NameServer, plan: Plan) -> float | None:
        key = entry.key
        wait = plan.requeue_after
        if plan.status is None:
            self._pace.forget(key)
            return wait
        patience = _patience(model, plan.status)
        now = self._engine.clock()
        if patience:
            # The window of an object that was never told begins now: what its first seconds bring is one write.
            left = self._pace.due(key, self._told.setdefault(key, now) + patience, now) - now
            if left > 0:
                return min(left, wait) if wait is not None else left
        self._pace.forget(key)
        self._told[key] = now
        await self._write_status(entry, plan.status)
        for notice in plan.notices:
            try:
                await self._engine.port.post_event(entry.body, notice)
            except (ApiError, ApiUnavailableError) as error:
                # The condition says the same; an Event is a convenience.
                logger.warning("Event %s about %s was not posted: %s", notice.reason, key, error)
        return wait

    async def _write_status(self, entry: Entry, status: Body) -> None:
        kind = KINDS[entry.key.kind]
        body = {
            "apiVersion": kind.api_version,
            "kind": kind.kind,
            "metadata": {"name": entry.key.name, "namespace": entry.key.namespace, "uid": entry.uid},
            "status": status,
        }
        try:
            stored = await self._engine.port.apply_status(kind, body)
        except ApiError as error:
            # Gone, or another life of it: the watch tells.
            if not error.not_found and not error.conflict:
                raise
        else:
            change = self._store.apply(kind, stored)
            if change is not None:
                # A user's edit may be in the answer, too, or what a name server asks for; the watch tells of it later, when it is no news.
                news = intent_changed(change) or wishes_changed(change)
                self._engine.changed(change, without=None if news else entry.key)

    async def _refuse(self, entry: Entry, invalid: Invalid) -> None:
        """Tell that an object cannot be understood; nothing that runs for it is touched."""
        generation = int(entry.body["metadata"].get("generation") or 0)
        now = Around(self._engine.settings, self._engine.now(), self._alive).stamp
        verdicts = [Verdict(kind, "False", "Invalid", invalid.message) for kind in ("Ready", "Accepted")]
        old = [c for c in (entry.body.get("status") or {}).get("conditions") or () if isinstance(c, dict)]
        if {(c.get("type"), c.get("reason"), c.get("message"), c.get("observedGeneration")) for c in old} >= {
            (v.type, v.reason, v.message, generation) for v in verdicts
        }:
            return
        conditions = [condition.to_dict() for condition in merge_conditions((), verdicts, generation, now)]
        await self._write_status(entry, {"observedGeneration": generation, "conditions": conditions})


def _own(entry: Entry) -> bool:
    """Whether a watch follows the object."""
    return entry.owner is not None


def _judgement(status: Body) -> set[tuple[str, str, str]]:
    """What the conditions say, without their messages."""
    return {(c["type"], c["status"], c["reason"]) for c in status.get("conditions") or ()}


def _patience(model: Agent | Channel | NameServer, status: Body) -> float:
    """Seconds since the last write that a new status may wait for company: numbers may, news may not."""
    if isinstance(model, NameServer):
        # Agents wait for its keys.
        return 0.0
    old = model.status.to_dict()
    news = _judgement(status) - _judgement(old)
    if news and not all((kind, reason) in _EXPECTED or (state == "True" and kind != "Ready") for kind, state, reason in news):
        return 0.0
    plain = ("conditions", "bind", "delivery", "senders", "receivers", "observedGeneration")
    if isinstance(model, Channel) and all(old.get(name) == status.get(name) for name in plain):
        return COUNTER_SECONDS
    return STATUS_SECONDS


_EXPECTED = frozenset(
    {("Ready", "Starting"), ("Ready", "RollingOut"), ("PeersConnected", "NotJoined"), ("PeersConnected", "WaitingForPeers")}
)
"""What every start goes through."""
