"""The command tree. Each command's module is imported when the command runs: a sidecar needs no models, a laptop no operator."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence

import click

from ganglion.cli.errors import EXIT_FAILURE, EXIT_INTERRUPTED, EXIT_USAGE, Failure

_COMMANDS = {
    "up": ("ganglion.cli.up", "Run manifests on this machine, without a cluster."),
    "down": ("ganglion.cli.change", "Shut a running domain down in order."),
    "get": ("ganglion.cli.inspect", "Show name servers, channels, agents or replicas."),
    "logs": ("ganglion.cli.inspect", "Show what an agent printed."),
    "connect": ("ganglion.cli.connect", "Let a program on this machine take part in a domain of a cluster."),
    "stack": ("ganglion.cli.stack", "Show where every thread of an agent is now."),
    "log-level": ("ganglion.cli.loglevel", "Change what an agent logs, while it runs."),
    "scale": ("ganglion.cli.change", "Change an agent's number of replicas."),
    "delete": ("ganglion.cli.change", "End and remove an agent, a channel or the name server."),
    "validate": ("ganglion.cli.up", "Check manifests; start nothing."),
    "version": ("ganglion.cli.inspect", "Show the version."),
}
_PROCESSES = {
    "agent": ("ganglion.sdk.main", "Process of an agent (started by a pod or by `up`)."),
    "sidecar": ("ganglion.runtime.sidecar", "Process beside an agent (started by a pod or by `up`)."),
    "nameserver": ("ganglion.nameserver", "Process of a name server (started by a pod or by `up`)."),
    "drain": ("ganglion.cli.drain", "preStop hook: ask the sidecar to hand back what its agent has not begun."),
}
_BY_ENVIRONMENT = {
    "agent": "GANGLION_WIRING, GANGLION_RUN_DIR, GANGLION_REPLICA, and GANGLION_CODE_DIR for code that is not in the image",
    "sidecar": "GANGLION_WIRING, GANGLION_RUN_DIR, GANGLION_REPLICA, GANGLION_REPLICA_UID, GANGLION_ADVERTISE_HOST and GANGLION_TOKEN_FILE",
}
"""Processes without arguments, and the variables that they need."""
_HIDDEN = {"supervise": ("ganglion.cli.up", "Process of a detached `up`.")}


def _process(name: str, module: str, text: str) -> click.Command:
    """A command that hands its arguments to a runtime process, which reads them itself."""

    @click.command(
        name, help=text, add_help_option=False, context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False}
    )
    @click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
    def run(arguments: tuple[str, ...]) -> None:
        if name in _BY_ENVIRONMENT and arguments in {("-h",), ("--help",)}:
            needs = click.wrap_text(
                f"It takes no arguments; its environment configures it: {_BY_ENVIRONMENT[name]}.",
                initial_indent="  ",
                subsequent_indent="  ",
            )
            click.echo(f"Usage: ganglion {name}\n\n  {text}\n\n{needs}")
            return
        sys.exit(importlib.import_module(module).main(list(arguments)) or 0)

    return run


class _Tree(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return [*_COMMANDS, *_PROCESSES]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name in _PROCESSES:
            return _process(cmd_name, *_PROCESSES[cmd_name])
        known = _COMMANDS.get(cmd_name) or _HIDDEN.get(cmd_name)
        if known is None:
            return None
        command: click.Command = getattr(importlib.import_module(known[0]), cmd_name.replace("-", "_"))
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """From the tables above: help imports no command."""
        for title, table in (("Commands", _COMMANDS), ("Processes", _PROCESSES)):
            with formatter.section(title):
                formatter.write_dl([(name, text) for name, (_, text) in table.items()])


@click.command(
    cls=_Tree,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Exit codes: 0 done, 1 failure, 64 bad command line, 69 no such domain is running, 75 the domain is busy, "
    "78 manifests refused, 130 interrupted, 143 terminated.",
)
def _root() -> None:
    """Run ZeroMQ agents: the same manifests on this machine (`ganglion up -f DIR`) and on Kubernetes (`kubectl apply -k DIR`)."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        argv: arguments without the program's name; None: those of this process.
    Returns:
        the exit code.
    """
    try:
        result = _root.main(args=None if argv is None else list(argv), prog_name="ganglion", standalone_mode=False)
    except click.UsageError as error:
        error.show()
        return EXIT_USAGE
    except Failure as error:
        error.show()
        return error.code
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        # `ganglion get | head`: nobody reads on; what Python would flush at its end has no reader either.
        sys.stdout = None
        return 0
    except SystemExit as error:
        return error.code if isinstance(error.code, int) else EXIT_FAILURE
    return result if isinstance(result, int) else 0
