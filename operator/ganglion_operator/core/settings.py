"""What the administrator decides about pods: images and defaults. Part of the operator's configuration, as plain data."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from ganglion_operator.core.kinds import Body


@dataclass(frozen=True, slots=True)
class PodSettings:
    """Defaults of the pods that the operator makes.

    Attributes:
        agent_image: image of sidecars, name servers, and agents that name no image.
        pull_policy: for that image; None leaves it to Kubernetes.
        pull_secrets: names of Secrets in the agents' namespaces that hold registry credentials for that image.
        cluster_domain: DNS suffix of Services.
        log_format, log_level: of sidecars, name servers and agents.
        runtime_resources, nameserver_resources: compute resources of a sidecar and of a name server that sets none.
        eviction_seconds: how long a pod stays bound to a node that is not ready or unreachable.
    """

    agent_image: str
    pull_policy: str | None = None
    pull_secrets: tuple[str, ...] = ()
    cluster_domain: str = "cluster.local"
    log_format: Literal["json", "text"] = "json"
    log_level: str = "INFO"
    runtime_resources: Body = field(default_factory=lambda: {"requests": {"cpu": "10m", "memory": "48Mi"}})
    # A thousand members take about 100 MiB. The limit bounds what a peer that sends without end can pin; libzmq knows no such bound.
    nameserver_resources: Body = field(
        default_factory=lambda: {"requests": {"cpu": "20m", "memory": "64Mi"}, "limits": {"memory": "512Mi"}}
    )
    eviction_seconds: int = 30
