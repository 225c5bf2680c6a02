"""`ganglion up`, `ganglion validate`."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ganglion.cli.common import ask, running
from ganglion.cli.errors import EXIT_BUSY, EXIT_CONFIGURATION, EXIT_FAILURE, Failure

if TYPE_CHECKING:
    from ganglion.local.bundle import Bundle
    from ganglion.local.spawner import Spawner
    from ganglion.local.view import LineView

_DETACH_SECONDS = 60.0
"""Bound of a detached supervisor's start."""

_files = click.option(
    "-f",
    "--filename",
    "sources",
    multiple=True,
    required=True,
    metavar="PATH",
    help="File, folder (a kustomization is honoured) or - for stdin.",
)
_nameserver = click.option("--nameserver", metavar="NAME", help="Which NameServer to run when the manifests hold several.")


def _judged(sources: Sequence[str], nameserver: str | None) -> Bundle:
    """Read and judge manifests; every mistake becomes one line.

    Raises:
        Failure: with exit code 78.
    """
    from ganglion.local.check import choose_domain, judge
    from ganglion.local.manifests import ManifestsError, load

    try:
        bundle = load(sources)
    except ManifestsError as error:
        raise Failure(str(error), EXIT_CONFIGURATION) from error
    bundle, faults = choose_domain(bundle, nameserver)
    judgement = judge(bundle)
    faults = faults + judgement.faults
    if faults:
        raise Failure("\n".join(map(str, faults)), EXIT_CONFIGURATION)
    for note in (*bundle.notes, *judgement.warnings):
        click.echo(f"warning: {note}", err=True)
    return bundle


@click.command()
@_files
@_nameserver
def validate(sources: tuple[str, ...], nameserver: str | None) -> None:
    """Check manifests as `up` and a cluster's API server do: one line for each mistake, exit code 78. Nothing is started."""
    bundle = _judged(sources, nameserver)
    counts = (("NameServer", bundle.name_servers), ("Channel", bundle.channels), ("Agent", bundle.agents))
    click.echo("valid: " + ", ".join(f"{len(table)} {kind}{'' if len(table) == 1 else 's'}" for kind, table in counts))


@click.command()
@_files
@_nameserver
@click.option("--detach", is_flag=True, help="Return when every agent is ready, or one has failed; end the domain with `ganglion down`.")
@click.option("--no-wait", is_flag=True, help="With --detach: return when the processes have been started.")
@click.option(
    "--timeout", type=click.FloatRange(1, 86400), default=120, show_default=True, help="With --detach: seconds to wait for the agents."
)
@click.option("-q", "--quiet", is_flag=True, help="Show warnings and errors only.")
@click.option("--log-format", type=click.Choice(["text", "json"]), default="text", show_default=True, help="Form of every line.")
@click.option(
    "--log-level",
    type=click.Choice(["DEBUG", "INFO", "WARNING", "ERROR"], case_sensitive=False),
    default="INFO",
    show_default=True,
    help="Level of the agents' own log lines.",
)
def up(
    sources: tuple[str, ...],
    nameserver: str | None,
    *,
    detach: bool,
    no_wait: bool,
    timeout: float,
    quiet: bool,
    log_format: str,
    log_level: str,
) -> int:
    """Run manifests on this machine.

    Everything is checked first. Then the name server, sidecars and agents start. `up` ends when every agent that runs once has finished,
    with their exit status; Ctrl-C shuts the domain down in order, a second Ctrl-C at once.

    When the domain runs already, the difference is applied to it: replicas come and go through a drain, changed agents are replaced.

    With --detach the domain stays when an agent fails or is not ready in time; the exit code is 78 when one cannot start, else 1.
    """
    if no_wait and not detach:
        raise click.UsageError("--no-wait is for --detach; without it `up` stays with the domain")
    options = {"log_format": log_format, "log_level": log_level.upper()}
    if detach:
        return _detached(_judged(sources, nameserver), options, None if no_wait else timeout)
    spawner = _spawner()
    try:
        bundle = _judged(sources, nameserver)
        return _foreground(bundle, spawner, options, quiet=quiet)
    finally:
        spawner.close()


@click.command(hidden=True)
def supervise() -> int:
    """Process of a detached domain: manifests and options come as JSON on stdin."""
    from ganglion.local.bundle import Bundle
    from ganglion.local.view import LineView

    request = json.load(sys.stdin)
    spawner = _spawner()
    try:
        bundle = Bundle.from_json(request["bundle"])
        return _run(bundle, spawner, request["options"], LineView(quiet=True), stay=True)
    finally:
        spawner.close()


def _spawner() -> Spawner:
    """Start the forking process first: its imports run beside the checks. Agents need descriptors: take what the system allows."""
    from ganglion.local import limits
    from ganglion.local.spawner import Spawner, SpawnerError

    limits.raise_descriptors(limits.USUAL_DESCRIPTORS)
    spawner = Spawner()
    try:
        spawner.start()
    except SpawnerError as error:
        raise Failure(str(error)) from error
    return spawner


def _foreground(bundle: Bundle, spawner: Spawner, options: dict[str, str], *, quiet: bool) -> int:
    from ganglion.local.state import supervisor_record
    from ganglion.local.view import make_view

    domain = next(iter(bundle.name_servers))
    if supervisor_record(domain) is not None:
        return _apply(domain, bundle)
    _refuse_too_many(bundle)
    return _run(bundle, spawner, options, make_view(quiet=quiet, log_format=options["log_format"]), stay=False)


def _run(bundle: Bundle, spawner: Spawner, options: dict[str, str], view: LineView, *, stay: bool) -> int:
    from ganglion.local.environment import Options
    from ganglion.local.spawner import SpawnerError
    from ganglion.local.state import DomainBusyError, StateDirectory
    from ganglion.local.supervisor import Supervisor

    async def live(state: StateDirectory) -> int:
        supervisor = Supervisor(bundle, state, spawner, Options(**options), view, stay=stay)
        view.attach(supervisor.snapshot)
        try:
            return await supervisor.run()
        finally:
            view.close()

    try:
        with StateDirectory(next(iter(bundle.name_servers))) as state:
            state.forget_logs()
            return asyncio.run(live(state))
    except DomainBusyError as error:
        raise Failure(str(error), EXIT_BUSY) from error
    except SpawnerError as error:
        raise Failure(str(error)) from error
    except OSError as error:
        raise Failure(f"{error.filename or 'state directory'}: {error.strerror}") from error


def _refuse_too_many(bundle: Bundle) -> None:
    """See that the system lets a new domain have what its replicas take.

    Raises:
        Failure: with exit code 78.
    """
    from ganglion.local import bundle as bundles
    from ganglion.local.check import judge_limits

    faults = judge_limits(bundles.Bundle(), bundle)
    if faults:
        raise Failure("\n".join(map(str, faults)), EXIT_CONFIGURATION)


def _apply(domain: str, bundle: Bundle) -> int:
    """`up` on a domain that runs."""
    answer = ask(domain, "apply", {"bundle": bundle.to_json()}, timeout=60)
    for label, what in answer["changes"].items():
        kind, name = label.split("/", 1)
        click.echo(f"{kind.lower()}/{name} {what}")
    for label in answer["kept"]:
        kind, name = label.split("/", 1)
        click.echo(f"{kind.lower()}/{name} kept: not in these manifests; `ganglion delete {kind.lower()} {name}` ends it")
    return 0


def _detached(bundle: Bundle, options: dict[str, str], seconds: float | None) -> int:
    """`up --detach`.

    Args:
        seconds: bound of the wait for the agents; None: no wait.
    """
    from ganglion.cli import rollout
    from ganglion.local.state import supervisor_record

    domain = next(iter(bundle.name_servers))
    if supervisor_record(domain) is not None:
        _apply(domain, bundle)
        if seconds is not None:
            rollout.wait(*running(domain), seconds)
        return 0
    _refuse_too_many(bundle)
    _start(bundle, options)
    if seconds is not None:
        rollout.wait(*running(domain), seconds)
    click.echo(f"domain {domain} is running; see it: ganglion get agents · its lines: ganglion logs AGENT · end it: ganglion down")
    return 0


def _start(bundle: Bundle, options: dict[str, str]) -> None:
    """Start the supervisor of a detached domain, and wait until it has started the processes."""
    from ganglion.local.state import StateDirectory

    domain = next(iter(bundle.name_servers))
    log = StateDirectory(domain).prepare() / "supervisor.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "ganglion", "supervise"],
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )
    assert process.stdin is not None
    with contextlib.suppress(BrokenPipeError), process.stdin:
        process.stdin.write(json.dumps({"bundle": bundle.to_json(), "options": options}).encode())
    _await_start(process, domain, log)
    # It outlives us: Popen must not warn that it still runs.
    process.returncode = 0


def _await_start(process: subprocess.Popen[bytes], domain: str, log: Path) -> None:
    """Until the supervisor has started its agents, or has ended.

    Raises:
        Failure: it ended (with the last lines of its log), or did not start in time.
    """
    from ganglion.local import protocol
    from ganglion.local.state import supervisor_record

    deadline = time.monotonic() + _DETACH_SECONDS
    while time.monotonic() < deadline:
        with contextlib.suppress(subprocess.TimeoutExpired):
            # Waiting for its end is what paces this loop.
            code = process.wait(0.05)
            tail = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()[-5:]
            raise Failure("\n".join(tail) or f"the supervisor ended with exit code {code}", code if code > 0 else EXIT_FAILURE)
        record = supervisor_record(domain)
        if record is not None:
            with contextlib.suppress(protocol.CommandError):
                if protocol.call(Path(str(record["run"])), "status")["started"]:
                    return
    raise Failure(f"domain {domain!r} did not start within {_DETACH_SECONDS:.0f} s; see {log}")
