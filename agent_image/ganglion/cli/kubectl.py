"""The user's kubectl: how the commands reach a cluster."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Sequence

from ganglion.cli.errors import EXIT_UNAVAILABLE, EXIT_USAGE, Failure

KUBECTL_SECONDS = 60.0


def kubectl(context: str | None) -> tuple[str, ...]:
    """The beginning of a command line.

    Args:
        context: of kubectl's configuration; None: the current one.
    """
    return ("kubectl", *(("--context", context) if context else ()))


def checked(what: str, name: str) -> str:
    """A name of one of our objects, for a command line: kubectl takes for an option what begins with a dash.

    Raises:
        Failure: no object can have it.
    """
    from ganglion.api.base import NAME_PATTERN

    if not re.fullmatch(NAME_PATTERN, name):
        raise Failure(f"{what}: found {name!r}; must consist of lower-case letters, digits and dashes, and begin with a letter", EXIT_USAGE)
    return name


def ask(command: Sequence[str]) -> str:
    """What a command prints.

    Raises:
        Failure: there is no kubectl, or it fails, or does not end.
    """
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=KUBECTL_SECONDS, check=False, stdin=subprocess.DEVNULL)
    except FileNotFoundError:
        raise Failure("kubectl: not found on the PATH; it is the way to the cluster", EXIT_UNAVAILABLE) from None
    except subprocess.TimeoutExpired:
        raise Failure(f"{' '.join(command)}: no answer within {KUBECTL_SECONDS:g} s", EXIT_UNAVAILABLE) from None
    if done.returncode:
        raise Failure(f"{' '.join(command)}: {done.stderr.strip() or done.returncode}")
    return done.stdout
