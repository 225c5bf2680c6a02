"""What the processes that use one cluster side by side agree on: its name, its size, and locks that end with their holder."""

from __future__ import annotations

import fcntl
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hack.kind.cluster import Cluster

MAKING = "making"
"""Lock of whoever makes the cluster, fills it with images or installs the chart."""


def cluster() -> Cluster:
    """The cluster of this tier (GANGLION_KIND_CLUSTER)."""
    return Cluster(os.environ.get("GANGLION_KIND_CLUSTER", "ganglion"))


def node_count() -> int:
    """How many nodes it has (GANGLION_KIND_NODES, default three)."""
    return int(os.environ.get("GANGLION_KIND_NODES", "3"))


@contextmanager
def held(name: str = MAKING, how: int = fcntl.LOCK_EX) -> Iterator[None]:
    """A lock that ends with its process, shared by everybody who uses this cluster; `how` is one of `fcntl.flock`'s."""
    path = Path(tempfile.gettempdir()) / f"ganglion-e2e-{cluster().name}-{os.getuid()}.{name}"
    with path.open("w") as file:
        fcntl.flock(file, how)
        yield


@contextmanager
def once(what: str, run: str) -> Iterator[bool]:
    """Whether this process is the first of a test run to do something to the cluster; the others wait until it has done it.

    What is there already must not be looked at again, and perhaps be made anew: meanwhile tests use it, and break parts of it.

    Arguments:
        what: name of it.
        run: identifies the test run.
    """
    with held():
        done = cluster().state / f"{what}.done"
        first = not done.exists() or done.read_text(encoding="utf-8") != run
        yield first
        if first:
            done.write_text(run, encoding="utf-8")
