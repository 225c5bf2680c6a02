"""What this system allows one user and one process, and how much of it the replicas of a domain take."""

from __future__ import annotations

import contextlib
import errno
import os
import resource
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ganglion.api import Agent

USUAL_DESCRIPTORS = 65536
"""As many are asked of the system at the start; more only where the replicas need them."""
DESCRIPTORS_OF_A_PROCESS = 4
"""Of the supervisor, for each process of a replica: both ends of the pipe that it prints into, its log file, and one end more while its start
is on its way to the process that forks it. A large domain asks for all starts at once."""
OWN_DESCRIPTORS = 64
"""Of the supervisor: its own, and those of the commands that it serves (21 when it has nothing to do)."""
SPARE_DESCRIPTORS = 16
"""Left free by starts, so that the supervisor can still serve commands, write files, and start the name server again."""
THREADS_OF_A_PROCESS = 6 if sys.platform == "linux" else 1
"""Of a sidecar and of an SDK process: two of its own, and two for each of its two ZeroMQ contexts. Only Linux counts threads."""
_COUNT_FROM = 4
"""Reading all of /proc takes some milliseconds: only where the replicas would take at least one of so many parts of the limit."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What is allowed.

    Attributes:
        descriptors: of this process; None: any number.
        tasks: processes (on Linux: threads) that this user may still start; None: any number, or not known.
    """

    descriptors: int | None
    tasks: int | None


def descriptors(agent: Agent) -> int:
    """Descriptors of the supervisor that one replica takes."""
    return DESCRIPTORS_OF_A_PROCESS * _processes(agent)


def tasks(agent: Agent) -> int:
    """Processes (on Linux: threads) that one replica takes at least."""
    program = 1 if agent.spec.container is not None else THREADS_OF_A_PROCESS
    return program + THREADS_OF_A_PROCESS * (_processes(agent) - 1)


def _processes(agent: Agent) -> int:
    return 2 if agent.spec.data_plane == "Sidecar" else 1


def excess(before: Mapping[str, Agent], after: Mapping[str, Agent], limits: Limits) -> tuple[str, str] | None:
    """Why the agents cannot all run here. Pure.

    Args:
        before: agents that are there, by name. What takes no more than before is never too much.
        after: agents that there should be.
    Returns:
        (name of the agent that grows most, what is wrong with it); None: they can, as far as limits tell.
    """
    grown = {name: agent.desired_replicas - _replicas(before.get(name)) for name, agent in after.items()}
    most = max(grown, key=lambda name: grown[name] * descriptors(after[name]), default="")
    if not most or grown[most] <= 0:
        return None
    agent = after[most]
    found = f"spec.replicas: found {agent.desired_replicas}; "
    wanted = _wanted(after)
    if limits.descriptors is not None and wanted > max(limits.descriptors, _wanted(before)):
        fit = agent.desired_replicas - -(-(wanted - limits.descriptors) // descriptors(agent))
        return most, (
            f"{found}{_at_most(fit)}: with them the domain takes {wanted} file descriptors of its supervisor ({descriptors(agent)} for each"
            f" replica), and the limit is {limits.descriptors}; lower it, or raise the hard limit (ulimit -Hn)"
        )
    more = sum(item.desired_replicas * tasks(item) for item in after.values()) - sum(
        item.desired_replicas * tasks(item) for item in before.values()
    )
    if limits.tasks is not None and more > limits.tasks:
        fit = agent.desired_replicas - -(-(more - limits.tasks) // tasks(agent))
        return most, (
            f"{found}{_at_most(fit)}: with them the domain takes {more} more processes and threads ({tasks(agent)} for each replica), and this"
            f" user may start {limits.tasks}; lower it, or raise the limit of processes (ulimit -u)"
        )
    return None


def _wanted(agents: Mapping[str, Agent]) -> int:
    return OWN_DESCRIPTORS + sum(item.desired_replicas * descriptors(item) for item in agents.values())


def _at_most(fit: int) -> str:
    return f"at most {fit} can run here" if fit >= 0 else "they cannot run here beside the other agents"


def _replicas(agent: Agent | None) -> int:
    return agent.desired_replicas if agent is not None else 0


def refusal(before: Mapping[str, Agent], after: Mapping[str, Agent]) -> tuple[str, str] | None:
    """`excess` on this machine. Raises this process's limit of descriptors where that helps."""
    wanted = _wanted(after)
    more = sum(item.desired_replicas * tasks(item) for item in after.values())
    return excess(before, after, Limits(raise_descriptors(wanted), _free_tasks(more)))


def raise_descriptors(wanted: int) -> int | None:
    """Let this process have so many descriptors, or as many as the system allows.

    Returns:
        how many it may have now; None: any number.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        # macOS allows fewer than its hard limit says.
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted if hard == resource.RLIM_INFINITY else min(hard, wanted), hard))
        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return None if soft == resource.RLIM_INFINITY else soft


def _free_tasks(wanted: int) -> int | None:
    limit, _ = resource.getrlimit(resource.RLIMIT_NPROC)
    if limit == resource.RLIM_INFINITY or os.getuid() == 0 or wanted * _COUNT_FROM < limit:
        # The kernel counts root's and does not mind.
        return None
    return max(0, limit - _running_tasks(os.getuid()))


def _running_tasks(user: int) -> int:
    """Threads of all processes of a user; 0 where there is no /proc."""
    found = 0
    for folder in Path("/proc").glob("[0-9]*"):
        # It may have ended.
        with contextlib.suppress(OSError):
            if folder.stat().st_uid == user:
                found += (folder / "task").stat().st_nlink - 2
    return found


def keep_spare(count: int = SPARE_DESCRIPTORS) -> None:
    """See that so many descriptors are free.

    Raises:
        OSError: they are not; the text says what to do.
    """
    taken: list[int] = []
    try:
        taken.append(os.open(os.devnull, os.O_RDONLY))
        while len(taken) < count:
            taken.append(os.dup(taken[0]))
    except OSError as error:
        if error.errno not in (errno.EMFILE, errno.ENFILE):
            raise
        limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        raise OSError(
            error.errno,
            f"too few file descriptors are left (the limit of the supervisor is {limit}); lower spec.replicas, or run `ganglion down` and raise"
            " the hard limit (ulimit -Hn) before the next `ganglion up`",
        ) from error
    finally:
        for descriptor in taken:
            os.close(descriptor)
