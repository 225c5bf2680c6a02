"""The directory's part in copies of templates: it keeps what programs have asked for until the copy's pod fetches it, and passes names on to
the name server, which alone says what is allowed."""

from __future__ import annotations

import hashlib
import itertools
import json
import logging
import queue
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from ganglion.wiring.copies import copy_name

log = logging.getLogger(__name__)

MAX_NAME = 255
MAX_BODY_BYTES = 64 * 1024
"""Attributes of one agent: there may be hundreds that wait for their pods."""
MAX_REQUESTS = 800
"""That wait at the same time: as many as a spec can allow copies."""
MAX_ERROR_CHARACTERS = 16 * 1024
ANSWER_SECONDS = 5.0
ASKED_SECONDS = 15.0
"""As the name server has it: who has not asked for so long waits no more."""
LOOK_SECONDS = 0.5
"""Between two looks at whose agents are there."""


def life_of(key: bytes) -> bytes:
    """Life of the agent that is made for an asking: who asked knows its agent from another one of the same name. It does not tell the key."""
    return hashlib.blake2b(key, digest_size=16).digest()


@dataclass(slots=True)
class _Request:
    agent: str
    key: bytes
    body: bytes
    until: float
    failed: str = ""


class CopyRequests:
    """See the module. Any thread.

    Args:
        say: says a line to the name server.
    """

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._lock = threading.Lock()
        self._numbers = itertools.count(1)
        self._answers: dict[int, queue.SimpleQueue[tuple[str, str]]] = {}
        self._requests: dict[str, _Request] = {}
        """By name of the copy."""
        self._copies: dict[str, str] = {}
        """Name of each copy that the name server wants → its template."""
        self._said: list[str] | None = None

    def ask(self, agent: str, template: str, key: bytes, body: bytes) -> tuple[str, str]:
        """A program asks for an agent, about every second until it is there.

        Args:
            key: of this asking: another program that asks for the same agent has another one.
            body: for the copy's pod; means nothing here.
        Returns:
            (state, text): that of the name server (`Waiting`, `Ending`, `Refused`, `Failed`), or `Taken`: another program asks for it.
        Raises:
            TypeError, ValueError: an argument is of another type, or too long.
        """
        for name, value in (("agent", agent), ("template", template)):
            if not isinstance(value, str):
                raise TypeError(f"{name}: found a {type(value).__name__}; must be text")
            if not 1 <= len(value) <= MAX_NAME:
                raise ValueError(f"{name}: found {len(value)} characters; must have 1 to {MAX_NAME}")
        for name, data, most in (("key", key, MAX_NAME), ("body", body, MAX_BODY_BYTES)):
            if not isinstance(data, bytes):
                raise TypeError(f"{name}: found a {type(data).__name__}; must be bytes")
            if len(data) > most:
                raise ValueError(f"{name}: found {len(data)} bytes; must have at most {most}")
        copy = copy_name(template, agent)
        with self._lock:
            held = self._requests.get(copy)
            if held is None and len(self._requests) >= MAX_REQUESTS:
                return "Ending", f"{MAX_REQUESTS} agents wait for their pods already"
            if held is not None and held.until > time.monotonic():
                if held.key != key:
                    return "Taken", f"another program is just making an agent {agent!r}"
                if held.failed:
                    return "Failed", held.failed
        state, text = self._exchange({"agent": agent, "template": template})
        with self._lock:
            if state == "Waiting":
                before = self._requests.get(copy)
                if before is not None and before.key != key and before.until > time.monotonic():
                    return "Taken", f"another program is just making an agent {agent!r}"
                failed = before.failed if before is not None and before.key == key else ""
                self._requests[copy] = _Request(agent, key, body, time.monotonic() + ASKED_SECONDS, failed)
        return state, text

    def _exchange(self, ask: dict[str, Any]) -> tuple[str, str]:
        answer: queue.SimpleQueue[tuple[str, str]] = queue.SimpleQueue()
        with self._lock:
            number = next(self._numbers)
            self._answers[number] = answer
        try:
            self._say(json.dumps({"ask": number, **ask}))
            return answer.get(timeout=ANSWER_SECONDS)
        except queue.Empty:
            # Not `Waiting`: nobody knows whether this copy is wanted.
            return "Ending", f"the name server has not answered within {ANSWER_SECONDS:g} s"
        finally:
            with self._lock:
                del self._answers[number]

    def forget(self, agent: str, template: str, key: bytes) -> None:
        """A program gives up; arguments as it asked with."""
        copy = copy_name(str(template), str(agent))
        with self._lock:
            held = self._requests.get(copy)
            if held is None or held.key != key:
                return
            del self._requests[copy]
        self._say(json.dumps({"forget": agent, "template": template}))

    def done(self, agent: str, template: str, key: bytes) -> None:
        """The program has found the agent; arguments as it asked with."""
        copy = copy_name(str(template), str(agent))
        with self._lock:
            held = self._requests.get(copy)
            if held is None or held.key != key:
                return
            del self._requests[copy]
            # At once: it may be gone at the next look, and the name server must know that it was there.
            self._tell(sorted({*(self._said or ()), copy}))

    def _tell(self, here: list[str]) -> None:
        # Under the lock: a list that is older than another one must not be said after it, or a copy whose agent lives is taken for one whose
        # agent has gone. The name server always reads.
        self._said = here
        self._say(json.dumps({"here": here}))

    def fetch(self, copy: str) -> tuple[str, bytes, bytes] | None:
        """The copy's pod wants to know (agent, body, life of the agent to make); None: nobody asks for it now."""
        with self._lock:
            held = self._requests.get(copy)
            return (held.agent, held.body, life_of(held.key)) if held is not None else None

    def fail(self, copy: str, text: str) -> None:
        """The copy's pod could not make the agent; `text` is for the program that asks."""
        with self._lock:
            held = self._requests.get(copy)
            if held is not None:
                held.failed = str(text)[-MAX_ERROR_CHARACTERS:]

    def hear(self, line: str) -> None:
        """A line of the name server."""
        try:
            said = json.loads(line)
        except ValueError:
            # It was killed in the middle of it.
            log.warning("the name server said something unreadable: %.100r", line)
            return
        match said:
            case {"answer": int(number), "state": str(state), "text": str(text)}:
                with self._lock:
                    waiting = self._answers.get(number)
                    if waiting is not None:
                        waiting.put((state, text))
            case {"copies": dict(copies)}:
                with self._lock:
                    self._copies = copies

    def look(self, living: Callable[[], Iterable[str]]) -> None:
        """Tell the name server whose agents are there, if that has changed, and forget what nobody asks for any more.

        Args:
            living: tells the names of all agents.
        """
        now = time.monotonic()
        with self._lock:
            for copy in [copy for copy, request in self._requests.items() if request.until <= now]:
                del self._requests[copy]
            copies = self._copies
            templates = set(copies.values())
            # Asked under the lock: what `done` has said meanwhile is newer than a list from before.
            names = {copy_name(template, agent) for agent in living() for template in templates}
            here = sorted(names & copies.keys())
            if here != self._said:
                self._tell(here)
