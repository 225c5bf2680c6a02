# mypy: allow-untyped-calls
"""The port over `kubernetes.aio`: plain JSON bodies, a bound on every call, one field manager."""

from __future__ import annotations

import asyncio
import json
import secrets
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import aiohttp
import msgspec
from kubernetes.aio.client import ApiClient, Configuration

from ganglion.api.names import FIELD_MANAGER
from ganglion_operator.core.actions import Notice
from ganglion_operator.core.kinds import EVENT, Body, Key, Kind
from ganglion_operator.core.snapshot import TokenKeys
from ganglion_operator.kube.errors import ApiError, ApiUnavailableError
from ganglion_operator.kube.port import Page
from ganglion_operator.metrics import Metrics

CALL_SECONDS = 15.0
CHUNK = 100
"""Objects per page: memory follows its size."""
MAX_CONNECTIONS = 32
_APPLY = "application/apply-patch+yaml"
_MERGE = "application/merge-patch+json"
_JSON = "application/json"


class KubernetesClient:
    """See `KubernetesPort`.

    Args:
        configuration: where the API server is, and who asks.
        component: name of the operator in Events.
        instance: this process, in Events.
    """

    def __init__(self, configuration: Configuration, metrics: Metrics, *, component: str, instance: str) -> None:
        configuration.connection_pool_maxsize = MAX_CONNECTIONS
        # The queue's back-off is the only one that retries.
        configuration.retries = None
        # Proxies come from the configuration. With aiohttp's own reading of the environment, each call asks a thread for ~/.netrc.
        configuration.client_session_kwargs = {"trust_env": False}
        self._api = ApiClient(configuration)
        self._api.user_agent = f"{component}/1"
        self._metrics = metrics
        self._component = component
        self._instance = instance

    async def get(self, kind: Kind, namespace: str, name: str) -> Body:
        return await self._call("GET", kind, kind.path(namespace, name))

    async def list(self, kind: Kind, namespace: str | None) -> AsyncIterator[Page]:
        query: dict[str, str] = {"limit": str(CHUNK)}
        if kind.selector:
            query["labelSelector"] = kind.selector
        while True:
            # A continue token that compaction outlived (410) is the caller's to retry: half a list must not be taken for a whole one.
            body = await self._call("GET", kind, kind.path(namespace), query=query)
            metadata = body.get("metadata") or {}
            yield Page(body.get("items") or [], int(metadata.get("resourceVersion") or 0))
            token = metadata.get("continue")
            if not token:
                return
            query["continue"] = token

    async def create(self, kind: Kind, body: Body) -> Body:
        query = {"fieldManager": FIELD_MANAGER}
        return await self._call("POST", kind, kind.path(body["metadata"]["namespace"]), query=query, body=body)

    async def apply(self, kind: Kind, body: Body) -> Body:
        return await self._apply(kind, body, None)

    async def apply_status(self, kind: Kind, body: Body) -> Body:
        return await self._apply(kind, body, "status")

    async def patch(self, kind: Kind, key: Key, body: Body) -> Body:
        query = {"fieldManager": FIELD_MANAGER}
        return await self._call("PATCH", kind, kind.path(key.namespace, key.name), query=query, body=body, content_type=_MERGE)

    async def delete(self, kind: Kind, key: Key, uid: str, grace: int | None) -> None:
        options: Body = {"apiVersion": "v1", "kind": "DeleteOptions", "preconditions": {"uid": uid}, "propagationPolicy": "Background"}
        if grace is not None:
            options["gracePeriodSeconds"] = grace
        await self._call("DELETE", kind, kind.path(key.namespace, key.name), body=options)

    async def post_event(self, about: Body, notice: Notice) -> None:
        metadata = about["metadata"]
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        body: Body = {
            "apiVersion": EVENT.api_version,
            "kind": EVENT.kind,
            # The name of an Event says nothing; it must be new.
            "metadata": {"name": f"{metadata['name']}.{secrets.token_hex(8)}", "namespace": metadata["namespace"]},
            "eventTime": now,
            "type": notice.severity,
            "reason": notice.reason,
            "action": "Reconciling",
            "note": notice.message[:1024],
            "reportingController": self._component,
            "reportingInstance": self._instance[:128],
            "regarding": {
                "apiVersion": about["apiVersion"],
                "kind": about["kind"],
                "name": metadata["name"],
                "namespace": metadata["namespace"],
                "uid": metadata["uid"],
            },
        }
        await self._call("POST", EVENT, EVENT.path(metadata["namespace"]), body=body)

    async def token_keys(self) -> TokenKeys:
        discovery = await self._call("GET", None, "/.well-known/openid-configuration")
        keys = await self._call("GET", None, "/openid/v1/jwks")
        return TokenKeys(issuer=str(discovery.get("issuer", "")), jwks=json.dumps(keys, sort_keys=True))

    async def close(self) -> None:
        await self._api.close()

    async def _apply(self, kind: Kind, body: Body, subresource: str | None) -> Body:
        metadata = body["metadata"]
        path = kind.path(metadata["namespace"], metadata["name"], subresource)
        query = {"fieldManager": FIELD_MANAGER, "force": "true"}
        return await self._call("PATCH", kind, path, query=query, body=body, content_type=_APPLY)

    async def _call(
        self,
        method: str,
        kind: Kind | None,
        path: str,
        *,
        query: dict[str, str] | None = None,
        body: Body | None = None,
        content_type: str = _JSON,
    ) -> Body:
        name = kind.kind if kind is not None else ""
        verb = "APPLY" if content_type == _APPLY else method
        started = time.monotonic()
        code = "none"
        try:
            async with asyncio.timeout(CALL_SECONDS):
                status, headers, data = await self._exchange(method, path, query or {}, body, content_type)
            code = str(status)
        except (TimeoutError, aiohttp.ClientError, OSError) as error:
            raise ApiUnavailableError(f"{method} {path}: {type(error).__name__}: {error}") from error
        finally:
            self._metrics.requests.labels(verb, name, code).inc()
            self._metrics.request_seconds.labels(verb).observe(time.monotonic() - started)
        return _answer(status, headers, data, f"{method} {path}")

    async def _exchange(
        self, method: str, path: str, query: dict[str, str], body: Body | None, content_type: str
    ) -> tuple[int, Any, bytes]:
        # The key set has a media type of its own.
        headers = {"Accept": f"{_JSON}, application/jwk-set+json", "Content-Type": content_type}
        # The body goes around `param_serialize`: it would walk through plain JSON to find models in it.
        _, url, headers, _, _ = await self._api.param_serialize(
            method, path, query_params=list(query.items()), header_params=headers, auth_settings=["BearerToken"]
        )
        timeout = aiohttp.ClientTimeout(total=CALL_SECONDS)
        response = await self._api.call_api(method, url, headers, body, _request_timeout=timeout)
        return response.status, response.headers, await response.read()


def _answer(status: int, headers: Any, data: bytes, call: str) -> Body:
    try:
        # Faster than json, and it keeps the names of fields once.
        body = msgspec.json.decode(data) if data else {}
    except (msgspec.MsgspecError, RecursionError):
        body = None
    if not isinstance(body, dict):
        if 200 <= status < 300:
            # Taken for an empty answer it would be an empty page: all objects gone.
            raise ApiUnavailableError(f"{call}: answer of {len(data)} bytes is no JSON object")
        body = {}
    if 200 <= status < 300:
        return body
    wait = headers.get("Retry-After", "")
    message = str(body.get("message") or data[:200].decode(errors="replace") or call)
    raise ApiError(status, str(body.get("reason") or "Unknown"), message, float(wait) if wait.isdigit() else None)
