"""`ganglion log-level`."""

from __future__ import annotations

import click

from ganglion.cli.errors import EXIT_UNAVAILABLE, EXIT_USAGE, Failure
from ganglion.cli.programs import VARIABLES, find
from ganglion.runtime.logs import LEVELS


@click.command("log-level")
@click.argument("agent")
@click.argument("level", type=click.Choice(LEVELS, case_sensitive=False))
@click.option(
    "--nameserver", "-n", metavar="HOST:PORT", envvar=VARIABLES, show_envvar=True, help="Of run_nameserver, where the agent is registered."
)
@click.option("--timeout", type=click.FloatRange(0.1, 600), default=2.0, show_default=True, help="Seconds that the agent has to answer.")
def log_level(agent: str, level: str, nameserver: str | None, timeout: float) -> None:
    """Change what an agent of run_agent logs, while it runs, also while a handler hangs.

    Its messages (log_debug, log_info, ...) of LEVEL and above go to its logger, if it has one, and to its terminal. Agents of manifests begin
    with the level of `ganglion up --log-level` or of GANGLION_LOG_LEVEL in `env`; their own code can change it by set_log_level.
    """
    if nameserver is None:
        raise Failure(f"--nameserver: not given, and {VARIABLES[0]} is not set; agents of manifests take `up --log-level`", EXIT_USAGE)
    from ganglion.imperative import calls
    from ganglion.imperative.errors import CallTimeout, CommunicationError

    record = find(agent, nameserver)
    try:
        calls.call(record.control, "set_log_level", (level.upper(),), life=record.life, timeout=timeout)
    except (CallTimeout, CommunicationError) as error:
        raise Failure(f"{agent}: {error}", EXIT_UNAVAILABLE) from error
    click.echo(f"{agent} logs {level.upper()} and above")
