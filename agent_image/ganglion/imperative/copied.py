"""What runs in the pod of a copy: it makes the agent that a program has asked for, of the template's class."""

from __future__ import annotations

import asyncio
import contextlib
import select
import signal
import time

from ganglion.errors import GanglionError
from ganglion.imperative.errors import AgentStartError, CallTimeout, CommunicationError, format_exception
from ganglion.imperative.host import Child, host
from ganglion.imperative.life import Spec
from ganglion.imperative.membership import Membership, membership
from ganglion.imperative.nsproxy import NSProxy
from ganglion.imperative.trust import peer_loads
from ganglion.imperative.values import dumps
from ganglion.runtime.errors import ConfigurationError
from ganglion.sdk.agent import Agent
from ganglion.sdk.target import load_target

FETCH_SECONDS = 60.0
"""The program asks every second; a directory that was replaced must be found again."""
LOOK_SECONDS = 0.2


async def serve(agent: Agent) -> None:
    """Runs the agent, and has completed when that one has ended.

    Raises:
        AgentStartError: nobody asks for it, or it could not be made; the program that asks is told.
        RuntimeError: it was killed, or has failed.
    """
    mine = membership()
    assert mine is not None
    loop = asyncio.get_running_loop()
    target, attributes = agent.get_attr("target"), agent.get_attr("attributes")
    child = await loop.run_in_executor(None, lambda: _start(mine, agent.name, target, attributes))
    await loop.run_in_executor(None, child.ended.wait)
    if child.code != 0:
        raise RuntimeError(f"copy {agent.name!r}: {_how_it_ended(child.code)}")


def _how_it_ended(code: int) -> str:
    if code > 0:
        return f"the agent's process ended with code {code}; what it logged before tells why"
    with contextlib.suppress(ValueError):
        return f"the agent's process was killed by {signal.Signals(-code).name}; by SIGKILL maybe for want of memory"
    return f"the agent's process was killed by signal {-code}"


def _start(mine: Membership, copy: str, target: str, attributes: dict[str, object]) -> Child:
    directory = NSProxy(mine.nameserver, timeout=FETCH_SECONDS)
    name, body, life = _fetch(directory, copy)
    try:
        base = _class(target)
        asked, serializer, transport, stop = peer_loads()(body)
        spec = Spec(
            name=name,
            nameserver=mine.nameserver,
            base=base,
            host=mine.host,
            serializer=serializer,
            transport=transport,
            attributes={**attributes, **asked},
            stop_on_error=stop,
            life=life,
        )
        child = host().spawn("agent", dumps(spec))
        child.wait()
    except Exception as error:
        text = str(error) if isinstance(error, GanglionError) else format_exception(error)
        with contextlib.suppress(GanglionError, OSError):
            directory.fail_copy(copy, text)
        raise AgentStartError(f"agent {name!r}: {text}") from error
    return child


def _class(target: str) -> type[Agent]:
    # The code is on the module path already: for this module, too.
    found = load_target(target, None)
    if found.function is not None:
        raise ConfigurationError(f"class: {target!r}: found a function; a template must have a class derived from ganglion.Agent")
    return found.cls


def _fetch(directory: NSProxy, copy: str) -> tuple[str, bytes, bytes]:
    deadline = time.monotonic() + FETCH_SECONDS
    while time.monotonic() < deadline:
        with contextlib.suppress(CommunicationError, CallTimeout):
            found: tuple[str, bytes, bytes] | None = directory.fetch_copy(copy)
            if found is not None:
                return found
        select.select([], [], [], LOOK_SECONDS)
    raise AgentStartError(f"copy {copy!r}: no program has asked for it within {FETCH_SECONDS:g} s")
