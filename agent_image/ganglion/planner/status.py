"""From what is observed to the conditions and counts of a status. The operator observes pods, local mode processes."""

from __future__ import annotations

from dataclasses import dataclass

from ganglion.api import Agent, AgentStatus, Channel, ChannelStatus, NameServer
from ganglion.api.nameserver import MAX_COUNTED_AGENTS, MAX_COUNTED_CHANNELS, ChannelCount
from ganglion.planner.agents import AgentPlan
from ganglion.planner.channels import ChannelPlan
from ganglion.planner.verdicts import Verdict, first_failure, merge_conditions


@dataclass(frozen=True, slots=True)
class AgentObserved:
    """Pods (or processes) of one agent.

    Attributes:
        replicas, ready, updated: counts of existing, Ready, and current-intent pods.
        succeeded, failed: `run: Once` completions and failures; `finished` when all completed, `gave_up` at the backoff limit.
        problem: (reason, message) of the worst trouble seen in a pod, e.g. ("ImagePullBackOff", "...").
        joined, wired: as counted by the name server.
        counted: False when the name server counts only others: its list is full.
        conflict: message when a workload of the same name belongs to somebody else.
    """

    replicas: int = 0
    ready: int = 0
    updated: int = 0
    succeeded: int = 0
    failed: int = 0
    finished: bool = False
    gave_up: bool = False
    problem: tuple[str, str] | None = None
    joined: int = 0
    wired: int = 0
    counted: bool = True
    conflict: str | None = None
    spec_change_ignored: str | None = None


@dataclass(frozen=True, slots=True)
class ChannelObserved:
    """Traffic of one channel as counted by the name server."""

    count: ChannelCount | None = None


@dataclass(frozen=True, slots=True)
class NameServerObserved:
    """The name server's own pod (or process), how many Agents and Channels refer to the NameServer, and why copies were refused."""

    ready: bool = False
    problem: tuple[str, str] | None = None
    conflict: str | None = None
    agents: int = 0
    channels: int = 0
    refused: tuple[str, ...] = ()


def _peers(agent: Agent, observed: AgentObserved) -> Verdict:
    if not agent.spec.channels:
        return Verdict("PeersConnected", "True", "NoChannels", "")
    if observed.finished:
        return Verdict("PeersConnected", "Unknown", "Completed", "the run is over")
    if not observed.counted:
        return Verdict(
            "PeersConnected",
            "Unknown",
            "NotCounted",
            f"NameServer {agent.spec.name_server_ref.name!r} counts {MAX_COUNTED_AGENTS} other agents",
        )
    if observed.joined == 0:
        return Verdict("PeersConnected", "Unknown", "NotJoined", "no replica has joined the name server")
    if observed.wired < observed.joined:
        return Verdict(
            "PeersConnected", "False", "WaitingForPeers", f"{observed.wired} of {observed.joined} replicas have a peer on every channel"
        )
    return Verdict("PeersConnected", "True", "Connected", "")


def _failures(count: int) -> str:
    return "1 failure" if count == 1 else f"{count} failures"


def _agent_ready(agent: Agent, plan: AgentPlan, observed: AgentObserved) -> Verdict:
    failure = first_failure(plan.verdicts)
    if observed.conflict is not None:
        return Verdict("Ready", "False", "NameConflict", observed.conflict)
    if observed.finished:
        return Verdict("Ready", "True", "Completed", f"{observed.succeeded} of {agent.spec.replicas} completed")
    if observed.gave_up:
        reason, message = observed.problem or ("Failed", _failures(observed.failed))
        return Verdict("Ready", "False", "Failed", f"gave up after {_failures(observed.failed)}; last: {reason}: {message}")
    if failure is not None:
        return Verdict("Ready", "False", failure.reason, failure.message)
    if observed.problem is not None:
        return Verdict("Ready", "False", *observed.problem)
    if agent.spec.suspend:
        return Verdict("Ready", "False", "Suspended", "spec.suspend is true")
    if plan.replicas == 0:
        return Verdict("Ready", "True", "ScaledToZero", "")
    if agent.spec.run == "Once":
        done = observed.ready + observed.succeeded
        if done < plan.replicas:
            return Verdict(
                "Ready", "False", "Starting", f"{observed.ready} of {plan.replicas} replicas are ready, {observed.succeeded} completed"
            )
        return Verdict("Ready", "True", "Running", f"{observed.succeeded} of {plan.replicas} completed")
    if observed.updated < min(plan.replicas, observed.replicas):
        return Verdict("Ready", "False", "RollingOut", f"{observed.updated} of {plan.replicas} replicas run the current spec")
    if observed.ready < plan.replicas:
        return Verdict("Ready", "False", "Starting", f"{observed.ready} of {plan.replicas} replicas are ready")
    if observed.replicas > plan.replicas:
        extra = observed.replicas - plan.replicas
        return Verdict("Ready", "True", "ScalingDown", "1 replica is draining" if extra == 1 else f"{extra} replicas are draining")
    return Verdict("Ready", "True", "Running", f"{observed.ready} of {plan.replicas} replicas are ready")


def agent_status(agent: Agent, plan: AgentPlan, observed: AgentObserved, now: str) -> AgentStatus:
    """Status of an agent. `selector`, `runtimeImage` and `runtimeGeneration` are carried over; the operator sets them."""
    verdicts = [_agent_ready(agent, plan, observed), *plan.verdicts, _peers(agent, observed)]
    if agent.spec.run == "Once":
        if observed.finished:
            verdicts.append(Verdict("Complete", "True", "Completed", ""))
        elif observed.gave_up:
            verdicts.append(Verdict("Complete", "False", "Failed", "the backoff limit was reached"))
        else:
            verdicts.append(Verdict("Complete", "False", "Running", ""))
        if observed.spec_change_ignored is not None:
            verdicts.append(Verdict("SpecChangeIgnored", "True", "AlreadyStarted", observed.spec_change_ignored))
    generation = agent.metadata.generation
    return agent.status.model_copy(
        update={
            "observed_generation": generation,
            "conditions": merge_conditions(agent.status.conditions, verdicts, generation, now),
            "replicas": observed.replicas,
            "ready_replicas": observed.ready,
            "updated_replicas": observed.updated,
            "succeeded": observed.succeeded,
            "failed": observed.failed,
            "joined": observed.joined,
            "intent_hash": plan.intent if plan.intent is not None else agent.status.intent_hash,
        }
    )


def channel_status(channel: Channel, plan: ChannelPlan, observed: ChannelObserved, now: str) -> ChannelStatus:
    """Status of a channel: Ready when agents may use it and both roles are taken."""
    failure = first_failure(plan.verdicts)
    ready = (
        Verdict("Ready", "True", "Usable", plan.verdicts[-1].message)
        if failure is None
        else Verdict("Ready", "False", failure.reason, failure.message)
    )
    generation = channel.metadata.generation
    count = observed.count or ChannelCount(name=channel.name)
    return channel.status.model_copy(
        update={
            "observed_generation": generation,
            "conditions": merge_conditions(channel.status.conditions, (ready, *plan.verdicts), generation, now),
            "bind": channel.binder,
            "delivery": channel.delivery,
            "senders": plan.senders,
            "receivers": plan.receivers,
            "accepted": count.accepted,
            "acked": count.acked,
            "in_flight": count.in_flight,
            "dead_lettered": count.dead_lettered,
            "dropped": count.dropped,
            "delivered": count.delivered,
            "unaccounted": count.unaccounted,
        }
    )


def name_server_status(server: NameServer, observed: NameServerObserved, now: str) -> tuple[Verdict, ...]:
    """Verdicts of a NameServer: `Ready`, `Available`, `Counted` when its status cannot hold all counts, and `CopiesAllowed` when it asks for
    copies that are not made. The counts are its own."""
    return (*_serving(server, observed), *_counted(observed), *_copies(observed))


def _copies(observed: NameServerObserved) -> tuple[Verdict, ...]:
    if not observed.refused:
        return ()
    more = f" (and {len(observed.refused) - 1} more)" if len(observed.refused) > 1 else ""
    return (Verdict("CopiesAllowed", "False", "TemplateRefused", f"{observed.refused[0]}{more}"),)


def _counted(observed: NameServerObserved) -> tuple[Verdict, ...]:
    for found, most, what in ((observed.agents, MAX_COUNTED_AGENTS, "Agents"), (observed.channels, MAX_COUNTED_CHANNELS, "Channels")):
        if found > most:
            text = (
                f"found {found} {what} that refer to it; status.{what.lower()} counts {most} of them: use more NameServers, the rest works"
            )
            return (Verdict("Counted", "False", f"TooMany{what}", text),)
    return ()


def _serving(server: NameServer, observed: NameServerObserved) -> tuple[Verdict, ...]:
    if observed.conflict is not None:
        return (
            Verdict("Ready", "False", "NameConflict", observed.conflict),
            Verdict("Available", "False", "NameConflict", observed.conflict),
        )
    if server.deleting:
        text = "agents are being shut down in order"
        available: Verdict = Verdict("Available", "True" if observed.ready else "False", "ShuttingDown", text)
        return (Verdict("Ready", "False", "ShuttingDown", text), available)
    if observed.problem is not None:
        return (Verdict("Ready", "False", *observed.problem), Verdict("Available", "False", *observed.problem))
    if not observed.ready:
        text = "waiting for the name server's pod"
        return (Verdict("Ready", "False", "Starting", text), Verdict("Available", "False", "Starting", text))
    return (Verdict("Ready", "True", "Serving", ""), Verdict("Available", "True", "Serving", ""))
