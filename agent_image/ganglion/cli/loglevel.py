"""`ganglion log-level`."""

from __future__ import annotations

import json
import os

import click

from ganglion.cli.common import ask, domain_option
from ganglion.cli.errors import EXIT_UNAVAILABLE, EXIT_USAGE, Failure
from ganglion.cli.programs import VARIABLES, find
from ganglion.runtime.logs import LEVELS

DEFAULT = "DEFAULT"


@click.command("log-level")
@click.argument("agent")
@click.argument("level", type=click.Choice([*LEVELS, DEFAULT], case_sensitive=False))
@domain_option
@click.option("--namespace", metavar="NAMESPACE", help="The agent is in a cluster, in this namespace.")
@click.option(
    "--context", metavar="NAME", help="The agent is in a cluster, of this context of kubectl; without --namespace in the namespace there."
)
@click.option(
    "--nameserver", "-n", metavar="HOST:PORT", help="The agent is one of run_agent, registered at this name server of run_nameserver."
)
@click.option(
    "--timeout", type=click.FloatRange(0.1, 600), default=2.0, show_default=True, help="Seconds that an agent of run_agent has to answer."
)
def log_level(
    agent: str, level: str, domain: str | None, namespace: str | None, context: str | None, nameserver: str | None, timeout: float
) -> None:
    """Change what an agent logs, all its replicas, while it runs, also while a handler hangs: LEVEL and what is more important.

    \b
    ganglion log-level worker DEBUG                       of the domain that `ganglion up` runs
    ganglion log-level worker DEBUG --namespace team      of a cluster, with your kubectl
    ganglion log-level alice DEBUG -n 127.0.0.1:12345     of run_agent

    Without options, and while no domain runs, GANGLION_NAMESERVER_ADDRESS names the name server of run_agent.

    Of an agent of a manifest it sets spec.logLevel; running replicas follow within about a second, none is replaced, and later ones begin
    so. DEFAULT removes it: back to the level of `ganglion up --log-level`, or of GANGLION_LOG_LEVEL in `env`. The manifest's own value
    comes back with the next `ganglion up` of a running domain, or `kubectl apply` of a manifest that has one. What the agent's code sets by
    set_log_level holds until the next change.

    An agent of run_agent has no DEFAULT. LEVEL is for its messages (log_debug, log_info, ...), to its logger and to its terminal.
    """
    cluster = namespace is not None or context is not None
    if cluster + (domain is not None) + (nameserver is not None) > 1:
        raise click.UsageError(
            "--domain is for agents that `up` runs, --namespace and --context for those of a cluster, --nameserver for those of run_agent; "
            "give one of them"
        )
    if not cluster and nameserver is None and domain is None:
        nameserver = _named()
    name = agent if nameserver is not None else agent.removeprefix("agent/")
    if nameserver is not None:
        _of_program(name, level, nameserver, timeout)
    elif cluster:
        _of_cluster(name, _spelled(level), namespace, context)
    else:
        ask(domain, "log-level", {"agent": name, "level": _spelled(level)})
    click.echo(f"{name} logs what it did at its start" if level == DEFAULT else f"{name} logs {level} and above")


def _spelled(level: str) -> str | None:
    """As in `spec.logLevel`."""
    return None if level == DEFAULT else level.capitalize()


def _named() -> str | None:
    """The name server that the environment names, while no domain runs."""
    from ganglion.local.state import running_domains

    if running_domains():
        return None
    found = next((value for name in VARIABLES if (value := os.environ.get(name))), None)
    if found is None:
        raise Failure(
            f"no domain is running here, --nameserver is not given, and {VARIABLES[0]} is not set; --namespace is for agents in a cluster",
            EXIT_UNAVAILABLE,
        )
    return found


def _of_cluster(agent: str, level: str | None, namespace: str | None, context: str | None) -> None:
    from ganglion.cli import kubectl

    where = ("--namespace", namespace) if namespace is not None else ()
    patch = json.dumps({"spec": {"logLevel": level}})
    command = (*kubectl.kubectl(context), *where, "patch", "agents.ganglion.dev", kubectl.checked("AGENT", agent))
    found = kubectl.ask((*command, "--type=merge", "-p", patch, "-o", "jsonpath={.spec.logLevel}")).strip()
    if found != (level or ""):
        # What the CRD does not have is dropped, and kubectl says no more than a warning.
        raise Failure(f"Agent/{agent}: the cluster did not take spec.logLevel; are its CRDs of an earlier version?")


def _of_program(agent: str, level: str, nameserver: str, timeout: float) -> None:
    if level == DEFAULT:
        raise Failure(f"LEVEL: {DEFAULT} is for agents of manifests; those of run_agent begin with INFO", EXIT_USAGE)
    from ganglion.imperative import calls
    from ganglion.imperative.errors import CallTimeout, CommunicationError

    record = find(agent, nameserver)
    try:
        calls.call(record.control, "set_log_level", (level,), life=record.life, timeout=timeout)
    except (CallTimeout, CommunicationError) as error:
        raise Failure(f"{agent}: {error}", EXIT_UNAVAILABLE) from error
