"""Tells whom the end of a domain waits for, and what each of them does."""

from __future__ import annotations

import asyncio
import re
import sysconfig
from collections.abc import Callable, Sequence
from pathlib import Path

import ganglion
from ganglion.local.child import State
from ganglion.local.replica import Replica
from ganglion.runtime import stacks

PATIENCE_SECONDS = 1.0
"""Most domains have ended by then, and nothing is said."""
AGAIN_SECONDS = 5.0
SHOWN = 5
"""Replicas that are named; of the others the number is told."""
ASK_SECONDS = 0.5
_NOT_THEIRS = (str(Path(ganglion.__file__).parent), *(sysconfig.get_path(name) for name in ("stdlib", "purelib", "platlib")), "<")
_FRAME = re.compile(r'^  File "(.+)", line (\d+), in (.+)$', re.MULTILINE)


async def tell(replicas: Sequence[Replica], deadline: float, say: Callable[[str], None]) -> None:
    """Say who has not ended, first after a moment and then again and again, until everybody has or the task is cancelled.

    Args:
        replicas: who was there when the end began.
        deadline: loop time at which what is left is killed.
        say: gets the text.
    """
    loop = asyncio.get_running_loop()
    waiting = [asyncio.ensure_future(item.finished.wait()) for item in replicas]
    patience = PATIENCE_SECONDS
    try:
        while waiting:
            _, pending = await asyncio.wait(waiting, timeout=patience)
            if not pending:
                return
            left = [item for item in replicas if not item.finished.is_set()]
            shown = [await _described(item) for item in left[:SHOWN] if not item.finished.is_set()]
            more = len(left) - SHOWN
            if shown:
                names = ", ".join(shown) + (f" and {more} more" if more > 0 else "")
                say(f"waiting for {names}; ended by force in {max(0.0, deadline - loop.time()):.0f} s at the latest")
            patience = AGAIN_SECONDS
    finally:
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)


async def _described(replica: Replica) -> str:
    pid = replica.agent.pid
    if replica.agent.state is not State.RUNNING or pid is None:
        return f"the sidecar of {replica.name}"
    if replica.seat.agent.spec.container is not None:
        return f"{replica.name} (process {pid})"
    try:
        # Never the fault handler: it may crash what would have ended well.
        text = await asyncio.to_thread(stacks.ask, pid, timeout=ASK_SECONDS, last_resort=False)
    except stacks.StacksUnavailable as error:
        return f"{replica.name} ({error})"
    doing = place(text)
    return f"{replica.name} ({doing})" if doing else replica.name


def place(text: str) -> str:
    """Where the user's code is in a description of stacks; empty when none of it runs.

    Args:
        text: of `stacks.ask`.
    Returns:
        E.g. `in work, agents.py line 7`.
    """
    for section in text.split("\n\n"):
        if not section.startswith(("Thread MainThread", "Task ")):
            continue
        theirs = [found for found in _FRAME.findall(section) if not found[0].startswith(_NOT_THEIRS)]
        if theirs:
            file, line, function = theirs[-1]
            return f"in {function}, {Path(file).name} line {line}"
    return ""
