"""The few calls that a name server makes to the Kubernetes API, with bounds on each."""

from __future__ import annotations

import asyncio
import json
import os
import random
import ssl
import time
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp

from ganglion.runtime.errors import ConfigurationError

SERVICE_ACCOUNT_DIR = Path("/var/run/secrets/kubernetes.io/serviceaccount")
REQUEST_SECONDS = 15.0
WATCH_SECONDS = 240
"""The server ends a watch after so long; a new one continues from the last resource version."""
SILENCE_SECONDS = 90.0
"""Bookmarks come about once a minute: a watch that says nothing for longer is dead without knowing it."""
_PAGE = 500
_MAX_LINE_BYTES = 8 * 1024 * 1024
_TOKEN_SECONDS = 30.0


class ApiError(Exception):
    """The API server answered with a failure."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(f"{status}: {message}")
        self.status = status


class UnreadableError(Exception):
    """What came is not what an API server sends."""


@dataclass(frozen=True, slots=True)
class ApiAccess:
    """Where the API server is and who we are there.

    Attributes:
        url: `https://host:port`.
        token_file: bearer token, read again regularly: projected tokens are renewed.
        ca_file: certificate authority of the server.
    """

    url: str
    token_file: Path
    ca_file: Path

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] | None = None) -> ApiAccess:
        """From what kubelet gives every pod with a service account. `GANGLION_SERVICE_ACCOUNT_DIR` replaces the usual directory.

        Raises:
            ConfigurationError: this is no such pod.
        """
        environ = os.environ if environ is None else environ
        host, port = environ.get("KUBERNETES_SERVICE_HOST"), environ.get("KUBERNETES_SERVICE_PORT_HTTPS") or "443"
        if not host:
            raise ConfigurationError("KUBERNETES_SERVICE_HOST: missing; outside a cluster set GANGLION_ADMIN_SOCKET")
        directory = Path(environ.get("GANGLION_SERVICE_ACCOUNT_DIR") or SERVICE_ACCOUNT_DIR)
        for name in ("token", "ca.crt"):
            if not (directory / name).is_file():
                raise ConfigurationError(f"{directory / name}: missing; the pod needs a service account with a mounted token")
        return cls(f"https://[{host}]:{port}" if ":" in host else f"https://{host}:{port}", directory / "token", directory / "ca.crt")


class KubeApi:
    """One keep-alive session. Make it in a running loop and close it."""

    def __init__(self, access: ApiAccess) -> None:
        self._access = access
        self._token = ""
        self._token_read = -_TOKEN_SECONDS
        self._session = aiohttp.ClientSession(
            base_url=access.url,
            connector=aiohttp.TCPConnector(ssl=ssl.create_default_context(cafile=access.ca_file), limit=8),
            timeout=aiohttp.ClientTimeout(total=REQUEST_SECONDS, sock_connect=5.0),
        )

    async def close(self) -> None:
        """Idempotent."""
        await self._session.close()

    def _headers(self) -> dict[str, str]:
        now = time.monotonic()
        if now - self._token_read >= _TOKEN_SECONDS:
            self._token, self._token_read = self._access.token_file.read_text(encoding="ascii").strip(), now
        return {"Authorization": f"Bearer {self._token}", "Accept": "application/json"}

    async def request(
        self, method: str, path: str, *, body: Any = None, content_type: str = "application/json", params: Mapping[str, str] | None = None
    ) -> dict[str, Any]:
        """One request within 15 s.

        Raises:
            ApiError: any status of 400 and above.
            aiohttp.ClientError, TimeoutError, OSError: no answer.
        """
        headers = {**self._headers(), **({"Content-Type": content_type} if body is not None else {})}
        data = json.dumps(body).encode() if body is not None else None
        async with self._session.request(method, path, data=data, headers=headers, params=params or {}) as response:
            text = await response.text()
            if response.status >= 400:
                raise ApiError(response.status, _message(text))
            answer = json.loads(text)
            if not isinstance(answer, dict):
                # Taken for an empty answer it would be an empty list: everything gone.
                raise UnreadableError(f"{method} {path}: the answer is no JSON object but {text[:64]!r}")
            return answer

    async def list(self, path: str, params: Mapping[str, str] | None = None) -> tuple[list[dict[str, Any]], str]:
        """(items, resource version) of a collection, read in pages. Raises as `request` does."""
        items: list[dict[str, Any]] = []
        query = {**(params or {}), "limit": str(_PAGE)}
        while True:
            page = await self.request("GET", path, params=query)
            metadata, found = page.get("metadata"), page.get("items") or []
            if not (isinstance(metadata, dict) and metadata.get("resourceVersion") and isinstance(found, list) and all(map(_named, found))):
                raise UnreadableError(f"GET {path}: the answer is no list of named objects with a resourceVersion")
            items.extend(found)
            if not metadata.get("continue"):
                return items, str(metadata["resourceVersion"])
            query["continue"] = str(metadata["continue"])

    async def watch(self, path: str, version: str, params: Mapping[str, str] | None = None) -> AsyncGenerator[dict[str, Any], None]:
        """Events after `version`, until the server ends the watch.

        Raises:
            ApiError: 410 means: list again.
            UnreadableError: a line that no API server sends: something in between has a fault; nothing is lost by going on from `version`.
            aiohttp.ClientError, TimeoutError, OSError: broken off, or silent for 90 s.
        """
        query = {
            **(params or {}),
            "watch": "true",
            "allowWatchBookmarks": "true",
            "resourceVersion": version,
            "timeoutSeconds": str(int(WATCH_SECONDS * random.uniform(0.75, 1.0))),  # noqa: S311 - jitter, no secret
        }
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=5.0, sock_read=SILENCE_SECONDS)
        async with self._session.get(path, headers=self._headers(), params=query, timeout=timeout) as response:
            if response.status >= 400:
                raise ApiError(response.status, _message(await response.text()))
            buffer = b""
            async for chunk in response.content.iter_any():
                buffer += chunk
                if len(buffer) > _MAX_LINE_BYTES:
                    raise ApiError(500, f"watch event of more than {_MAX_LINE_BYTES} bytes")
                *lines, buffer = buffer.split(b"\n")
                for line in lines:
                    if not line.strip():
                        continue
                    yield _event(line, path)


class Backoff:
    """Waits between attempts: doubled each time up to a bound, with jitter."""

    def __init__(self, first: float = 0.2, longest: float = 30.0) -> None:
        self._first = first
        self._longest = longest
        self._attempt = 0

    def reset(self) -> None:
        """It worked."""
        self._attempt = 0

    async def wait(self) -> None:
        """Until the next attempt."""
        seconds = min(self._longest, self._first * 2.0 ** min(self._attempt, 16))
        self._attempt += 1
        await asyncio.sleep(seconds * random.uniform(0.5, 1.0))  # noqa: S311 - jitter, no secret


def _named(item: Any) -> bool:
    metadata = item.get("metadata") if isinstance(item, dict) else None
    return isinstance(metadata, dict) and isinstance(metadata.get("name"), str)


def _event(line: bytes, path: str) -> dict[str, Any]:
    """One line of a watch: an event of a named object, or a bookmark, each with a resourceVersion."""
    try:
        event = json.loads(line)
    except ValueError:
        event = None
    body = event.get("object") if isinstance(event, dict) else None
    if isinstance(body, dict) and event.get("type") == "ERROR":
        code = body.get("code")
        raise ApiError(code if isinstance(code, int) else 500, str(body.get("message", "")))
    metadata = body.get("metadata") if isinstance(body, dict) else None
    if not (isinstance(metadata, dict) and metadata.get("resourceVersion") and (event.get("type") == "BOOKMARK" or _named(body))):
        raise UnreadableError(f"watch of {path}: a line of {len(line)} bytes is no event: {line[:64]!r}")
    return dict(event)


def _message(text: str) -> str:
    try:
        return str(json.loads(text).get("message", ""))[:512]
    except (ValueError, AttributeError):
        return text[:512]
