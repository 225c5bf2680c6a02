"""One pass over a NameServer: its keys, Services, permissions and pod."""

from __future__ import annotations

import base64
import binascii

from ganglion.api import NameServer
from ganglion.api.names import AD_HOC_PORT, LABEL_NAMESERVER, NAMESERVER_PORT, agents_service
from ganglion.planner import NameServerObserved, merge_conditions, name_server_status
from ganglion_operator.core import copies
from ganglion_operator.core.actions import Action, Delete, Notice, Plan
from ganglion_operator.core.curve import fingerprint
from ganglion_operator.core.kinds import (
    CONFIGMAP,
    POD,
    ROLE,
    ROLE_BINDING,
    SECRET,
    SERVICE,
    SERVICE_ACCOUNT,
    STATEFULSET,
    Body,
    Key,
    Kind,
)
from ganglion_operator.core.meta import account, made, nameserver_selector, token_keys
from ganglion_operator.core.ownership import RECHECK_SECONDS, ensure, owned_by
from ganglion_operator.core.pods import JWKS_KEY, nameserver_pod
from ganglion_operator.core.rbac import NAMESERVER_RULES
from ganglion_operator.core.rollout import lost, ready
from ganglion_operator.core.snapshot import Around, NameServerSnapshot
from ganglion_operator.core.trouble import no_pods, trouble


def endpoint(server: NameServer, cluster_domain: str) -> str:
    """Where agents join. The final dot keeps resolvers from trying their search list."""
    return f"tcp://{server.name}.{server.namespace}.svc.{cluster_domain}.:{NAMESERVER_PORT}"


def looked_up(server: NameServer) -> list[tuple[Kind, str]]:
    """Objects that are not watched, so that a pass has to fetch them first."""
    wanted = [
        (SERVICE_ACCOUNT, account(server.name)),
        (ROLE, account(server.name)),
        (ROLE_BINDING, account(server.name)),
        (CONFIGMAP, token_keys(server.name)),
    ]
    if server.spec.security == "Curve" and server.status.key_secret:
        wanted.append((SECRET, server.status.key_secret))
    return wanted


def _public_key(secret: Body | None) -> str | None:
    try:
        return base64.b64decode((secret or {})["data"]["public"]).decode()
    except (KeyError, TypeError, UnicodeDecodeError, binascii.Error):
        return None


def service(server: NameServer) -> Body:
    """How agents find the name server."""
    ports = {"join": NAMESERVER_PORT} | ({"ad-hoc": AD_HOC_PORT} if server.spec.ad_hoc == "Allowed" else {})
    spec: Body = {
        "type": "ClusterIP",
        "selector": nameserver_selector(server.name),
        "ports": [{"name": name, "port": port, "targetPort": port, "protocol": "TCP"} for name, port in ports.items()],
    }
    return made(SERVICE, server, server.name, spec=spec)


def headless_service(server: NameServer) -> Body:
    """Names of the pods: peers must find each other before they are ready."""
    spec: Body = {
        "clusterIP": "None",
        "publishNotReadyAddresses": True,
        "selector": {LABEL_NAMESERVER: server.name},
    }
    return made(SERVICE, server, agents_service(server.name), spec=spec)


def statefulset(server: NameServer, template: Body) -> Body:
    """The one pod of the name server; its restart is invisible to running channels, so the cluster may roll it."""
    spec: Body = {
        "replicas": 1,
        "serviceName": agents_service(server.name),
        "selector": {"matchLabels": nameserver_selector(server.name)},
        "revisionHistoryLimit": 2,
        "template": template,
    }
    return made(STATEFULSET, server, server.name, spec=spec)


class _Pass:
    def __init__(self, snapshot: NameServerSnapshot, around: Around) -> None:
        self.snapshot = snapshot
        self.around = around
        self.server = snapshot.server
        self.actions: list[Action] = []
        self.conflict: str | None = None
        self.requeue: list[float] = []
        self.problem: tuple[str, str] | None = None
        self.public_key: str | None = None
        self.key_secret: str | None = None
        self.refused: tuple[str, ...] = ()

    def existing(self, kind: Kind, name: str) -> Body | None:
        return self.snapshot.existing(kind, name)

    def ensure(self, kind: Kind, desired: Body, *, immutable: bool = False) -> None:
        existing = self.existing(kind, desired["metadata"]["name"])
        result = ensure(kind, desired, self.server, existing, self.around.alive, immutable=immutable)
        if result.action is not None:
            self.actions.append(result.action)
        if result.conflict is not None:
            self.conflict = self.conflict or result.conflict
        if result.conflict is not None or result.waiting:
            self.requeue.append(RECHECK_SECONDS)

    def keys(self) -> None:
        """The pair in force, or a new one. Its Secret is made before the status tells the public half: agents trust what the status says."""
        if self.server.spec.security == "None":
            return
        status = self.server.status
        if status.key_secret and status.public_key:
            secret = self.existing(SECRET, status.key_secret)
            if owned_by(secret, self.server) and _public_key(secret) == status.public_key:
                self.key_secret, self.public_key = status.key_secret, status.public_key
                return
        pair = self.snapshot.fresh_keys()
        name = f"{self.server.name}-key-{fingerprint(pair.public)}"
        data = {key: base64.b64encode(value.encode()).decode() for key, value in pair._asdict().items()}
        self.ensure(SECRET, made(SECRET, self.server, name, type="Opaque", immutable=True, data=data), immutable=True)
        self.key_secret, self.public_key = name, pair.public

    def permissions(self) -> None:
        """The name server watches its domain, reports into its own status and posts Events; nothing else."""
        name = account(self.server.name)
        self.ensure(SERVICE_ACCOUNT, made(SERVICE_ACCOUNT, self.server, name))
        self.ensure(ROLE, made(ROLE, self.server, name, rules=[rule.render(self.server.name) for rule in NAMESERVER_RULES]))
        reference = {"apiGroup": ROLE.group, "kind": ROLE.kind, "name": name}
        subject = {"kind": SERVICE_ACCOUNT.kind, "name": name, "namespace": self.server.namespace}
        self.ensure(ROLE_BINDING, made(ROLE_BINDING, self.server, name, roleRef=reference, subjects=[subject]))

    def run(self) -> None:
        """Everything in the order in which it is needed."""
        tokens = self.snapshot.token_keys
        if tokens is None:
            self.problem = (
                "TokenKeysUnavailable",
                "the API server's token keys cannot be read; the operator needs `get` on /openid/v1/jwks and /.well-known/openid-configuration",
            )
            self.requeue.append(RECHECK_SECONDS)
            return
        self.keys()
        self.permissions()
        self.ensure(CONFIGMAP, made(CONFIGMAP, self.server, token_keys(self.server.name), data={JWKS_KEY: tokens.jwks}))
        self.ensure(SERVICE, service(self.server))
        self.ensure(SERVICE, headless_service(self.server))
        template = nameserver_pod(self.server, self.key_secret, tokens.issuer, self.around.settings)
        self.ensure(STATEFULSET, statefulset(self.server, template))

    def copies(self) -> None:
        """What programs ask for comes last: a refusal of it must not keep anything else from being done."""
        wanted, self.refused = copies.plan(self.snapshot)
        self.actions += wanted

    def nodes(self) -> None:
        due, wait = lost(self.snapshot.pods, self.around.nodes, self.around.now)
        for pod in due:
            metadata = pod["metadata"]
            key = Key(POD.kind, metadata["namespace"], metadata["name"])
            self.actions.append(Delete(POD, key, metadata["uid"], 0, f"node {pod['spec'].get('nodeName')} is lost"))
        if wait is not None:
            self.requeue.append(wait)

    def observed(self) -> NameServerObserved:
        problem = self.around.rejected or self.problem or trouble(self.snapshot.pods)
        workload = self.existing(STATEFULSET, self.server.name)
        if problem is None and workload is not None and owned_by(workload, self.server):
            problem, wait = no_pods(workload, 1, self.snapshot.pods, self.around.now)
            if wait is not None:
                self.requeue.append(wait)
        serving = any(ready(pod) for pod in self.snapshot.pods)
        return NameServerObserved(serving, problem, self.conflict, self.snapshot.agents, self.snapshot.channels, self.refused)


def plan_pass(snapshot: NameServerSnapshot, around: Around) -> Plan:
    """Everything to do for one NameServer now. Nothing is made while it is being deleted: owner references and its own pod end it."""
    server = snapshot.server
    work = _Pass(snapshot, around)
    if not server.deleting:
        work.run()
    work.nodes()
    if not server.deleting and work.problem is None:
        work.copies()
    observed = work.observed()
    generation = server.metadata.generation
    conditions = merge_conditions(server.status.conditions, name_server_status(server, observed, around.stamp), generation, around.stamp)
    fields = {"observed_generation": generation, "conditions": conditions}
    made_keys = work.key_secret is None or work.existing(SECRET, work.key_secret) is not None or around.rejected is None
    if not server.deleting and work.problem is None and made_keys:
        # The endpoint is shown with the keys: whoever reads one can use the other.
        fields |= {
            "endpoint": endpoint(server, around.settings.cluster_domain),
            "public_key": work.public_key,
            "key_secret": work.key_secret,
        }
    status = server.status.model_copy(update=fields)
    mine = {key: value for key, value in status.to_dict().items() if key not in ("members", "agents", "channels", "copies")}
    return Plan(
        actions=tuple(work.actions),
        status=mine if status != server.status else None,
        notices=_notices(server, observed),
        requeue_after=min(work.requeue, default=None),
    )


def _notices(server: NameServer, observed: NameServerObserved) -> tuple[Notice, ...]:
    if server.deleting:
        return ()
    before = {condition.type: condition.reason for condition in server.status.conditions}
    notices = []
    found = ("NameConflict", observed.conflict) if observed.conflict is not None else observed.problem
    if found is not None and before.get("Ready") != found[0]:
        notices.append(Notice("Warning", *found))
    if observed.refused and "CopiesAllowed" not in before:
        notices.append(Notice("Warning", "TemplateRefused", observed.refused[0]))
    return tuple(notices)
