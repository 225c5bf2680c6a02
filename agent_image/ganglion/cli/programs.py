"""The way from a command to an agent that a program has made."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ganglion.cli.errors import EXIT_UNAVAILABLE, Failure

if TYPE_CHECKING:
    from ganglion.imperative.frames import Record

VARIABLES = ("GANGLION_NAMESERVER_ADDRESS", "OSBRAIN_NAMESERVER_ADDRESS")
"""Name the name server that is meant when a command does not."""


def find(agent: str, nameserver: str) -> Record:
    """What a name server of run_nameserver knows of an agent.

    Raises:
        Failure: nobody answers there, or knows it.
    """
    from ganglion.imperative.errors import CommunicationError
    from ganglion.imperative.nsproxy import NSProxy

    try:
        directory = NSProxy(nameserver)
        record = directory.lookup(agent)
    except (TimeoutError, CommunicationError) as error:
        raise Failure(f"{error}; is it the address of a run_nameserver, and is the join secret the same?", EXIT_UNAVAILABLE) from error
    except (ValueError, OSError) as error:
        raise Failure(f"--nameserver: {error}") from error
    if record is None:
        raise Failure(f"agent {agent!r} does not exist; there are: {', '.join(sorted(directory.agents())) or 'none'}")
    return record
