"""What should run: the bundle of manifests, judged by the planner, and written out as the files that processes read."""

from __future__ import annotations

import hashlib
import os
import uuid
from collections.abc import Mapping
from pathlib import Path

from ganglion.api import Agent, NameServer
from ganglion.local.attendant import JOIN_SECRET
from ganglion.local.bundle import Bundle, ConfigMap, Object
from ganglion.local.environment import Seat
from ganglion.planner import (
    AgentPlan,
    ChannelPlan,
    DomainView,
    NameServerAddress,
    allowed_templates,
    declared_roles,
    plan_agent,
    plan_channel,
    template_problem,
)
from ganglion.wire.admin import Copy, DeclaredAgent, DeclaredChannel, DeclaredTemplate, Domain


class Desired:
    """The manifests of a running domain, and everything derived from them.

    Args:
        bundle: exactly one NameServer and what belongs to it, judged without faults.
        address: of the name server.
        uid: of the NameServer.
        run: the run directory.
    """

    def __init__(self, bundle: Bundle, address: NameServerAddress, uid: str, run: Path) -> None:
        self._run = run
        self._uid = uid
        self._seats = 0
        self._address = address
        self._generations: dict[str, tuple[int, str]] = {}
        self.bundle = Bundle()
        self.copies: dict[str, str] = {}
        """Agents of the bundle that are copies → their templates."""
        self.plans: dict[str, AgentPlan] = {}
        self.channel_plans: dict[str, ChannelPlan] = {}
        self.set(bundle)

    @property
    def name_server(self) -> NameServer:
        """The NameServer, with its uid."""
        return next(iter(self.bundle.name_servers.values()))

    @property
    def token(self) -> Path:
        """File of the join secret."""
        return self._run / JOIN_SECRET

    @property
    def view(self) -> DomainView:
        """What the planner looks at."""
        return self.bundle.view({self.name_server.name: self._address})

    def set(self, bundle: Bundle) -> None:
        """Put other manifests in force."""
        self.bundle = bundle
        for kind in ("NameServer", "Channel", "Agent"):
            table = bundle.table(kind)
            for name, item in table.items():
                table[name] = item.model_copy(update={"metadata": item.metadata.model_copy(update=self._metadata(kind, name, item))})
        self.replan()

    def _metadata(self, kind: str, name: str, item: Object) -> Mapping[str, object]:
        """uid and generation, which a cluster's API server would keep."""
        digest = hashlib.sha256(repr(item.spec.to_dict()).encode()).hexdigest()
        generation, before = self._generations.get(f"{kind}/{name}", (0, ""))
        if digest != before:
            generation += 1
            self._generations[f"{kind}/{name}"] = (generation, digest)
        uid = self._uid if kind == "NameServer" else str(uuid.uuid5(uuid.UUID(self._uid), f"{kind}/{name}"))
        return {"generation": generation, "uid": uid}

    def replan(self) -> None:
        """Ask the planner again."""
        view = self.view
        self.channel_plans = {name: plan_channel(channel, view) for name, channel in self.bundle.channels.items()}
        self.plans = {name: plan_agent(agent, view) for name, agent in self.bundle.agents.items()}
        for name, plan in self.plans.items():
            if plan.wiring is not None and (path := self._wiring(name, plan)).exists():
                # The same intent may have another log level, with which a process that is started again begins.
                _replace(path, plan.wiring.to_json())

    def _wiring(self, name: str, plan: AgentPlan) -> Path:
        return self._run / "wiring" / f"{name}-{plan.intent}.json"

    def domain(self, completed: Mapping[str, int], troubles: Mapping[str, tuple[str, bool]]) -> Domain:
        """What the name server has to know.

        Args:
            completed: `run: Once` agents → replicas that succeeded.
            troubles: copies → (why it is not ready, whether it is over).
        """
        view = self.view
        nothing = ("", False)
        agents = {
            name: DeclaredAgent(
                name=name,
                replicas=agent.spec.replicas,
                run=agent.spec.run,
                roles={channel: sorted(roles) for channel, roles in declared_roles(agent, view).items()},
                log_level=agent.spec.log_level or "",
                completed=completed.get(name, 0),
                template=self.copies.get(name, ""),
                problem=troubles.get(name, nothing)[0],
                over=troubles.get(name, nothing)[1],
            )
            for name, agent in self.bundle.agents.items()
        }
        channels = {
            name: DeclaredChannel(name=name, pattern=channel.spec.pattern, delivery=channel.delivery)
            for name, channel in self.bundle.channels.items()
        }
        server = self.name_server
        templates = {
            name: DeclaredTemplate(
                max_copies=entry.max_copies,
                problem=template_problem(server.name, name, self.bundle.agents.get(name), is_copy=name in self.copies),
            )
            for name, entry in allowed_templates(server.spec).items()
        }
        return Domain(
            agents=agents,
            channels=channels,
            shutdown_timeout_seconds=float(server.spec.shutdown.timeout_seconds),
            templates=templates,
            copies=[Copy(name=name, template=template) for name, template in self.copies.items()],
        )

    def seat(self, agent: Agent, index: int, plan: AgentPlan) -> Seat:
        """A place for a new replica; its wiring document and code are written."""
        assert plan.wiring is not None
        assert plan.intent is not None
        self._seats += 1
        wiring = self._wiring(agent.name, plan)
        wiring.parent.mkdir(exist_ok=True)
        _replace(wiring, plan.wiring.to_json())
        return Seat(
            agent=agent,
            replica=f"{agent.name}-{index}",
            uid=str(uuid.uuid4()),
            run=self._run / str(self._seats),
            wiring=wiring,
            token=self.token,
            code=self._code(agent),
        )

    def _code(self, agent: Agent) -> Path | None:
        code = agent.spec.code
        if code is None:
            # As in a shell: what lies in the current folder can be imported.
            return Path.cwd() if agent.spec.class_ is not None else None
        if code.inline is not None:
            source = ConfigMap(f"{agent.name}-inline", {name: text.encode() for name, text in code.inline.items()})
        else:
            assert code.config_map_ref is not None
            source = self.bundle.config_maps[code.config_map_ref.name]
        if source.folder is not None:
            return Path(source.folder)
        folder = self._run / "code" / f"{source.name}-{source.digest}"
        if not folder.is_dir():
            part = folder.with_name(f".{folder.name}.{os.getpid()}")
            source.write(part)
            part.rename(folder)
        return folder


def _replace(path: Path, text: str) -> None:
    """Write what processes may be reading at this moment, unless it is there already."""
    if path.exists() and path.read_text(encoding="utf-8") == text:
        return
    part = path.with_name(f".{path.name}.{os.getpid()}")
    part.write_text(text, encoding="utf-8")
    part.rename(path)
