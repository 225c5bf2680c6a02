"""Between the directory, which programs ask for copies of templates, and the list that says which copies are wanted.

The directory is less trusted than the name server: programs talk to it. What it says is names; the list holds no more than the spec allows.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any

from ganglion.nameserver.copies import Copies
from ganglion.wire.admin import Copy, Domain

log = logging.getLogger(__name__)

MAX_NAME = 255


class CopyDesk:
    """Runs in the server's loop.

    Args:
        nameserver: `namespace/name`.
        refused: (text) somebody has asked for what the spec does not allow.
    """

    def __init__(self, nameserver: str, refused: Callable[[str], None]) -> None:
        self.copies = Copies(nameserver)
        self._refused = refused
        self._told: list[Copy] | None = None
        self.tell: Callable[[dict[str, Any]], bool] = lambda _: False
        """Says something to the directory; False: not now."""

    def declare(self, domain: Domain) -> None:
        """What the spec allows now."""
        self.copies.declare(domain, time.monotonic())

    def begin(self) -> None:
        """The directory begins: it knows nothing."""
        self.copies.silence(time.monotonic())
        self._told = None

    def tick(self) -> None:
        """Call it about ten times a second."""
        self.copies.tick(time.monotonic())
        self._show()

    def _show(self) -> None:
        # For the directory to tell whose agents are there.
        listed = self.copies.listed()
        if listed != self._told and self.tell({"copies": {copy.name: copy.template for copy in listed}}):
            self._told = listed

    def hear(self, message: Any) -> None:
        """The directory says something."""
        match message:
            case {"ask": int(number), "agent": str(agent), "template": str(template)} if max(len(agent), len(template)) <= MAX_NAME:
                answer = self.copies.ask(agent, template, time.monotonic())
                if answer.state == "Refused":
                    self._refused(answer.text)
                # Before the answer: who is told to wait may come at once.
                self._show()
                self.tell({"answer": number, "state": answer.state, "text": answer.text})
            case {"forget": str(agent), "template": str(template)}:
                self.copies.forget(agent, template)
            case {"here": list(names)}:
                self.copies.heard(name for name in names if isinstance(name, str))
            case _:
                log.warning("the directory of agents that programs make said something unknown: %.100r", message)
