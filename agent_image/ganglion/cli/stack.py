"""`ganglion stack`."""

from __future__ import annotations

import os
from typing import Any

import click

from ganglion.cli.common import ask, domain_option
from ganglion.cli.errors import Failure
from ganglion.cli.programs import VARIABLES, find


@click.command()
@click.argument("agent")
@domain_option
@click.option(
    "--nameserver", "-n", metavar="HOST:PORT", help="The agent is one of run_agent, registered at this name server of run_nameserver."
)
@click.option(
    "--timeout", type=click.FloatRange(0.1, 600), default=2.0, show_default=True, help="Seconds that each process has to describe itself."
)
def stack(agent: str, domain: str | None, nameserver: str | None, timeout: float) -> None:
    """Show the Python stacks of all threads and tasks of an agent (all its replicas, or one: NAME-0). It is not stopped, and may hang.

    AGENT is one of the domain that `ganglion up` runs, or with --nameserver one that a program has made with run_agent; without both
    options, and while no domain runs, GANGLION_NAMESERVER_ADDRESS names the name server.
    """
    if nameserver is not None and domain is not None:
        raise click.UsageError("--domain is for agents of manifests, --nameserver for those of run_agent; give one of them")
    if nameserver is None and domain is None:
        from ganglion.local.state import running_domains

        if not running_domains():
            nameserver = next((value for name in VARIABLES if (value := os.environ.get(name))), None)
    if nameserver is not None:
        click.echo(_of_program(agent, nameserver, timeout), nl=False)
    else:
        _of_manifest(agent.removeprefix("agent/"), domain, timeout)


def _of_manifest(agent: str, domain: str | None, timeout: float) -> None:
    from ganglion.runtime.stacks import StacksUnavailable
    from ganglion.runtime.stacks import ask as ask_process

    rows: list[dict[str, Any]] = ask(domain, "status")["replicas"]
    wanted = [row for row in rows if agent in (row["name"], row["agent"])]
    if not wanted:
        known = ", ".join(sorted({str(row["agent"]) for row in rows})) or "none"
        raise Failure(f"agent {agent!r} does not exist; there are: {known}")
    failures = []
    for row in wanted:
        if row["pid"] is None:
            failures.append(f"{row['name']}: no process runs; its state is {row['state']}")
            continue
        try:
            text = ask_process(int(row["pid"]), timeout=timeout)
        except StacksUnavailable as error:
            failures.append(f"{row['name']}: {error}")
        else:
            click.echo(f"{row['name']} (process {row['pid']})\n\n{text}")
    if failures:
        raise Failure("\n".join(failures))


def _of_program(agent: str, nameserver: str, timeout: float) -> str:
    from ganglion.imperative import calls
    from ganglion.imperative.errors import CallTimeout, CommunicationError
    from ganglion.imperative.life import STACKS, stacks_file
    from ganglion.runtime.stacks import StacksUnavailable
    from ganglion.runtime.stacks import ask as ask_process

    record = find(agent, nameserver)
    try:
        text = str(calls.call(record.control, STACKS, life=record.life, timeout=timeout))
    except CallTimeout:
        # Its control thread does not get the interpreter. When it runs on this machine, the kernel reaches it.
        try:
            text = ask_process(record.pid, stacks_file(record.life), timeout=timeout)
        except StacksUnavailable as error:
            raise Failure(f"{agent}: no answer within {timeout:g} s, and it cannot be asked on this machine: {error}") from error
    except CommunicationError as error:
        raise Failure(f"{agent}: {error}") from error
    return f"{agent} (process {record.pid})\n\n{text}"
