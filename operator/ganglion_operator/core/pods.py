"""The pod of an agent and of a name server, as pure functions."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ganglion.api import Agent, NameServer
from ganglion.api.names import (
    AD_HOC_PORT,
    AD_HOC_RELAY_PORT,
    AGENT_CONTAINER,
    ANNOTATION_INTENT,
    ANNOTATION_WIRING,
    DATA_PORT_BASE,
    HEALTH_PORT,
    LABEL_AGENT,
    NAMESERVER_PORT,
    RUNTIME_CONTAINER,
    USER_ID,
    agents_service,
    token_audience,
)
from ganglion.planner import pod_grace
from ganglion.wiring import WiringDocument
from ganglion_operator.core.kinds import Body
from ganglion_operator.core.meta import account, agent_labels, nameserver_labels, token_keys
from ganglion_operator.core.settings import PodSettings

RUN_DIR = "/run/ganglion"
WIRING_DIR = "/etc/ganglion/wiring"
CODE_DIR = "/etc/ganglion/code"
TOKEN_DIR = "/var/run/secrets/ganglion"  # noqa: S105 - a path
KEY_DIR = "/etc/ganglion/keys"
TOKEN_KEYS_DIR = "/etc/ganglion/token-keys"  # noqa: S105 - a path
JWKS_KEY = "jwks.json"
TOKEN_SECONDS = 3600
"""Life of a join token; the kubelet renews it at 80 %."""
SECRET_MODE = 0o440
"""Of files from Secrets."""
RUN_DIR_SIZE = "16Mi"
"""Sockets, a counter, and ipc does not use the file system for data."""

_RESTRICTED: Body = {
    "allowPrivilegeEscalation": False,
    "readOnlyRootFilesystem": True,
    "runAsNonRoot": True,
    "capabilities": {"drop": ["ALL"]},
}


def _env(**values: str) -> list[Body]:
    return [{"name": name, "value": value} for name, value in values.items()]


def _field_env(name: str, path: str) -> Body:
    return {"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}}


def _probe(path: str, *, period: int, failures: int, timeout: int = 5) -> Body:
    return {
        "httpGet": {"path": path, "port": HEALTH_PORT},
        "periodSeconds": period,
        "failureThreshold": failures,
        "timeoutSeconds": timeout,
    }


def _probes() -> Body:
    """Start-up is generous (a busy node), readiness quick, liveness about the event loop alone."""
    return {
        "startupProbe": _probe("/startupz", period=1, failures=300),
        "readinessProbe": _probe("/readyz", period=2, failures=3),
        "livenessProbe": _probe("/livez", period=10, failures=6, timeout=10),
    }


def _image(image: str, policy: str | None) -> Body:
    return {"image": image, "imagePullPolicy": policy} if policy else {"image": image}


def _tolerations(own: Iterable[Any], settings: PodSettings) -> list[Body]:
    """The user's tolerations; pods leave a dead node sooner than the cluster's default of 300 s unless the user said otherwise."""
    mine: list[Body] = [toleration.to_dict() for toleration in own]
    for key in ("node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"):
        if not any(t.get("key") in (None, key) and t.get("effect") in (None, "NoExecute") for t in mine):
            mine.append({"key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": settings.eviction_seconds})
    return mine


def _pod_security() -> Body:
    return {
        "runAsNonRoot": True,
        "runAsUser": USER_ID,
        "runAsGroup": USER_ID,
        "fsGroup": USER_ID,
        "fsGroupChangePolicy": "OnRootMismatch",
        "seccompProfile": {"type": "RuntimeDefault"},
    }


def _mount(name: str, path: str, *, read_only: bool = True, sub_path: str | None = None) -> Body:
    mount: Body = {"name": name, "mountPath": path}
    if read_only:
        mount["readOnly"] = True
    if sub_path:
        mount["subPath"] = sub_path
    return mount


def runtime_container(agent: Agent, server: NameServer, image: str, settings: PodSettings) -> Body:
    """The sidecar: holds keys, token and network sockets."""
    identity = [
        _field_env("GANGLION_REPLICA", "metadata.name"),
        _field_env("GANGLION_REPLICA_UID", "metadata.uid"),
        _field_env("GANGLION_ADVERTISE_HOST", "status.podIP"),
    ]
    values = _env(
        GANGLION_WIRING=f"{WIRING_DIR}/wiring.json",
        GANGLION_RUN_DIR=RUN_DIR,
        GANGLION_TOKEN_FILE=f"{TOKEN_DIR}/token",
        GANGLION_PORT_BASE=str(DATA_PORT_BASE),
        GANGLION_HEALTH_PORT=str(HEALTH_PORT),
        GANGLION_LOG_FORMAT=settings.log_format,
        GANGLION_LOG_LEVEL=settings.log_level,
    )
    return {
        "name": RUNTIME_CONTAINER,
        **_image(image, settings.pull_policy),
        "restartPolicy": "Always",
        "command": ["ganglion"],
        "args": ["sidecar"],
        "env": [*identity, *values],
        "ports": [{"name": "health", "containerPort": HEALTH_PORT, "protocol": "TCP"}],
        **_probes(),
        # Runs before SIGTERM, while the agent still works: intake stops here. The sidecar has bounds of its own, which are shorter.
        "lifecycle": {"preStop": {"exec": {"command": ["ganglion", "drain", f"--timeout={pod_grace(agent, server)}"]}}},
        "resources": settings.runtime_resources,
        "securityContext": {**_RESTRICTED, "runAsUser": USER_ID, "runAsGroup": USER_ID},
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": [
            _mount("ganglion-run", RUN_DIR, read_only=False),
            _mount("ganglion-wiring", WIRING_DIR),
            _mount("ganglion-token", TOKEN_DIR),
        ],
    }


def _agent_env(agent: Agent, settings: PodSettings) -> list[Body]:
    env = [_field_env("GANGLION_REPLICA", "metadata.name")]
    if agent.spec.data_plane == "InProcess":
        env.append(_field_env("GANGLION_REPLICA_UID", "metadata.uid"))
        env.append(_field_env("GANGLION_ADVERTISE_HOST", "status.podIP"))
        env += _env(GANGLION_PORT_BASE=str(DATA_PORT_BASE))
    env += _env(GANGLION_WIRING=f"{WIRING_DIR}/wiring.json", GANGLION_RUN_DIR=RUN_DIR)
    env += _env(GANGLION_DOMAIN=f"{agent.namespace}/{agent.spec.name_server_ref.name}")
    if agent.spec.code is not None:
        env += _env(GANGLION_CODE_DIR=CODE_DIR)
    env += _env(GANGLION_LOG_FORMAT=settings.log_format, GANGLION_LOG_LEVEL=settings.log_level)
    user = [entry.to_dict() for entry in agent.spec.env or ()]
    named = {entry["name"] for entry in user}
    # Where both name a variable the user's one stays: names must be unique, and of ours only GANGLION_LOG_* is open to users.
    return [entry for entry in env if entry["name"] not in named] + user


def _user_mounts(agent: Agent, mounts: Iterable[Any] | None) -> list[Body]:
    """Mounts of the user's own volumes: the token and the sockets are not for them to mount."""
    own = {volume.name for volume in agent.spec.volumes or ()}
    return [mount.to_dict() for mount in mounts or () if mount.name in own]


def agent_container(agent: Agent, server: NameServer, default_image: str, settings: PodSettings) -> Body:
    """The user's code: never sees a token; sees a key only with `dataPlane: InProcess`."""
    spec, defaults = agent.spec, server.spec.agent_defaults
    if spec.container is not None:
        image = spec.container.image
        program: Body = {}
        if spec.container.command is not None:
            program["command"] = list(spec.container.command)
        if spec.container.args is not None:
            program["args"] = list(spec.container.args)
    else:
        image = spec.image or defaults.image or default_image
        program = {"command": ["ganglion"], "args": ["agent"]}
    policy = spec.image_pull_policy or defaults.image_pull_policy or (settings.pull_policy if image == default_image else None)
    mounts = _user_mounts(agent, spec.volume_mounts)
    paths = {mount["mountPath"].rstrip("/") for mount in mounts}
    mounts += [_mount("ganglion-run", RUN_DIR, read_only=False), _mount("ganglion-wiring", WIRING_DIR)]
    if spec.code is not None:
        mounts.append(_mount("ganglion-code", CODE_DIR))
    if "/tmp" not in paths:  # noqa: S108 - a mount point
        mounts.append(_mount("ganglion-tmp", "/tmp", read_only=False, sub_path=AGENT_CONTAINER))  # noqa: S108
    context = spec.security_context or defaults.security_context
    identity = {key: value for key, value in (context.to_dict() if context else {}).items() if key in ("runAsUser", "runAsGroup")}
    resources = spec.resources or defaults.resources
    body: Body = {
        "name": AGENT_CONTAINER,
        **_image(image, policy),
        **program,
        "env": _agent_env(agent, settings),
        "securityContext": {**_RESTRICTED, "runAsUser": USER_ID, "runAsGroup": USER_ID, **identity},
        # An exception in __init__ reaches the status of the Agent this way.
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": mounts,
    }
    if spec.env_from:
        body["envFrom"] = [source.to_dict() for source in spec.env_from]
    if resources is not None:
        body["resources"] = resources.to_dict()
    return body


def _extra_container(agent: Agent, extra: Any) -> Body:
    body = {key: value for key, value in extra.to_dict().items() if key != "volumeMounts"}
    mounts = _user_mounts(agent, extra.volume_mounts)
    if not any(mount["mountPath"].rstrip("/") == "/tmp" for mount in mounts):  # noqa: S108
        mounts.append(_mount("ganglion-tmp", "/tmp", read_only=False, sub_path=extra.name))  # noqa: S108
    return {**body, "securityContext": _RESTRICTED, "volumeMounts": mounts}


def _volumes(agent: Agent, server: NameServer, code_map: str | None) -> list[Body]:
    audience = token_audience(agent.namespace, server.metadata.uid, agent.name)
    token = {"serviceAccountToken": {"audience": audience, "expirationSeconds": TOKEN_SECONDS, "path": "token"}}
    wiring = {"path": "wiring.json", "fieldRef": {"fieldPath": f"metadata.annotations['{ANNOTATION_WIRING}']"}}
    volumes: list[Body] = [
        {"name": "ganglion-run", "emptyDir": {"medium": "Memory", "sizeLimit": RUN_DIR_SIZE}},
        {"name": "ganglion-wiring", "downwardAPI": {"items": [wiring]}},
        {"name": "ganglion-token", "projected": {"sources": [token]}},
        {"name": "ganglion-tmp", "emptyDir": {}},
    ]
    if code_map is not None:
        volumes.append({"name": "ganglion-code", "configMap": {"name": code_map}})
    return volumes + [_user_volume(volume.to_dict()) for volume in agent.spec.volumes or ()]


def _user_volume(volume: Body) -> Body:
    """A volume as the user wrote it. The files of a Secret are for the pod's group: the default of Kubernetes lets everybody read them."""
    secret = volume.get("secret")
    return volume if secret is None else {**volume, "secret": {**secret, "defaultMode": SECRET_MODE}}


def _spread(agent: Agent, constraints: Iterable[Body]) -> list[Body]:
    return [{"labelSelector": {"matchLabels": {LABEL_AGENT: agent.name}}, **constraint} for constraint in constraints]


def _pull_secrets(agent: Agent, server: NameServer, settings: PodSettings) -> list[Body]:
    own = agent.spec.image_pull_secrets or server.spec.agent_defaults.image_pull_secrets or ()
    return [{"name": name} for name in dict.fromkeys([*(ref.name for ref in own), *settings.pull_secrets])]


def agent_pod(
    agent: Agent,
    server: NameServer,
    wiring: WiringDocument,
    settings: PodSettings,
    *,
    intent: str,
    runtime_image: str,
    code_map: str | None,
) -> Body:
    """Pod template of an agent.

    Args:
        runtime_image: image of the sidecar, and of the agent when it names none.
        code_map: ConfigMap whose keys are the agent's files.
    """
    spec, defaults = agent.spec, server.spec.agent_defaults
    once = spec.run == "Once"
    node_selector = spec.node_selector if spec.node_selector is not None else defaults.node_selector
    affinity = spec.affinity if spec.affinity is not None else defaults.affinity
    spread = spec.topology_spread_constraints if spec.topology_spread_constraints is not None else defaults.topology_spread_constraints
    tolerations = spec.tolerations if spec.tolerations is not None else defaults.tolerations
    security = _pod_security()
    context = spec.security_context or defaults.security_context
    if context is not None and context.supplemental_groups:
        security["supplementalGroups"] = list(context.supplemental_groups)
    pod: Body = {
        "restartPolicy": "Never" if once else "Always",
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "subdomain": agents_service(server.name),
        "securityContext": security,
        "terminationGracePeriodSeconds": pod_grace(agent, server),
        # One dot is enough to be absolute: names inside the cluster are given in full, and each search suffix costs a look-up.
        "dnsConfig": {"options": [{"name": "ndots", "value": "1"}]},
        "tolerations": _tolerations(tolerations or (), settings),
        "initContainers": [runtime_container(agent, server, runtime_image, settings)],
        "containers": [
            agent_container(agent, server, runtime_image, settings),
            *(_extra_container(agent, extra) for extra in spec.extra_containers or ()),
        ],
        "volumes": _volumes(agent, server, code_map),
    }
    secrets = _pull_secrets(agent, server, settings)
    optional = {
        "imagePullSecrets": secrets or None,
        "serviceAccountName": spec.service_account_name,
        "nodeSelector": dict(node_selector) if node_selector else None,
        "affinity": affinity,
        "topologySpreadConstraints": _spread(agent, spread) if spread else None,
    }
    pod |= {key: value for key, value in optional.items() if value is not None}
    annotations = {
        ANNOTATION_INTENT: intent,
        ANNOTATION_WIRING: wiring.to_json(),
        "kubectl.kubernetes.io/default-container": AGENT_CONTAINER,
    }
    return {"metadata": {"labels": agent_labels(agent), "annotations": annotations}, "spec": pod}


def nameserver_pod(server: NameServer, key_secret: str | None, issuer: str, settings: PodSettings) -> Body:
    """Pod template of a name server.

    Args:
        key_secret: Secret with the CURVE key pair; None with `security: None`.
        issuer: expected `iss` of join tokens.
    """
    timeout = server.spec.shutdown.timeout_seconds
    values = _env(
        GANGLION_NAMESERVER=server.name,
        GANGLION_NAMESPACE=server.namespace,
        GANGLION_NAMESERVER_UID=server.metadata.uid,
        GANGLION_SECURITY=server.spec.security,
        GANGLION_JWKS_FILE=f"{TOKEN_KEYS_DIR}/{JWKS_KEY}",
        GANGLION_TOKEN_ISSUER=issuer,
        GANGLION_SHUTDOWN_TIMEOUT_SECONDS=str(timeout),
        GANGLION_HEALTH_PORT=str(HEALTH_PORT),
        GANGLION_LOG_FORMAT=settings.log_format,
        GANGLION_LOG_LEVEL=settings.log_level,
    )
    mounts = [_mount("ganglion-token-keys", TOKEN_KEYS_DIR), _mount("ganglion-tmp", "/tmp", read_only=False)]  # noqa: S108
    volumes: list[Body] = [
        {"name": "ganglion-token-keys", "configMap": {"name": token_keys(server.name)}},
        {"name": "ganglion-tmp", "emptyDir": {}},
    ]
    if key_secret is not None:
        values += _env(GANGLION_KEY_DIR=KEY_DIR)
        mounts.append(_mount("ganglion-keys", KEY_DIR))
        volumes.append({"name": "ganglion-keys", "secret": {"secretName": key_secret, "defaultMode": SECRET_MODE}})
    ports = {"join": NAMESERVER_PORT, "health": HEALTH_PORT}
    if server.spec.ad_hoc == "Allowed":
        ports["ad-hoc"] = AD_HOC_PORT
        values += _env(GANGLION_AD_HOC_ADDRESS=f"tcp://0.0.0.0:{AD_HOC_PORT}", GANGLION_REMOTE_CODE=server.spec.remote_code)
        # For forwarded ports alone: those reach a pod's own loopback address.
        values += _env(GANGLION_AD_HOC_RELAY=f"127.0.0.1:{AD_HOC_RELAY_PORT}")
    resources = server.spec.resources.to_dict() if server.spec.resources is not None else settings.nameserver_resources
    container: Body = {
        "name": "nameserver",
        **_image(settings.agent_image, settings.pull_policy),
        "command": ["ganglion"],
        "args": ["nameserver"],
        "env": values,
        "ports": [{"name": name, "containerPort": port, "protocol": "TCP"} for name, port in ports.items()],
        **_probes(),
        "resources": resources,
        "securityContext": {**_RESTRICTED, "runAsUser": USER_ID, "runAsGroup": USER_ID},
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": mounts,
    }
    pod: Body = {
        "serviceAccountName": account(server.name),
        "enableServiceLinks": False,
        "securityContext": _pod_security(),
        "terminationGracePeriodSeconds": timeout,
        "tolerations": _tolerations((), settings),
        "containers": [container],
        "volumes": volumes,
    }
    secrets = [ref.name for ref in server.spec.agent_defaults.image_pull_secrets or ()]
    names = list(dict.fromkeys([*secrets, *settings.pull_secrets]))
    if names:
        pod["imagePullSecrets"] = [{"name": name} for name in names]
    return {"metadata": {"labels": nameserver_labels(server)}, "spec": pod}
