# mypy: allow-untyped-calls
"""Where the API server is and who asks: in a pod, or by a kubeconfig."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from kubernetes.aio.client import Configuration
from kubernetes.aio.config import load_incluster_config, load_kube_config

TOKEN_FILE = Path("/var/run/secrets/kubernetes.io/serviceaccount/token")


@dataclass(frozen=True, slots=True)
class Access:
    """Credentials in a form that every client understands. Tokens are short-lived: ask again."""

    server: str
    ca_path: str | None
    token: str | None
    certificate_path: str | None
    key_path: str | None
    insecure: bool


def in_pod() -> bool:
    """Whether the pod's service account is to be used."""
    return TOKEN_FILE.exists() and not os.environ.get("KUBECONFIG")


async def load_configuration() -> Configuration:
    """Configuration of the client: the pod's service account, else `$KUBECONFIG` or `~/.kube/config`.

    Raises:
        kubernetes.aio.config.ConfigException: neither is there.
    """
    configuration = Configuration()
    if in_pod():
        load_incluster_config(client_configuration=configuration)
    else:
        await load_kube_config(config_file=os.environ.get("KUBECONFIG") or "~/.kube/config", client_configuration=configuration)
    return configuration


async def current_access(configuration: Configuration) -> Access:
    """What `configuration` holds now, with a renewed token."""
    header = await configuration.get_api_key_with_prefix("BearerToken")
    token = header.split(" ", 1)[-1].strip() if header else None
    return Access(
        server=configuration.host,
        ca_path=configuration.ssl_ca_cert,
        token=token,
        certificate_path=configuration.cert_file,
        key_path=configuration.key_file,
        insecure=not configuration.verify_ssl,
    )
