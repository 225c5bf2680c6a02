"""One pass over an Agent: what to create, change and delete, and what its status is."""

from __future__ import annotations

from collections.abc import Iterable

from ganglion.api import Agent, AgentStatus, NameServer
from ganglion.api.names import LABEL_AGENT
from ganglion.planner import AgentObserved, agent_status
from ganglion.wiring import WiringDocument
from ganglion_operator.core.actions import Action, Apply, Delete, Notice, Patch, Plan, Settled
from ganglion_operator.core.copies import is_copy
from ganglion_operator.core.drift import identity
from ganglion_operator.core.kinds import AGENT, CONFIGMAP, DISRUPTION_BUDGET, JOB, POD, STATEFULSET, Body, Key, Kind
from ganglion_operator.core.meta import owner_reference
from ganglion_operator.core.ownership import RECHECK_SECONDS, Ensured, ensure, owned_by
from ganglion_operator.core.pods import agent_pod
from ganglion_operator.core.rollout import active, deleting, intent_of, lost, outdated, ready
from ganglion_operator.core.snapshot import AgentSnapshot, Around
from ganglion_operator.core.trim import spec_of
from ganglion_operator.core.trouble import no_pods, trouble
from ganglion_operator.core.workloads import code_map, disruption_budget, job, statefulset

WIRING_LIMIT = 200_000
"""Bytes; Kubernetes refuses more than 256 KiB of annotations on an object (TotalAnnotationSizeLimitB)."""


def workload_kind(agent: Agent) -> Kind:
    """Kind of the object that runs the agent's pods."""
    return JOB if agent.spec.run == "Once" else STATEFULSET


def _remove(kind: Kind, body: Body, why: str, grace: int | None = None) -> Delete:
    metadata = body["metadata"]
    return Delete(kind, Key(kind.kind, metadata["namespace"], metadata["name"]), metadata["uid"], grace, why)


def adoption(snapshot: AgentSnapshot) -> Action | None:
    """Make the NameServer an owner of the Agent (Cascade), or stop it being one (Orphan)."""
    server, agent = snapshot.server, snapshot.agent
    if server is None or server.deleting or is_copy(snapshot.metadata):
        return None
    references = snapshot.metadata.get("ownerReferences") or ()
    owned = any(reference.get("uid") == server.metadata.uid for reference in references)
    wanted = server.spec.deletion_policy == "Cascade"
    if owned == wanted:
        return None
    metadata: Body = {"name": agent.name, "namespace": agent.namespace, "uid": agent.metadata.uid}
    if wanted:
        metadata["ownerReferences"] = [owner_reference(server, controller=False)]
    return Apply(AGENT, {"apiVersion": AGENT.api_version, "kind": AGENT.kind, "metadata": metadata})


def runtime_image(agent: Agent, intent: str, current: str) -> str:
    """Image of the sidecar: pinned with the intent, so that an operator upgrade alone replaces nothing."""
    status = agent.status
    return status.runtime_image if status.runtime_image and status.intent_hash == intent else current


class _Pass:
    """One agent's plan while it is made."""

    def __init__(self, snapshot: AgentSnapshot, around: Around) -> None:
        self.snapshot = snapshot
        self.around = around
        self.agent = snapshot.agent
        self.kind = workload_kind(snapshot.agent)
        self.actions: list[Action] = []
        self.conflict: str | None = None
        self.requeue: list[float] = []
        self.image: str | None = None
        self.mounted: str | None = None
        self.ignored: str | None = None
        self.problem: tuple[str, str] | None = None
        self.unsettled = False
        self.settled: Settled | None = None
        mine = owned_by(snapshot.workload, snapshot.agent)
        self.workload = snapshot.workload if mine else None

    def _ensure(self, kind: Kind, desired: Body, existing: Body | None, *, immutable: bool = False) -> Ensured:
        result = ensure(kind, desired, self.agent, existing, self.around.alive, immutable=immutable)
        self.unsettled = self.unsettled or result != Ensured()
        if result.action is not None:
            self.actions.append(result.action)
        if result.conflict is not None:
            self.conflict = self.conflict or result.conflict
            self.requeue.append(RECHECK_SECONDS)
        if result.waiting:
            self.requeue.append(RECHECK_SECONDS)
        return result

    def start(self, wiring: WiringDocument, intent: str) -> None:
        """Create or change what runs the agent."""
        snapshot, agent = self.snapshot, self.agent
        server = snapshot.server
        if server is None:
            raise AssertionError("a wiring exists only with a NameServer")
        self.image = runtime_image(agent, intent, self.around.settings.agent_image)
        sources = (snapshot.plan, server, self.image, self.around.settings)
        existing = [body for body in (snapshot.workload, snapshot.budget, *snapshot.code_maps) if body is not None]
        found = tuple(identity(body) for body in existing)
        known = snapshot.settled
        if known is not None and known.sources == sources and known.found == found:
            self.settled = known
            self._roll(intent)
            self._former_code(known.code_map)
            return
        before = len(self.actions)
        rendered = self._render(wiring, intent, server, self.image)
        # An action may fail: the next pass must ask for it again.
        if rendered and self.kind is STATEFULSET and not self.unsettled and len(self.actions) == before:
            self.settled = Settled(sources, found, self.mounted)

    def _render(self, wiring: WiringDocument, intent: str, server: NameServer, image: str) -> bool:
        """Bring every object to its rendered form; False when it cannot be rendered."""
        snapshot, agent = self.snapshot, self.agent
        size = len(wiring.to_json().encode())
        if size > WIRING_LIMIT:
            self.problem = (
                "WiringTooLarge",
                f"spec.attributes and spec.channels make {size} bytes of wiring; must be at most {WIRING_LIMIT}; move data to spec.code or volumes",
            )
            return False
        files = code_map(agent)
        code = agent.spec.code
        mounted = files["metadata"]["name"] if files is not None else code.config_map_ref.name if code and code.config_map_ref else None
        if files is not None:
            existing = next((body for body in snapshot.code_maps if body["metadata"]["name"] == mounted), None)
            self._ensure(CONFIGMAP, files, existing, immutable=True)
        self.mounted = mounted
        template = agent_pod(agent, server, wiring, self.around.settings, intent=intent, runtime_image=image, code_map=mounted)
        if self.kind is JOB:
            self._job(template, intent)
        else:
            self._statefulset(template, intent)
        self._budget()
        self._former_code(mounted)
        return True

    def _statefulset(self, template: Body, intent: str) -> None:
        result = self._ensure(STATEFULSET, statefulset(self.agent, template, self.snapshot.plan.replicas), self.snapshot.workload)
        if result.action is None:
            self._roll(intent)

    def _roll(self, intent: str) -> None:
        """Replace pods of another intent, a few at a time."""
        if self.workload is None or deleting(self.workload):
            return
        status = self.workload.get("status") or {}
        if status.get("observedGeneration") != self.workload["metadata"].get("generation"):
            # Deleted now, a pod could come back from the template before the change.
            return
        for pod in outdated(self.snapshot.pods, intent, self.snapshot.plan.replicas, self.agent.spec.min_available):
            self.actions.append(_remove(POD, pod, "another intent"))

    def _job(self, template: Body, intent: str) -> None:
        desired = job(self.agent, template, intent)
        if self.workload is None:
            if self.snapshot.plan.replicas or self.snapshot.workload is not None:
                self._ensure(JOB, desired, self.snapshot.workload)
            return
        if deleting(self.workload) or _ended(self.workload):
            self.ignored = self._change(intent)
            return
        changed = self._change(intent)
        if changed is not None and not self._started():
            self.actions.append(_remove(JOB, self.workload, "changed before it started"))
            return
        self.ignored = changed
        self._resize(desired)

    def _change(self, intent: str) -> str | None:
        """Message when the spec is not the one that the Job runs."""
        if self.workload is None or intent_of(self.workload) == intent:
            return None
        return "the agent has started with an earlier spec and runs once; delete the Agent and create it again to run the new one"

    def _started(self) -> bool:
        status = (self.workload or {}).get("status") or {}
        return bool(
            status.get("startTime") or status.get("active") or status.get("succeeded") or status.get("failed") or self.snapshot.pods
        )

    def _resize(self, desired: Body) -> None:
        """Bring the few fields that a Job may change to what the spec says."""
        if self.workload is None:
            return
        found = spec_of(self.workload)
        # Zero replicas only suspend: a Job's completions cannot be zero.
        suspended = desired["spec"]["suspend"]
        fields = ["suspend", "backoffLimit"] if suspended else ["suspend", "backoffLimit", "completions", "parallelism"]
        change = {field: desired["spec"][field] for field in fields if found.get(field) != desired["spec"][field]}
        if change:
            self._patch(change)

    def _patch(self, spec: Body) -> None:
        if self.workload is not None:
            metadata = self.workload["metadata"]
            key = Key(self.kind.kind, metadata["namespace"], metadata["name"])
            self.actions.append(Patch(self.kind, key, {"metadata": {"uid": metadata["uid"]}, "spec": spec}))

    def hold(self) -> None:
        """Something is unresolved: what runs keeps running as it is, but replicas follow the spec."""
        if self.workload is None or deleting(self.workload):
            return
        found = spec_of(self.workload)
        if self.kind is STATEFULSET:
            if found.get("replicas") != self.snapshot.plan.replicas:
                self._patch({"replicas": self.snapshot.plan.replicas})
        elif not _ended(self.workload) and found.get("suspend", False) != (self.snapshot.plan.replicas == 0):
            self._patch({"suspend": self.snapshot.plan.replicas == 0})

    def _budget(self) -> None:
        desired, existing = disruption_budget(self.agent), self.snapshot.budget
        if desired is not None:
            self._ensure(DISRUPTION_BUDGET, desired, existing)
        elif existing is not None and owned_by(existing, self.agent) and not deleting(existing):
            self.actions.append(_remove(DISRUPTION_BUDGET, existing, "spec.minAvailable is not set"))

    def _former_code(self, current: str | None) -> None:
        """Remove former inline code when no pod can need it any more."""
        intent = self.snapshot.plan.intent
        if self.kind is JOB or any(intent_of(pod) != intent for pod in self.snapshot.pods):
            return
        for body in self.snapshot.code_maps:
            if body["metadata"]["name"] != current and owned_by(body, self.agent) and not deleting(body):
                self.actions.append(_remove(CONFIGMAP, body, "former code"))

    def nodes(self) -> None:
        """Remove pods whose node does not answer for them any more."""
        due, wait = lost(self.snapshot.pods, self.around.nodes, self.around.now)
        self.actions += [_remove(POD, pod, f"node {pod['spec'].get('nodeName')} is lost", grace=0) for pod in due]
        if wait is not None:
            self.requeue.append(wait)

    def observed(self) -> AgentObserved:
        """Counts and findings for the status."""
        snapshot = self.snapshot
        pods = [pod for pod in snapshot.pods if active(pod)]
        intent = snapshot.plan.intent or self.agent.status.intent_hash
        status = (self.workload or {}).get("status") or {}
        once = self.kind is JOB
        problem = self.around.rejected or self.problem or trouble(snapshot.pods if not once else _latest(snapshot.pods))
        if problem is None and self.workload is not None and not once:
            problem, wait = no_pods(self.workload, snapshot.plan.replicas, snapshot.pods, self.around.now)
            if wait is not None:
                self.requeue.append(wait)
        failure = _condition(status, "Failed") if once else None
        return AgentObserved(
            replicas=len(pods),
            ready=sum(ready(pod) for pod in pods),
            updated=sum(intent_of(pod) == intent for pod in pods),
            succeeded=int(status.get("succeeded") or 0) if once else 0,
            failed=int(status.get("failed") or 0) if once else 0,
            finished=once and _condition(status, "Complete") is not None,
            gave_up=failure is not None,
            problem=problem or (_reason(failure) if failure is not None else None),
            joined=snapshot.count.joined if snapshot.count is not None else 0,
            wired=snapshot.count.wired if snapshot.count is not None else 0,
            counted=snapshot.count is not None or snapshot.counted,
            conflict=self.conflict,
            spec_change_ignored=self.ignored,
        )


def _condition(status: Body, kind: str) -> Body | None:
    return next((c for c in status.get("conditions") or () if c.get("type") == kind and c.get("status") == "True"), None)


def _reason(condition: Body) -> tuple[str, str]:
    return str(condition.get("reason") or "Failed"), str(condition.get("message") or "")


def _ended(body: Body) -> bool:
    status = body.get("status") or {}
    return any(_condition(status, kind) is not None for kind in ("Complete", "Failed"))


def _latest(pods: Iterable[Body]) -> list[Body]:
    """The newest pod of each index of a Job: an earlier failure that was tried again is no trouble any more."""
    newest: dict[str, Body] = {}
    for pod in pods:
        labels = pod["metadata"].get("labels") or {}
        index = str(labels.get("batch.kubernetes.io/job-completion-index", pod["metadata"]["name"]))
        kept = newest.get(index)
        if kept is None or pod["metadata"].get("creationTimestamp", "") >= kept["metadata"].get("creationTimestamp", ""):
            newest[index] = pod
    return list(newest.values())


def _notices(old: AgentStatus, new: AgentStatus) -> tuple[Notice, ...]:
    """Events about Ready becoming false for a reason that somebody must act on."""
    quiet = {"Starting", "Suspended", "RollingOut", "Deleting", "KeysPending", "Rejected"}
    before = next((c for c in old.conditions if c.type == "Ready"), None)
    after = next((c for c in new.conditions if c.type == "Ready"), None)
    if after is None or after.status == "True" or after.reason in quiet:
        return ()
    if before is not None and (before.status, before.reason) == (after.status, after.reason):
        return ()
    return (Notice("Warning", after.reason, after.message),)


def plan_pass(snapshot: AgentSnapshot, around: Around) -> Plan:
    """Everything to do for one agent now. Nothing is created for an agent that is being deleted: its owner references end it."""
    agent = snapshot.agent
    if agent.deleting:
        return Plan()
    work = _Pass(snapshot, around)
    adopted = adoption(snapshot)
    if adopted is not None:
        work.actions.append(adopted)
    wiring, intent = snapshot.plan.wiring, snapshot.plan.intent
    if wiring is not None and intent is not None:
        work.start(wiring, intent)
    else:
        work.hold()
    work.nodes()
    observed = work.observed()
    status = agent_status(agent, snapshot.plan, observed, around.stamp)
    pinned: dict[str, object] = {"selector": f"{LABEL_AGENT}={agent.name}"}
    if work.image is not None and work.image != agent.status.runtime_image:
        pinned |= {"runtime_image": work.image, "runtime_generation": agent.metadata.generation}
    status = status.model_copy(update=pinned)
    return Plan(
        actions=tuple(work.actions),
        status=status.to_dict() if status != agent.status else None,
        notices=_notices(agent.status, status),
        requeue_after=min(work.requeue, default=None),
        settled=work.settled,
    )
