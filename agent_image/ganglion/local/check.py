"""Judge a bundle before anything starts: the planner's verdicts, and what a machine without a cluster cannot do."""

from __future__ import annotations

from dataclasses import dataclass

from ganglion.api import Agent
from ganglion.local import limits
from ganglion.local.bundle import Bundle
from ganglion.local.manifests import Fault
from ganglion.planner import NameServerAddress, plan_agent, plan_channel

_UNUSED = ("volumes", "volume_mounts", "extra_containers", "service_account_name")
"""Fields whose absence a program would notice; images, resources and scheduling are silently the cluster's business."""

_OWN = ("NotFound", "OtherNameServer", "RoleNotInPattern")
"""Reasons of `ChannelsResolved` that are the agent's own mistake."""


@dataclass(frozen=True, slots=True)
class Judgement:
    """Outcome of `judge`: with `faults` nothing may start; `warnings` are for people."""

    faults: list[Fault]
    warnings: list[str]


def choose_domain(bundle: Bundle, wanted: str | None) -> tuple[Bundle, list[Fault]]:
    """Restrict a bundle to one NameServer and what belongs to it.

    Args:
        wanted: name of the NameServer; None: the only one there is.
    """
    names = sorted(bundle.name_servers)
    if wanted is not None and wanted not in names:
        return bundle, [Fault("", f"--nameserver: found {wanted!r}; the manifests hold {', '.join(names) or 'none'}")]
    if wanted is None and len(names) != 1:
        if not names:
            refs = [item.spec.name_server_ref for item in bundle.agents.values()] + [
                item.spec.name_server_ref for item in bundle.channels.values()
            ]
            referred = sorted({ref.name for ref in refs})
            which = f" (the objects refer to {', '.join(referred)})" if referred else ""
            return bundle, [Fault("", f"the manifests hold no NameServer{which}; add one")]
        return bundle, [Fault("", f"the manifests hold {len(names)} NameServers ({', '.join(names)}); run each with --nameserver NAME")]
    if wanted is None or len(names) == 1:
        return bundle, []
    keep = Bundle(
        {wanted: bundle.name_servers[wanted]},
        {name: item for name, item in bundle.channels.items() if item.spec.name_server_ref.name == wanted},
        {name: item for name, item in bundle.agents.items() if item.spec.name_server_ref.name == wanted},
        bundle.config_maps,
        bundle.secrets,
        bundle.places,
        bundle.notes,
    )
    return keep, []


def _environment(agent: Agent, bundle: Bundle) -> list[str]:
    problems = []
    for index, variable in enumerate(agent.spec.env or ()):
        source = variable.value_from
        if source is None:
            continue
        field = f"spec.env[{index}].valueFrom"
        if source.config_map_key_ref is not None and not source.config_map_key_ref.optional:
            ref = source.config_map_key_ref
            found = bundle.config_maps.get(ref.name)
            if found is None or ref.key not in found.files:
                problems.append(f"{field}.configMapKeyRef: ConfigMap {ref.name!r} with key {ref.key!r} is not in the manifests; add it")
        if source.secret_key_ref is not None and not source.secret_key_ref.optional:
            key = source.secret_key_ref
            if key.key not in bundle.secrets.get(key.name, {}):
                problems.append(f"{field}.secretKeyRef: Secret {key.name!r} with key {key.key!r} is not in the manifests; add it")
    for index, entry in enumerate(agent.spec.env_from or ()):
        if entry.config_map_ref is not None and entry.config_map_ref.name not in bundle.config_maps:
            problems.append(f"spec.envFrom[{index}].configMapRef: ConfigMap {entry.config_map_ref.name!r} is not in the manifests; add it")
        if entry.secret_ref is not None and entry.secret_ref.name not in bundle.secrets:
            problems.append(f"spec.envFrom[{index}].secretRef: Secret {entry.secret_ref.name!r} is not in the manifests; add it")
    return problems


def _laptop(agent: Agent, bundle: Bundle) -> list[str]:
    problems = _environment(agent, bundle)
    if agent.spec.container is not None and not agent.spec.container.command:
        problems.append("spec.container.command: required field is missing; without a cluster no image tells what to run")
    return problems


def judge(bundle: Bundle) -> Judgement:
    """Every verdict that keeps something from starting, in one go."""
    addresses = {name: NameServerAddress("tcp://127.0.0.1:0", "") for name in bundle.name_servers}
    view = bundle.view(addresses)
    faults: list[Fault] = []
    warnings: list[str] = []
    namespaces = {item.namespace for kind in ("NameServer", "Channel", "Agent") for item in bundle.table(kind).values()}
    if len(namespaces) > 1:
        faults.append(Fault("", f"metadata.namespace: found {', '.join(sorted(namespaces))}; everything must be in one namespace"))
    for name, channel in bundle.channels.items():
        label = f"Channel/{name}"
        plan = plan_channel(channel, view)
        for verdict in plan.verdicts:
            if verdict.ok:
                continue
            if verdict.type in ("NameServerResolved", "Accepted", "DeadLetterResolved"):
                faults.append(Fault(bundle.places.get(label, ""), f"{label}: {verdict.message}"))
            else:
                warnings.append(f"{label}: {verdict.reason}: {verdict.message}")
    for name, agent in bundle.agents.items():
        label = f"Agent/{name}"
        place = bundle.places.get(label, "")
        for verdict in plan_agent(agent, view).verdicts:
            # A channel's own mistake is told once, at the channel.
            inherited = verdict.type == "ChannelsResolved" and verdict.reason not in _OWN
            if not verdict.ok and not inherited:
                faults.append(Fault(place, f"{label}: {verdict.message}"))
        faults += [Fault(place, f"{label}: {problem}") for problem in _laptop(agent, bundle)]
        unused = [field for field in _UNUSED if getattr(agent.spec, field)]
        if unused:
            names = ", ".join(f"spec.{type(agent.spec).model_fields[field].alias or field}" for field in unused)
            warnings.append(f"{label}: {names}: not used without a cluster")
    return Judgement(faults, warnings)


def judge_limits(before: Bundle, after: Bundle) -> list[Fault]:
    """What this machine's limits keep from running, of which manifests know nothing.

    Args:
        before: what runs now.
        after: what should run, judged without faults.
    """
    found = limits.refusal(before.agents, after.agents)
    if found is None:
        return []
    label = f"Agent/{found[0]}"
    return [Fault(after.places.get(label, ""), f"{label}: {found[1]}")]
