"""Exit codes, and the error that carries one."""

from __future__ import annotations

from typing import Any

import click

EXIT_FAILURE = 1
EXIT_USAGE = 64
EXIT_UNAVAILABLE = 69
EXIT_BUSY = 75
EXIT_CONFIGURATION = 78
EXIT_INTERRUPTED = 130


class Failure(click.ClickException):
    """Ends the command with an exit code; each line of the text becomes a line on stderr."""

    def __init__(self, text: str, code: int = EXIT_FAILURE) -> None:
        super().__init__(text)
        self.code = code

    def show(self, file: Any = None) -> None:
        for line in self.message.splitlines():
            click.echo(f"error: {line}", err=True)
