"""`ganglion down`, `ganglion scale`, `ganglion delete`."""

from __future__ import annotations

import contextlib

import click

from ganglion.cli.common import ask, domain_option, running, wait_until
from ganglion.cli.errors import Failure

_MARGIN_SECONDS = 30.0
"""Beyond a domain's own bound: the supervisor kills what is left, and closes."""
_KINDS = {
    "nameserver": "NameServer",
    "nameservers": "NameServer",
    "zns": "NameServer",
    "channel": "Channel",
    "channels": "Channel",
    "zch": "Channel",
    "agent": "Agent",
    "agents": "Agent",
    "zag": "Agent",
}


def _shutdown_seconds(domain: str | None) -> float:
    snapshot = ask(domain, "status")
    server = next(item for item in snapshot["objects"] if item["kind"] == "NameServer")
    return float(server["spec"]["shutdown"]["timeoutSeconds"])


def _end(domain: str | None) -> None:
    """Shut down and wait until the supervisor has gone.

    Raises:
        Failure: something had to be killed or failed at its end, or the supervisor does not end.
    """
    from ganglion.local import protocol
    from ganglion.local.state import running_domains

    name, run = running(domain)
    bound = _shutdown_seconds(name) + _MARGIN_SECONDS
    told = ""

    def show_waiting() -> None:
        nonlocal told
        with contextlib.suppress(protocol.CommandError):
            # A domain that an earlier version has started does not tell.
            waiting = str(protocol.call(run, "status", timeout=2.0).get("waiting", ""))
            if waiting not in ("", told):
                told = waiting
                click.echo(waiting)

    try:
        answer = protocol.call(run, "down", timeout=bound, meanwhile=show_waiting)
    except protocol.CommandError as error:
        raise Failure(str(error)) from error
    if not wait_until(lambda: name not in running_domains(), bound):
        raise Failure(f"domain {name!r} has not ended within {bound:.0f} s")
    if answer["killed"]:
        raise Failure(f"domain {name} is down, but these did not end in time and were killed: {', '.join(answer['killed'])}")
    if failed := answer.get("failed"):
        raise Failure("\n".join([f"domain {name} is down, but not everybody ended in order:", *failed]))
    click.echo(f"domain {name} is down")


@click.command()
@domain_option
def down(domain: str | None) -> None:
    """Shut a running domain down in order: agents finish what flows, `on_exit` runs, the name server leaves last.

    Waits for the end, at most `spec.shutdown.timeoutSeconds` of the NameServer, and says for whom and what it does. What does not end in
    time is killed, or ends itself by force; then the exit code is 1.
    """
    _end(domain)


@click.command()
@click.argument("agent")
@click.option("--replicas", type=click.IntRange(0, 10000), required=True, help="How many there should be.")
@domain_option
def scale(agent: str, replicas: int, domain: str | None) -> None:
    """Change an agent's number of replicas. Those that are too many leave through a drain and lose nothing."""
    answer = ask(domain, "scale", {"agent": agent.removeprefix("agent/"), "replicas": replicas})
    click.echo(f"agent/{agent.removeprefix('agent/')} scaled from {answer['before']} to {answer['replicas']}")


@click.command()
@click.argument("kind", type=click.Choice(sorted(_KINDS), case_sensitive=False), metavar="KIND")
@click.argument("name")
@domain_option
def delete(kind: str, name: str, domain: str | None) -> None:
    """End and remove an object: KIND is agent, channel or nameserver. Deleting the name server is `ganglion down`."""
    resolved = _KINDS[kind.lower()]
    if resolved == "NameServer":
        _end(domain or name)
        return
    # An agent's drain is bounded by its terminationGracePeriodSeconds, at most an hour.
    answer = ask(domain, "delete", {"kind": resolved, "name": name}, timeout=3600 + _MARGIN_SECONDS)
    kind_name, _, found = answer["deleted"].partition("/")
    click.echo(f"{kind_name.lower()}/{found} deleted")
