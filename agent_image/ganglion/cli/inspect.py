"""`ganglion get`, `ganglion logs`, `ganglion version`."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import click

from ganglion.cli.common import ask, domain_option, wait_until
from ganglion.cli.errors import Failure

_KINDS = {
    "nameservers": "NameServer",
    "channels": "Channel",
    "agents": "Agent",
    "nameserver": "NameServer",
    "channel": "Channel",
    "agent": "Agent",
    "zns": "NameServer",
    "zch": "Channel",
    "zag": "Agent",
}
_FOLLOW_SECONDS = 0.1
"""Between two looks at the log files, which have no portable event."""


@click.command()
@click.argument("kind", type=click.Choice(["replicas", "all", *_KINDS]), metavar="[KIND]", default="all")
@click.argument("name", required=False)
@click.option("-o", "--output", type=click.Choice(["wide", "json", "yaml"]), help="wide: more columns; json, yaml: whole objects.")
@domain_option
def get(kind: str, name: str | None, output: str | None, domain: str | None) -> None:
    """Show what runs: KIND is nameservers, channels, agents, replicas, or all (the default)."""
    snapshot = ask(domain, "status")
    wanted = _KINDS.get(kind)
    if name is not None:
        _narrow(snapshot, wanted or kind, name)
    if output in ("json", "yaml"):
        _print_objects(snapshot, wanted, name, output)
        return
    click.echo("\n\n".join(_sections(snapshot, wanted, kind, wide=output == "wide")))


def _narrow(snapshot: dict[str, Any], kind: str, name: str) -> None:
    if kind == "replicas":
        known = [row["name"] for row in snapshot["replicas"]]
        snapshot["replicas"] = [row for row in snapshot["replicas"] if name in (row["name"], row["agent"])]
        found = bool(snapshot["replicas"])
    else:
        fitting = [item for item in snapshot["objects"] if kind in (item["kind"], "all")]
        known = [item["metadata"]["name"] for item in fitting]
        snapshot["objects"] = [item for item in fitting if item["metadata"]["name"] == name]
        found = bool(snapshot["objects"])
    if not found:
        raise Failure(f"{kind}/{name} does not exist; there are: {', '.join(sorted(known)) or 'none'}")


def _print_objects(snapshot: dict[str, Any], kind: str | None, name: str | None, output: str) -> None:
    items = [item for item in snapshot["objects"] if kind in (None, item["kind"])]
    body: Any = items[0] if name is not None and len(items) == 1 else {"apiVersion": "v1", "kind": "List", "items": items}
    if output == "json":
        click.echo(json.dumps(body, indent=2, ensure_ascii=False))
        return
    import yaml

    click.echo(yaml.safe_dump(body, sort_keys=False, allow_unicode=True).rstrip())


def _sections(snapshot: dict[str, Any], wanted: str | None, kind: str, *, wide: bool) -> list[str]:
    from ganglion.local import tables

    sections = []
    if wanted in ("NameServer", None) and kind != "replicas":
        sections.append(tables.name_servers(snapshot, wide=wide))
    if wanted in ("Channel", None) and kind != "replicas":
        sections.append(tables.channels(snapshot, wide=wide))
    if wanted in ("Agent", None) and kind != "replicas":
        sections.append(tables.agents(snapshot, wide=wide))
    if kind == "replicas" or (kind == "all" and wide):
        sections.append(tables.replicas(snapshot))
    return [tables.as_text(table) for table in sections]


@click.command()
@click.argument("agent")
@click.option("-f", "--follow", is_flag=True, help="Go on until the domain ends or Ctrl-C.")
@click.option("--tail", type=click.IntRange(0), help="Only the last so many lines of each replica; default: all.")
@click.option(
    "-c", "--container", type=click.Choice(["agent", "runtime", "nameserver"]), default="agent", show_default=True, help="Which process."
)
@domain_option
def logs(agent: str, *, follow: bool, tail: int | None, container: str, domain: str | None) -> None:
    """Show what an agent (or one replica, NAME-0) printed, also after its domain has ended. With `-c nameserver`, AGENT is the NameServer."""
    from ganglion.local.logs import Follower, read_lines
    from ganglion.local.state import running_domains

    name, folder = _log_folder(domain, agent, container)
    files = _log_files(folder, agent, container)
    if not files:
        raise Failure(f"{agent} has printed nothing in domain {name!r}, or does not exist; agents with logs: {_known(folder)}")
    followers: dict[Path, Follower] = {}
    many = len(files) > 1 or follow
    for path in files:
        lines, offset = read_lines(path, tail)
        followers[path] = Follower(path, offset)
        for line in lines:
            click.echo(f"{_replica(path)} | {line}" if many else line)

    def show_new() -> bool:
        ended = name not in running_domains()
        for path in _log_files(folder, agent, container):
            for line in followers.setdefault(path, Follower(path, 0)).new_lines():
                click.echo(f"{_replica(path)} | {line}")
        return ended

    if follow:
        wait_until(show_new, float("inf"), interval=_FOLLOW_SECONDS)


def _log_folder(domain: str | None, agent: str, container: str) -> tuple[str, Path]:
    """The domain that is meant: the named one, the only running one that knows the agent, or the only one with its logs."""
    from ganglion.local.state import running_domains, state_home

    if domain is None:
        running = running_domains()
        candidates = running if len(running) == 1 else sorted(item.name for item in state_home().glob("*") if item.is_dir())
        fitting = [item for item in candidates if _log_files(state_home() / item / "logs", agent, container)]
        if len(fitting) > 1:
            raise Failure(f"several domains fit ({', '.join(fitting)}); name one with --domain")
        if not fitting and len(candidates) != 1:
            raise Failure(
                f"{agent} has printed nothing in any domain ({', '.join(candidates)}), or does not exist"
                if candidates
                else "there are no logs yet"
            )
        domain = (fitting or candidates)[0]
    folder = state_home() / domain / "logs"
    if not folder.is_dir():
        raise Failure(f"domain {domain!r} has no logs")
    return domain, folder


def _replica(path: Path) -> str:
    return path.name.split(".", 1)[0]


def _log_files(folder: Path, agent: str, container: str) -> list[Path]:
    """Log files of an agent's replicas, or of one replica, in order."""
    suffix = r"\.log" if container == "agent" else rf"\.{container}\.log"
    number = "" if container == "nameserver" else r"(?:-\d+)?"
    pattern = re.compile(rf"{re.escape(agent.removeprefix('agent/'))}{number}{suffix}")
    found = (item for item in folder.iterdir() if pattern.fullmatch(item.name)) if folder.is_dir() else ()
    return sorted(found, key=lambda item: [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", item.name)])


def _known(folder: Path) -> str:
    names = {re.sub(r"-\d+$", "", _replica(item)) for item in folder.glob("*-*.log")}
    return ", ".join(sorted(names)) or "none"


@click.command()
def version() -> None:
    """Show the versions of ganglion, of Python and of libzmq."""
    import platform
    from importlib.metadata import version as distribution

    import zmq

    click.echo(
        f"ganglion {distribution('ganglion')} (Python {platform.python_version()}, libzmq {zmq.zmq_version()}, pyzmq {zmq.pyzmq_version()})"
    )
