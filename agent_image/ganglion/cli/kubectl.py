"""The user's kubectl: how the commands reach a cluster."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence

from ganglion.cli.errors import EXIT_UNAVAILABLE, Failure

KUBECTL_SECONDS = 60.0


def kubectl(context: str | None) -> tuple[str, ...]:
    """The beginning of a command line.

    Args:
        context: of kubectl's configuration; None: the current one.
    """
    return ("kubectl", *(("--context", context) if context else ()))


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
