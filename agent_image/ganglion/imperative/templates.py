"""`run_agent(template=...)`: an agent in a copy of an Agent that the NameServer allows programs to have copies of."""

from __future__ import annotations

import contextlib
import os
import select
import time
from typing import Any

from ganglion.codecs.errors import EncodeError
from ganglion.errors import GanglionError
from ganglion.imperative.copies import MAX_BODY_BYTES, life_of
from ganglion.imperative.errors import AgentNameTaken, AgentStartError, CallTimeout, CommunicationError, TemplateRefused
from ganglion.imperative.frames import Record
from ganglion.imperative.life import Spec
from ganglion.imperative.trust import peer_dumps
from ganglion.sdk.errors import NotSupported

START_SECONDS = 180.0
"""Until the agent is registered: the pod's image may have to be pulled."""
LOOK_SECONDS = 0.1
ASK_SECONDS = 1.0


def start_copy(spec: Spec, template: str, directory: Any) -> Record:
    """Ask for a copy, and wait until its agent is registered.

    Args:
        spec: of the agent; class, host, port and name server are the copy's own.
        template: name of an Agent.
        directory: proxy to the domain's.
    Returns:
        What the directory knows of the agent.
    Raises:
        TemplateRefused: the NameServer does not allow it.
        AgentNameTaken: an agent of this name lives, or another program is making one.
        EncodeError: attributes are too large, or no plain data.
        AgentStartError: it did not start.
        NotSupported: the name server is no domain's.
    """
    body = peer_dumps()((spec.attributes, spec.serializer, spec.transport, spec.stop_on_error))
    if len(body) > MAX_BODY_BYTES:
        raise EncodeError("cloudpickle", f"attributes: found {len(body)} bytes, at most {MAX_BODY_BYTES} can wait for the copy's pod")
    if directory.lookup(spec.name) is not None:
        raise AgentNameTaken(f"name already registered: an agent {spec.name!r} lives; choose another name or shut that one down")
    key = os.urandom(16)
    try:
        record = _registered(spec.name, template, directory, key, body)
    except BaseException:
        with contextlib.suppress(GanglionError, OSError, AttributeError):
            directory.forget_copy(spec.name, template, key)
        raise
    with contextlib.suppress(GanglionError, OSError):
        directory.done_copy(spec.name, template, key)
    return record


def _registered(name: str, template: str, directory: Any, key: bytes, body: bytes) -> Record:
    deadline = time.monotonic() + START_SECONDS
    ask_at, problem = 0.0, ""
    while time.monotonic() < deadline:
        try:
            record: Record | None = directory.lookup(name)
            if record is not None and record.life != life_of(key):
                raise AgentNameTaken(f"name already registered: another agent {name!r} has come; choose another name or shut that one down")
            if record is not None and record.running:
                return record
            if time.monotonic() >= ask_at:
                ask_at = time.monotonic() + ASK_SECONDS
                problem = _ask(name, template, directory, key, body)
        except AttributeError:
            raise NotSupported(
                "template: this name server is of no domain that allows agents that programs make; start the program in a pod of one, or by `ganglion connect`"
            ) from None
        except (CommunicationError, CallTimeout) as error:
            # A name server that is replaced comes back, and must be asked again.
            problem = str(error)
        select.select([], [], [], LOOK_SECONDS)
    raise AgentStartError(f"template {template!r}: agent {name!r} was not registered after {START_SECONDS:g} s; {problem}")


def _ask(name: str, template: str, directory: Any, key: bytes, body: bytes) -> str:
    """What is being waited for."""
    state, text = directory.ask_copy(name, template, key, body)
    match state:
        case "Refused":
            raise TemplateRefused(text)
        case "Taken":
            raise AgentNameTaken(f"{text}; choose another name, or look it up with Proxy({name!r})")
        case "Failed":
            raise AgentStartError(f"template {template!r}: agent {name!r}: {text}")
    return str(text)
