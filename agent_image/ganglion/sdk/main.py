"""`ganglion agent`: the process of an SDK agent."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from ganglion.runtime import stacks
from ganglion.runtime.errors import ConfigurationError
from ganglion.runtime.logs import configure
from ganglion.runtime.loop import DataLoop
from ganglion.runtime.surroundings import Surroundings
from ganglion.sdk.companions import end_companions
from ganglion.sdk.links import ProcessLink
from ganglion.sdk.process import AgentProcess
from ganglion.sdk.target import load_target
from ganglion.wiring import WiringError, load_wiring

log = logging.getLogger(__name__)

EXIT_USAGE = 64
EXIT_CONFIGURATION = 78
TERMINATION_LOG = Path("/dev/termination-log")
"""Kubernetes' own default (`terminationMessagePath`)."""
THREADS_SECONDS = 2.0
"""Time for the agent's own threads to notice that it has ended."""
MAX_TERMINATION_BYTES = 4096
"""The kubelet reads no more."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the agent that the environment describes, until it ends.

    Args:
        argv: arguments without the program's name; there are none to give.
    Returns:
        0 finished or asked to stop, 1 failure, 64 bad command line, 78 configuration, 143 `run: Once` was asked to leave before it
        had finished; and whatever code the agent's own `sys.exit` names.
    """
    arguments = sys.argv[1:] if argv is None else argv
    if arguments:
        print(f"ganglion agent: takes no arguments, found {arguments[0]!r}; it is configured by its environment", file=sys.stderr)  # noqa: T201
        return EXIT_USAGE
    try:
        code = run_agent(os.environ)
    except (ConfigurationError, WiringError, ValueError) as error:
        explain(str(error), os.environ)
        code = EXIT_CONFIGURATION
    leave_threads_behind(code)
    return code


def run_agent(environment: Mapping[str, str]) -> int:
    """Run one agent.

    Args:
        environment: variables as in docs/architecture.md.
    Returns:
        The exit code.
    Raises:
        ConfigurationError, WiringError, ValueError: retrying cannot help; the text is one line that says why.
    """
    here = Surroundings.read(environment)
    wiring = load_wiring(here.wiring)
    process: AgentProcess | None = None
    level = configure(
        environment, agent=wiring.agent.name, replica=here.replica, context=lambda: process.log_context() if process is not None else {}
    )
    level.declare(wiring.agent.log_level)
    stacks.install()
    # First the code: what cannot be imported needs no sockets.
    target = load_target(wiring.agent.target, here.code_dir)
    link = ProcessLink(wiring, here)
    with contextlib.closing(DataLoop()) as loop:
        asyncio.set_event_loop(loop)
        stacks.install(loops=(loop,))
        try:
            process = AgentProcess(wiring, here.replica, target, link, loop, level)
            return process.run()
        finally:
            end_companions()
            asyncio.set_event_loop(None)


def leave_threads_behind(code: int) -> None:
    """End the process here if threads of user code still run: the interpreter would wait for them without a bound."""
    deadline = time.monotonic() + THREADS_SECONDS
    threads = [thread for thread in threading.enumerate() if thread is not threading.main_thread() and not thread.daemon]
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
    alive = [thread.name for thread in threads if thread.is_alive()]
    if alive:
        log.warning("the process ends although threads still run: %s", ", ".join(alive))
        logging.shutdown()
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError):
                stream.flush()
        os._exit(code)


def explain(text: str, environment: Mapping[str, str]) -> None:
    """Say why the process cannot work, on stderr and in the termination log: that is what an operator and `ganglion get` show."""
    line = " ".join(text.split())
    print(line, file=sys.stderr, flush=True)  # noqa: T201 - the line that a person needs, also when logging is not set up
    named = environment.get("GANGLION_TERMINATION_LOG")
    path = Path(named) if named else TERMINATION_LOG
    if named or path.exists():
        with contextlib.suppress(OSError):
            path.write_bytes(line.encode(errors="backslashreplace")[:MAX_TERMINATION_BYTES])


if __name__ == "__main__":
    sys.exit(main())
