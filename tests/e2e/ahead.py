"""`python -m tests.e2e.ahead COMMAND…`: run a command, and meanwhile make the cluster that the e2e tests at its end need.

The tiers before e2e wait more than they compute, and so does a cluster that comes up. Whoever wants the cluster while it is being made
waits for the lock of its making; if it cannot be made here, the e2e tests try for themselves and tell why it does not work. Afterwards
nothing is left of it, unless KEEP_CLUSTER says so.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import FrameType

from hack.kind.provider import select
from hack.kind.steps import ROOT, KindError, say, step
from tests.e2e.chart import SYSTEM, install
from tests.e2e.sharing import cluster, held, node_count
from tests.support.cluster import build_images, kept, kind_cluster

END_SECONDS = 120
"""For a cluster in the making to be taken apart, and for an interrupted command to clean up after itself."""
INTERRUPTED = 130
TRIES = 2
"""Nodes may boot too slowly for kind while one of the tiers beside them keeps all CPUs busy; a later one may not."""


def main(words: Sequence[str]) -> int:
    """Run the command; its exit status, or 130 when it was interrupted. Without a command: make the cluster and leave it there."""
    if not words:
        signal.signal(signal.SIGTERM, _interrupt)
        return _make()
    log = ROOT / ".state" / f"e2e-{cluster().name}.log"
    log.parent.mkdir(exist_ok=True)
    say(f"· making the kind cluster of the e2e tests meanwhile; log: {log.relative_to(ROOT)}")
    try:
        return beside(words, [sys.executable, "-m", "tests.e2e.ahead"], log)
    finally:
        if not kept():
            with _undisturbed():
                cluster().delete()


def _make() -> int:
    try:
        with held():
            return 0 if any(_made() for _ in range(TRIES)) else 1
    except KeyboardInterrupt:
        return INTERRUPTED


def _made() -> bool:
    try:
        # Before the nodes, not beside them: with the tiers that run meanwhile, nodes would boot too slowly for kind.
        build_images(select(os.environ.get("GANGLION_KIND_PROVIDER", "auto"), os.environ.get("GANGLION_KIND_NODE_IMAGE", "")))
        with kind_cluster(nodes=node_count(), keep=True) as made, step("install the chart"):
            install(made, "ganglion", SYSTEM)
    except (KindError, subprocess.CalledProcessError) as error:
        say("\n".join([f"error: {error}", *getattr(error, "__notes__", ())]))
        return False
    return True


def beside(words: Sequence[str], making: Sequence[str], log: Path) -> int:
    """Run a command to its end with another one beside it, which is ended when it has not come to its end by then.

    Arguments:
        words: the command; its exit status is the answer, or 130 when this process was interrupted or terminated.
        making: what runs beside it; when it fails, that is said, and changes nothing.
        log: takes what `making` prints.
    """
    terminated = threading.Event()

    def terminate(number: int, frame: FrameType | None) -> None:
        terminated.set()
        _interrupt(number, frame)

    with contextlib.ExitStack() as stack:
        stack.callback(signal.signal, signal.SIGTERM, signal.signal(signal.SIGTERM, terminate))
        try:
            with log.open("wb") as output:
                # In a session of its own: who is interrupted at the terminal is this process, and it ends the other one in order.
                other = subprocess.Popen(making, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True)
            telling = threading.Thread(target=_tell, args=(other, log))
            stack.callback(_end, other, telling)
            telling.start()
            return _run(words, terminated)
        except KeyboardInterrupt:
            return INTERRUPTED


def _tell(other: subprocess.Popen[bytes], log: Path) -> None:
    """Say at once that it failed, with the reason."""
    if other.wait() == 1:
        tail = log.read_text(errors="replace").strip().splitlines()[-10:]
        say("\n".join(["", "✗ the kind cluster could not be made ahead; the e2e tests will try again:", *(f"  {line}" for line in tail)]))


def _run(words: Sequence[str], terminated: threading.Event) -> int:
    command = subprocess.Popen(words)
    try:
        return command.wait()
    except KeyboardInterrupt:
        # A terminal has interrupted the command too; SIGTERM came to this process alone.
        if terminated.is_set():
            command.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            command.wait(END_SECONDS)
        raise
    finally:
        if command.poll() is None:
            command.kill()
            command.wait()


@contextlib.contextmanager
def _undisturbed() -> Iterator[None]:
    """Who is interrupted a second time still takes everything apart; each step has its bound."""
    before = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _end(other: subprocess.Popen[bytes], telling: threading.Thread) -> None:
    with _undisturbed():
        if other.poll() is None:
            _end_group(other)
        if telling.is_alive():
            telling.join()


def _end_group(other: subprocess.Popen[bytes]) -> None:
    # And what it runs: a step that is ended from outside is one that failed, and what was made until then is removed.
    with contextlib.suppress(ProcessLookupError):
        os.killpg(other.pid, signal.SIGTERM)
    with contextlib.suppress(subprocess.TimeoutExpired):
        other.wait(END_SECONDS)
    # What is left of a build; the nodes' own processes are in groups of their own.
    with contextlib.suppress(ProcessLookupError):
        os.killpg(other.pid, signal.SIGKILL)
    other.wait()


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
