"""What clients may ask of a running supervisor: `ganglion get`, `up` again, `scale`, `log-level`, `delete`, `down`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, get_args

from ganglion.api import Agent, ManifestError
from ganglion.api.agent import LogLevel
from ganglion.local.bundle import Bundle
from ganglion.local.check import judge, judge_limits
from ganglion.local.protocol import CommandError

if TYPE_CHECKING:
    from ganglion.local.supervisor import Supervisor

MAX_REPLICAS = 10_000
"""Bound of `spec.replicas`."""
_IMMUTABLE: dict[str, tuple[str, ...]] = {
    "Agent": ("name_server_ref", "run"),
    "Channel": ("name_server_ref", "pattern"),
    "NameServer": ("security",),
}


class Commands:
    """Dispatches the commands of one supervisor."""

    def __init__(self, supervisor: Supervisor) -> None:
        self._supervisor = supervisor

    async def handle(self, command: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """Serve one command.

        Raises:
            CommandError: it is unknown, or cannot be done.
        """
        match command:
            case "status":
                return self._supervisor.snapshot()
            case "apply":
                return await self._apply(arguments)
            case "scale":
                return await self._scale(str(arguments["agent"]), arguments["replicas"])
            case "log-level":
                return await self._log_level(str(arguments["agent"]), arguments["level"])
            case "delete":
                return await self._delete(str(arguments["kind"]), str(arguments["name"]))
            case "down":
                return await self._down()
            case _:
                raise CommandError(f"unknown command {command!r}; the supervisor is of another version: ganglion down, then up")

    def _refuse_at_the_end(self) -> None:
        if self._supervisor.ending:
            raise CommandError("the domain is shutting down; wait until it has ended, then start it again")

    async def _apply(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        self._refuse_at_the_end()
        try:
            newer = Bundle.from_json(arguments["bundle"])
        except ManifestError as error:
            raise CommandError(str(error)) from error
        before = self._supervisor.desired.bundle
        merged = before.merged(newer)
        faults = [str(fault) for fault in judge(merged).faults] + _immutable(before, newer)
        faults = faults or [str(fault) for fault in judge_limits(before, merged)]
        if faults:
            raise CommandError("\n".join(faults))
        old = {label: (generation, self._intent(label)) for label, generation in _generations(before).items()}
        await self._supervisor.put(merged)
        changes = {}
        for label, generation in _generations(self._supervisor.desired.bundle).items():
            if label not in old:
                changes[label] = "created"
            elif old[label] != (generation, self._intent(label)):
                changes[label] = "configured"
            else:
                changes[label] = "unchanged"
        kept = sorted(set(old) - set(_generations(newer)))
        return {"changes": changes, "kept": kept}

    def _intent(self, label: str) -> str | None:
        """Part of an agent's state that its generation does not show: the code's content."""
        kind, name = label.split("/", 1)
        plan = self._supervisor.desired.plans.get(name) if kind == "Agent" else None
        return plan.intent if plan is not None else None

    async def _scale(self, agent: str, replicas: object) -> dict[str, Any]:
        item = self._agent(agent)
        if not isinstance(replicas, int) or isinstance(replicas, bool) or not 0 <= replicas <= MAX_REPLICAS:
            raise CommandError(f"Agent/{agent}: spec.replicas: found {replicas!r}; must be 0 to {MAX_REPLICAS}")
        await self._edit(item, {"replicas": replicas})
        return {"before": item.spec.replicas, "replicas": replicas}

    async def _log_level(self, agent: str, level: object) -> dict[str, Any]:
        item = self._agent(agent)
        if level is not None and level not in get_args(LogLevel):
            raise CommandError(f"Agent/{agent}: spec.logLevel: found {level!r}; must be one of {', '.join(get_args(LogLevel))}, or null")
        if item.spec.class_ is None:
            raise CommandError(f"Agent/{agent} has no `class`: how much the program of its `container` logs is its own affair")
        # It helps nobody, and each start of an agent that fails counts for its `backoffLimit`.
        await self._edit(item, {"log_level": level}, retry=False)
        return {"before": item.spec.log_level, "level": level}

    def _agent(self, name: str) -> Agent:
        """The agent that a command is about."""
        self._refuse_at_the_end()
        agents = self._supervisor.desired.bundle.agents
        if name not in agents:
            raise CommandError(f"Agent/{name} does not exist; there are: {', '.join(sorted(agents)) or 'none'}")
        return agents[name]

    async def _edit(self, item: Agent, fields: Mapping[str, object], *, retry: bool = True) -> None:
        bundle = self._supervisor.desired.bundle.merged(Bundle())
        bundle.agents[item.name] = item.model_copy(update={"spec": item.spec.model_copy(update=fields)})
        faults = judge(bundle).faults or judge_limits(self._supervisor.desired.bundle, bundle)
        if faults:
            raise CommandError("\n".join(map(str, faults)))
        await self._supervisor.put(bundle, retry=retry)

    async def _delete(self, kind: str, name: str) -> dict[str, Any]:
        if kind == "NameServer":
            if name != self._supervisor.desired.name_server.name:
                raise CommandError(f"NameServer/{name} does not exist; this domain is {self._supervisor.desired.name_server.name}")
            return await self._down()
        self._refuse_at_the_end()
        bundle = self._supervisor.desired.bundle
        if kind not in ("Agent", "Channel"):
            raise CommandError(f"kind {kind!r} is unknown; must be nameserver, channel or agent")
        if name not in bundle.table(kind):
            raise CommandError(f"{kind}/{name} does not exist; there are: {', '.join(sorted(bundle.table(kind))) or 'none'}")
        if kind == "Agent":
            await self._supervisor.remove_agent(name)
        else:
            remaining = bundle.merged(Bundle())
            del remaining.channels[name]
            await self._supervisor.put(remaining)
        return {"deleted": f"{kind}/{name}"}

    async def _down(self) -> dict[str, Any]:
        self._supervisor.end("asked to go down: shutting down in order", 0 if self._supervisor.complete else 1)
        await self._supervisor.ended.wait()
        return {"killed": self._supervisor.killed, "failed": self._supervisor.failed}


def _generations(bundle: Bundle) -> dict[str, int]:
    return {
        f"{kind}/{name}": item.metadata.generation
        for kind in ("NameServer", "Channel", "Agent")
        for name, item in bundle.table(kind).items()
    }


def _immutable(before: Bundle, newer: Bundle) -> list[str]:
    """Fields that a cluster's API server would not let change (and the security of a domain that runs)."""
    faults = []
    for kind, fields in _IMMUTABLE.items():
        for name, item in newer.table(kind).items():
            old = before.table(kind).get(name)
            if old is None:
                continue
            for field in fields:
                if getattr(old.spec, field) != getattr(item.spec, field):
                    shown = type(item.spec).model_fields[field].alias or field
                    faults.append(f"{kind}/{name}: spec: `{shown}` is immutable; delete the object and create it again")
    if newer.name_servers and set(newer.name_servers) != set(before.name_servers):
        faults.append(f"NameServer/{next(iter(newer.name_servers))}: another domain; start it by itself")
    return faults
