"""The Kubernetes API as the source of the domain: watches, counts in the status, Events."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import logging
import os
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import msgspec
from pydantic import ValidationError

from ganglion.api import Agent, Channel
from ganglion.api.base import API_VERSION, GROUP, VERSION
from ganglion.api.names import FIELD_MANAGER_NAMESERVER, LABEL_TEMPLATE
from ganglion.api.nameserver import MAX_COUNTED_AGENTS, MAX_COUNTED_CHANNELS, NameServerSpec
from ganglion.nameserver.domain import StatusSnapshot
from ganglion.nameserver.kubeapi import ApiAccess, ApiError, Backoff, KubeApi, UnreadableError
from ganglion.planner import DomainView, allowed_templates, declared_roles, template_problem
from ganglion.wire.admin import Copy, DeclaredAgent, DeclaredChannel, DeclaredTemplate, Domain, PostedNotice

log = logging.getLogger(__name__)

STATUS_SECONDS = 2.0
"""Shortest time between two writes of the status."""
_SETTLE_SECONDS = 0.05
"""Events of one `kubectl apply` are taken together."""
_SHORT_WATCH_SECONDS = 1.0
_DELETING_SECONDS = 3.0
_NOTICE_SECONDS = 10.0
"""The same notice becomes an Event at most so often; in between it is counted."""
_MAX_NOTICE_KEYS = 256
_EVENTS_PER_SECOND = 5.0
_FAILURES = (ApiError, UnreadableError, aiohttp.ClientError, TimeoutError, OSError, ValueError, KeyError)


@dataclass
class _Collection:
    """What is known of one kind, fed by list and watch."""

    plural: str
    selector: dict[str, str] = field(default_factory=dict)
    objects: dict[str, dict[str, Any]] = field(default_factory=dict)
    synced: bool = False


class KubernetesSource:
    """See the module. It keeps going through any outage of the API server; the domain stays as it was known last.

    Args:
        access: how to reach the API server.
        name, namespace, uid: of our NameServer; another uid under the name means that ours is gone.
        on_domain: the domain as declared now.
        counts: read when the status is written.
    """

    def __init__(
        self, access: ApiAccess, name: str, namespace: str, uid: str, *, on_domain: Callable[[Domain], None], counts: StatusSnapshot
    ) -> None:
        self._access = access
        self._name = name
        self._namespace = namespace
        self._uid = uid
        self._on_domain = on_domain
        self._counts = counts
        self._api: KubeApi | None = None
        self._servers = _Collection("nameservers", {"fieldSelector": f"metadata.name={name}"})
        self._channels = _Collection("channels")
        self._agents = _Collection("agents")
        self._changed = asyncio.Event()
        self._domain: Domain | None = None
        self._listed: list[Copy] = []
        self._parsed: dict[tuple[str, str], tuple[str, Agent | Channel | None]] = {}
        self._status_wanted = asyncio.Event()
        self._status_written: dict[str, Any] | None = None
        self._notices: dict[tuple[str, str, str], PostedNotice] = {}
        self._notice_times: dict[tuple[str, str, str], float] = {}
        self._notice_wanted = asyncio.Event()

    @classmethod
    def from_pod(
        cls, name: str, namespace: str, uid: str, *, on_domain: Callable[[Domain], None], counts: StatusSnapshot
    ) -> KubernetesSource:
        """With the pod's own service account.

        Raises:
            ConfigurationError: no service account is mounted.
        """
        return cls(ApiAccess.from_environment(), name, namespace, uid, on_domain=on_domain, counts=counts)

    # -- DomainSource --------------------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """See `DomainSource`."""
        self._api = KubeApi(self._access)
        async with asyncio.TaskGroup() as group:
            for collection in (self._servers, self._channels, self._agents):
                group.create_task(self._follow(collection))
            group.create_task(self._declare())
            group.create_task(self._write_status())
            group.create_task(self._write_events())

    async def deleting(self) -> bool:
        """See `DomainSource`. Rights that we had and lost go with a namespace that is being deleted."""
        if self._domain is not None and self._domain.deleting:
            return True
        if self._api is None:
            return False
        try:
            async with asyncio.timeout(_DELETING_SECONDS):
                found = await self._api.request("GET", self._path("nameservers", self._name))
        except ApiError as error:
            return error.status == 404 or (error.status in (401, 403) and self._servers.synced)
        except _FAILURES as error:
            log.warning("cannot ask whether NameServer %s is being deleted: %s; taking this for a restart", self._name, error)
            return False
        return self._is_deleting(found)

    def post(self, notice: PostedNotice) -> None:
        """See `DomainSource`."""
        key = (notice.reason, notice.channel, notice.replica)
        before = self._notices.get(key)
        if before is None and len(self._notices) >= _MAX_NOTICE_KEYS:
            return
        self._notices[key] = msgspec.structs.replace(notice, count=notice.count + before.count) if before is not None else notice
        self._notice_wanted.set()

    def status_changed(self) -> None:
        """See `DomainSource`."""
        self._status_wanted.set()

    async def close(self) -> None:
        """Idempotent."""
        if self._api is not None:
            await self._api.close()

    # -- reading -------------------------------------------------------------------------------------------------------------------

    def _path(self, plural: str, *rest: str) -> str:
        return "/".join((f"/apis/{GROUP}/{VERSION}/namespaces/{self._namespace}/{plural}", *rest))

    async def _follow(self, collection: _Collection) -> None:
        assert self._api is not None
        path, backoff, version = self._path(collection.plural), Backoff(), ""
        while True:
            try:
                if not version:
                    items, version = await self._api.list(path, collection.selector)
                    collection.objects = {item["metadata"]["name"]: item for item in items}
                    collection.synced = True
                    self._changed.set()
                began = time.monotonic()
                async with contextlib.aclosing(self._api.watch(path, version, collection.selector)) as events:
                    async for event in events:
                        backoff.reset()
                        version = event["object"]["metadata"]["resourceVersion"]
                        self._take(collection, event)
                if time.monotonic() - began < _SHORT_WATCH_SECONDS:
                    # Something between us and the server ends watches at once: that must not become a loop.
                    await backoff.wait()
            except ApiError as error:
                # 410: that version is compacted. Anything else may mean the same of a restored server: list again.
                version = ""
                if error.status != 410:
                    log.warning("watch of %s: %s; listing again", collection.plural, error)
                await backoff.wait()
            except _FAILURES as error:
                log.warning("watch of %s: %s: %s; going on from where it broke", collection.plural, type(error).__name__, error)
                await backoff.wait()

    def _take(self, collection: _Collection, event: dict[str, Any]) -> None:
        item = event["object"]
        if event["type"] in ("ADDED", "MODIFIED"):
            collection.objects[item["metadata"]["name"]] = item
        elif event["type"] == "DELETED":
            collection.objects.pop(item["metadata"]["name"], None)
        else:
            return
        self._changed.set()

    async def _declare(self) -> None:
        while True:
            await self._changed.wait()
            await asyncio.sleep(_SETTLE_SECONDS)
            self._changed.clear()
            if not all(collection.synced for collection in (self._servers, self._channels, self._agents)):
                continue
            domain = self._build()
            if domain != self._domain:
                self._domain = domain
                self._on_domain(domain)

    def _is_deleting(self, server: dict[str, Any] | None) -> bool:
        if server is None:
            return True
        metadata = server.get("metadata") or {}
        return metadata.get("uid") != self._uid or bool(metadata.get("deletionTimestamp"))

    def _build(self) -> Domain:
        server = self._servers.objects.get(self._name)
        deleting = self._is_deleting(server)
        if self._domain is None and server is not None and not deleting:
            # What is written from now on is ours; an empty list before this would end all copies.
            listed = (server.get("status") or {}).get("copies") or ()
            self._listed = [Copy(name=one["name"], template=one["template"]) for one in listed]
        known = {*(("Channel", name) for name in self._channels.objects), *(("Agent", name) for name in self._agents.objects)}
        self._parsed = {key: value for key, value in self._parsed.items() if key in known}
        channels = {name: item for name in self._channels.objects if isinstance(item := self._parse("Channel", name), Channel)}
        agents = {name: item for name in self._agents.objects if isinstance(item := self._parse("Agent", name), Agent)}
        view = DomainView(name_servers={}, channels=channels, agents=agents)
        shutdown = ((server or {}).get("spec") or {}).get("shutdown") or {}
        before = self._domain.shutdown_timeout_seconds if self._domain is not None else 60.0
        return Domain(
            agents={
                name: DeclaredAgent(
                    name=name,
                    replicas=agent.spec.replicas,
                    run=agent.spec.run,
                    roles={channel: sorted(roles) for channel, roles in sorted(declared_roles(agent, view).items())},
                    log_level=agent.spec.log_level or "",
                    completed=agent.status.succeeded,
                    **self._copied(name, agent),
                )
                for name, agent in sorted(agents.items())
            },
            channels={
                name: DeclaredChannel(name=name, pattern=channel.spec.pattern, delivery=channel.delivery)
                for name, channel in sorted(channels.items())
            },
            deleting=deleting,
            shutdown_timeout_seconds=float(shutdown.get("timeoutSeconds") or before),
            templates=self._templates(server, agents),
            copies=self._listed,
        )

    def _controlled(self, name: str) -> bool:
        """Whether an Agent is a copy: the only ones that their NameServer controls."""
        references = (self._agents.objects[name].get("metadata") or {}).get("ownerReferences") or ()
        return any(
            one.get("controller") and one.get("kind") == "NameServer" and str(one.get("apiVersion")).partition("/")[0] == GROUP
            for one in references
        )

    def _copied(self, name: str, agent: Agent) -> dict[str, Any]:
        """What is declared of a copy on top."""
        if not self._controlled(name):
            return {}
        ready = next((one for one in agent.status.conditions if one.type == "Ready"), None)
        problem = f"{ready.reason}: {ready.message}" if ready is not None and ready.status != "True" else ""
        over = ready is not None and ready.reason in ("Completed", "Failed")
        return {"template": agent.metadata.labels.get(LABEL_TEMPLATE, ""), "problem": problem, "over": over}

    def _templates(self, server: dict[str, Any] | None, agents: dict[str, Agent]) -> dict[str, DeclaredTemplate] | None:
        body = (server or {}).get("spec") or {}
        if not body.get("templates"):
            return {}
        try:
            spec = NameServerSpec.model_validate(body)
        except ValidationError as error:
            log.warning("NameServer %s: templates are not understood: %s", self._name, error.errors()[0]["msg"])
            return None
        found = {}
        for name, entry in allowed_templates(spec).items():
            # One of another NameServer is none of ours, and is told apart from one that does not exist by the operator.
            agent = agents.get(name)
            problem = template_problem(self._name, name, agent, is_copy=agent is not None and self._controlled(name))
            found[name] = DeclaredTemplate(max_copies=entry.max_copies, problem=problem)
        return found

    def _parse(self, kind: str, name: str) -> Agent | Channel | None:
        """An object of ours, or None: it belongs to another NameServer, or was stored under rules that this version does not know."""
        item = (self._agents if kind == "Agent" else self._channels).objects[name]
        metadata = item.get("metadata") or {}
        stamp = f"{metadata.get('uid')}/{metadata.get('resourceVersion')}"
        known = self._parsed.get((kind, name))
        if known is not None and known[0] == stamp:
            return known[1]
        parsed: Agent | Channel | None = None
        if (((item.get("spec") or {}).get("nameServerRef")) or {}).get("name") == self._name:
            try:
                parsed = Agent.parse(item) if kind == "Agent" else Channel.parse(item)
            except ValidationError as error:
                log.warning("%s %s is left out: %s", kind, name, error.errors()[0]["msg"])
        self._parsed[kind, name] = (stamp, parsed)
        return parsed

    # -- writing -------------------------------------------------------------------------------------------------------------------

    async def _write_status(self) -> None:
        assert self._api is not None
        backoff = Backoff(first=STATUS_SECONDS)
        while True:
            await self._status_wanted.wait()
            self._status_wanted.clear()
            status = self._status()
            if status == self._status_written or self._domain is None:
                await asyncio.sleep(STATUS_SECONDS / 4)
                continue
            body = {"apiVersion": API_VERSION, "kind": "NameServer", "metadata": {"name": self._name, "uid": self._uid}, "status": status}
            try:
                await self._api.request(
                    "PATCH",
                    self._path("nameservers", self._name, "status"),
                    body=body,
                    content_type="application/apply-patch+yaml",
                    params={"fieldManager": FIELD_MANAGER_NAMESERVER, "force": "true"},
                )
            except _FAILURES as error:
                if not self._domain.deleting:
                    log.warning("status of NameServer %s: %s: %s", self._name, type(error).__name__, error)
                await backoff.wait()
                continue
            backoff.reset()
            self._status_written = status
            await asyncio.sleep(STATUS_SECONDS)

    def _status(self) -> dict[str, Any]:
        return {
            "members": self._counts.members_count(),
            "agents": msgspec.to_builtins(self._counts.agent_counts()[:MAX_COUNTED_AGENTS]),
            "channels": msgspec.to_builtins(self._counts.channel_counts()[:MAX_COUNTED_CHANNELS]),
            "copies": msgspec.to_builtins(self._counts.copies()),
        }

    async def _write_events(self) -> None:
        assert self._api is not None
        backoff = Backoff(first=1.0)
        while True:
            await self._notice_wanted.wait()
            now = time.monotonic()
            due = [key for key in self._notices if now - self._notice_times.get(key, -_NOTICE_SECONDS) >= _NOTICE_SECONDS]
            if not due:
                if not self._notices:
                    self._notice_wanted.clear()
                await asyncio.sleep(1.0)
                continue
            for key in due:
                notice = self._notices.pop(key)
                self._notice_times[key] = now
                while len(self._notice_times) > _MAX_NOTICE_KEYS:
                    self._notice_times.pop(next(iter(self._notice_times)))
                try:
                    await self._api.request("POST", f"/apis/events.k8s.io/v1/namespaces/{self._namespace}/events", body=self._event(notice))
                    backoff.reset()
                    await asyncio.sleep(1.0 / _EVENTS_PER_SECOND)
                except _FAILURES as error:
                    # An Event is help for people, no record: it is dropped, the log has it.
                    log.warning("event %s: %s", notice.reason, error)
                    await backoff.wait()

    def _event(self, notice: PostedNotice) -> dict[str, Any]:
        channel = self._channels.objects.get(notice.channel)
        regarding: dict[str, Any] = {"apiVersion": API_VERSION, "kind": "NameServer", "name": self._name, "uid": self._uid}
        if channel is not None:
            regarding = {"apiVersion": API_VERSION, "kind": "Channel", "name": notice.channel, "uid": channel["metadata"].get("uid", "")}
        times = f" ({notice.count} {'messages' if notice.channel else 'times'})" if notice.count > 1 else ""
        body = {
            "apiVersion": "events.k8s.io/v1",
            "kind": "Event",
            "metadata": {"name": f"{self._name}.{uuid.uuid4().hex[:16]}", "namespace": self._namespace},
            "eventTime": dt.datetime.now(dt.UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
            "reportingController": f"{GROUP}/nameserver",
            "reportingInstance": os.environ.get("HOSTNAME", self._name)[:128],
            "action": "Observed",
            "reason": notice.reason,
            "type": "Warning",
            "regarding": {**regarding, "namespace": self._namespace},
            "note": f"{notice.replica}: {notice.message}{times}"[:1024] if notice.replica else f"{notice.message}{times}"[:1024],
        }
        if notice.replica:
            body["related"] = {"apiVersion": "v1", "kind": "Pod", "name": notice.replica, "namespace": self._namespace}
        return body
