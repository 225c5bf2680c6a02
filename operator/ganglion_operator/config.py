"""Configuration of the operator: flags, each with an environment variable of the same name."""

from __future__ import annotations

import argparse
import json
import os
import re
import socket
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ganglion_operator.core.kinds import Body
from ganglion_operator.core.settings import PodSettings
from ganglion_operator.engine.controller import WORKERS
from ganglion_operator.engine.resync import INTERVAL_SECONDS

PREFIX = "GANGLION_OPERATOR_"
_DNS_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")


@dataclass(frozen=True, slots=True)
class Config:
    """What the administrator decides.

    Attributes:
        namespaces: namespaces to serve; None for all.
        namespace: the operator's own.
        identity: unique name of this process.
        health_host, health_port: where /livez, /readyz and /metrics answer; port 0 takes a free one.
        leader_elect: whether to wait for the Lease.
        resync_seconds: between two full lists.
    """

    pods: PodSettings
    namespaces: tuple[str, ...] | None
    namespace: str
    identity: str
    health_host: str
    health_port: int
    leader_elect: bool
    lease_name: str
    workers: int
    resync_seconds: float
    log_format: str
    log_level: str

    @property
    def canary_namespace(self) -> str:
        """A namespace that is watched for sure."""
        if self.namespaces is None or self.namespace in self.namespaces:
            return self.namespace
        return self.namespaces[0]


def _namespaces(text: str) -> tuple[str, ...] | None:
    names = tuple(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
    for name in names:
        if not _DNS_LABEL.fullmatch(name):
            raise argparse.ArgumentTypeError(f"found {name!r}; must be names of namespaces, separated by commas")
    return names or None


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())


def _resources(text: str) -> Body:
    try:
        value = json.loads(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f'found {text!r}; must be JSON such as {{"requests": {{"cpu": "10m"}}}}') from error
    if not isinstance(value, dict) or not value.keys() <= {"requests", "limits"}:
        raise argparse.ArgumentTypeError(f"found {text!r}; must be an object with `requests` and `limits`")
    return value


def _address(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    if not port.isdigit() or int(port) > 65535:
        raise argparse.ArgumentTypeError(f"found {text!r}; must be host:port or :port")
    return host.strip("[]") or "0.0.0.0", int(port)  # noqa: S104 - the kubelet's probes come from outside the pod


def _positive(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"found {text!r}; must be a positive number")
    return value


def _yes(text: str) -> bool:
    if text.lower() not in ("true", "false"):
        raise argparse.ArgumentTypeError(f"found {text!r}; must be true or false")
    return text.lower() == "true"


def _one_of(*choices: str) -> Callable[[str], str]:
    """argparse checks `choices` of flags only; a type is asked about variables, too."""

    def check(text: str) -> str:
        if text not in choices:
            raise argparse.ArgumentTypeError(f"found {text!r}; must be one of {', '.join(filter(None, choices))}")
        return text

    return check


_LEVEL = _one_of("DEBUG", "INFO", "WARNING", "ERROR")


class _Parser(argparse.ArgumentParser):
    """Every option takes its default from the environment."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        super().__init__(prog="ganglion_operator", description="Reconciles NameServers, Channels and Agents of ganglion.dev.")
        self._environment = environment

    def option(self, name: str, default: str | None, text: str, **more: Any) -> None:
        variable = PREFIX + name.upper().replace("-", "_")
        found = self._environment.get(variable) or default
        # A string default goes through `type`, so a bad variable is refused like a bad flag.
        self.add_argument(f"--{name}", default=found, required=found is None, help=f"{text} [${variable}]", **more)


def parse(arguments: Sequence[str] | None = None, environment: Mapping[str, str] = os.environ) -> Config:
    """Configuration from flags and environment.

    Raises:
        SystemExit: with status 2 and one line that names the option.
    """
    parser = _Parser(environment)
    pods = PodSettings(agent_image="")
    parser.option("agent-image", None, "image of sidecars, name servers and default agents")
    parser.option("agent-image-pull-policy", "", "its pull policy", type=_one_of("", "Always", "IfNotPresent", "Never"))
    parser.option("agent-image-pull-secrets", "", "Secrets with registry credentials, separated by commas", type=_names)
    parser.option("namespaces", "", "namespaces to serve, separated by commas; empty for all", type=_namespaces)
    parser.option("cluster-domain", "cluster.local", "DNS suffix of Services")
    parser.option("health-address", ":8080", "host:port of /livez, /readyz and /metrics", type=_address)
    parser.option("leader-elect", "true", "wait for the Lease before working", type=_yes)
    parser.option("lease-name", "ganglion-operator", "name of the Lease")
    parser.option("workers", str(WORKERS), "objects reconciled at a time", type=int)
    parser.option("resync-seconds", str(INTERVAL_SECONDS), "seconds between two full lists", type=_positive)
    parser.option("runtime-resources", json.dumps(pods.runtime_resources), "resources of sidecars, as JSON", type=_resources)
    parser.option("nameserver-resources", json.dumps(pods.nameserver_resources), "resources of name servers, as JSON", type=_resources)
    parser.option("eviction-seconds", str(pods.eviction_seconds), "how long pods stay on a node that is not ready", type=int)
    parser.option("log-format", "json", "format of log lines", type=_one_of("json", "text"))
    parser.option("log-level", "INFO", "least level of log lines", type=_LEVEL)
    parser.option("agent-log-level", "INFO", "the same for sidecars and agents", type=_LEVEL)
    parser.option("namespace", environment.get("POD_NAMESPACE") or "default", "the operator's own namespace")
    parser.option("identity", environment.get("POD_NAME") or socket.gethostname(), "unique name of this process")
    found = parser.parse_args(arguments)
    if found.workers < 1:
        parser.error(f"argument --workers: found {found.workers}; must be at least 1")
    host, port = found.health_address
    return Config(
        pods=PodSettings(
            agent_image=found.agent_image,
            pull_policy=found.agent_image_pull_policy or None,
            pull_secrets=found.agent_image_pull_secrets,
            cluster_domain=found.cluster_domain.strip("."),
            log_format=found.log_format,
            log_level=found.agent_log_level,
            runtime_resources=found.runtime_resources,
            nameserver_resources=found.nameserver_resources,
            eviction_seconds=found.eviction_seconds,
        ),
        namespaces=found.namespaces,
        namespace=found.namespace,
        identity=found.identity,
        health_host=host,
        health_port=port,
        leader_elect=found.leader_elect,
        lease_name=found.lease_name,
        workers=found.workers,
        resync_seconds=found.resync_seconds,
        log_format=found.log_format,
        log_level=found.log_level,
    )
