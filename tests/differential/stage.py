"""What a scenario plays on: one library under test, its name servers and agents, and the transcript."""

from __future__ import annotations

import importlib
import os
import select
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.differential.canonical import Json, canonical
from tests.support.wait import wait_for

# A wait that ends only by its deadline is a failure of the scenario, so it may be long: the machine can be busy.
PATIENCE = 12.0


class Stage:
    """One scenario's view of the library `library` ("osbrain" or "ganglion").

    Args:
        library: name of the package; its submodules are found below it.
        log: file that this process and the agents write their standard output and error to.
        backend: for Ganglion: how agents run, None for its default.
    """

    def __init__(self, library: str, log: Path, backend: str | None = None) -> None:
        self.m: Any = importlib.import_module(library)
        self.library = library
        self.transcript: list[tuple[str, Json]] = []
        self._backend = {"backend": backend} if backend and library != "osbrain" else {}
        self._log = log
        self._log_start = log.stat().st_size
        self._nameservers: list[Any] = []

    # ------------------------------------------------------------ what is under test

    def part(self, name: str) -> Any:
        """A submodule: `helper`, `address`."""
        return importlib.import_module(f"{self.library}.{name}")

    @property
    def ns(self) -> Any:
        """The first name server; started when it is first asked for."""
        return self._nameservers[0] if self._nameservers else self.nameserver()

    def nameserver(self, *args: Any, **options: Any) -> Any:
        """Start a (further) name server. It is shut down after the scenario."""
        self._nameservers.append(self.m.run_nameserver(*args, **options))
        return self._nameservers[-1]

    def agent(self, name: str = "", **options: Any) -> Any:
        """`run_agent`, with a name server."""
        if not self._nameservers:
            self.nameserver()
        return self.m.run_agent(name, **options, **self._backend)

    def agents(self, *names: str, **options: Any) -> list[Any]:
        """`run_agent` for each name, each with an empty list `received`."""
        attributes = options.pop("attributes", {})
        return [self.agent(name, attributes={"received": [], **attributes}, **options) for name in names]

    def logger(self, name: str = "logger", **options: Any) -> Any:
        """`run_logger`, with a name server."""
        if not self._nameservers:
            self.nameserver()
        return self.m.run_logger(name, **options, **self._backend)

    # ------------------------------------------------------------ the transcript

    def note(self, key: str, value: Any) -> None:
        """Write `value` into the transcript."""
        self.transcript.append((key, canonical(value)))

    def raises(self, key: str, call: Callable[[], Any], *parts: str) -> None:
        """Write down the type of what `call` raises, and which `parts` its text has. The rest of a message is free.

        A type derived from osBrain's is as good: programs that catch the one catch the other.
        """
        try:
            result = call()
        except Exception as error:  # noqa: BLE001 - which one it is goes into the transcript
            bases = [base.__name__ for base in type(error).__mro__[1:] if base not in {Exception, BaseException, object}]
            says = {part: part in str(error) for part in parts}
            self.transcript.append((key, {"raises": type(error).__name__, "bases": bases, "says": says}))
        else:
            self.note(key, ["no error", result])

    # ------------------------------------------------------------ waiting

    def wait(self, condition: Callable[[], Any], what: str = "") -> Any:
        """The first truthy value of `condition`; a TimeoutError is a failure of the scenario."""
        return wait_for(condition, timeout=PATIENCE, interval=0.01, what=what)

    def wait_attr(self, agent: Any, name: str, value: Any) -> None:
        """Wait until an attribute has this value (works for agents that do not run, too)."""
        self.wait(lambda: agent.get_attr(name) == value, f"{name} == {value!r}")

    def wait_count(self, agent: Any, count: int, name: str = "received") -> Any:
        """Wait until the list `name` of an agent has at least `count` items; return it."""
        return self.wait(lambda: (got := agent.get_attr(name)) and len(got) >= count and got, f"{count} in {name}")

    def wait_gone(self, name: str, ns: Any = None) -> None:
        """Wait until the name server no longer lists an agent."""
        self.wait(lambda: name not in (ns or self.ns).agents(), f"{name} is gone")

    def wait_stopped(self, agent: Any) -> None:
        """Wait until an agent's loop has ended."""
        self.wait(lambda: not agent.is_running(), "the agent stopped")

    def note_fate(self, agent: Any) -> None:
        """Write down whether an agent goes on after an error. One that is to stop has a second for it."""
        end = time.monotonic() + 1.0
        self.wait(lambda: not agent.is_running() or time.monotonic() > end)
        self.note("running", agent.is_running())

    @staticmethod
    def elapse(seconds: float) -> None:
        """Let time pass where time itself is what the scenario is about (linger, timers): never to wait for an effect."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            select.select([], [], [], left)

    def warm(self, publisher: Any, alias: str, *subscribers: Any, topic: Any = "", name: str = "received") -> None:
        """Publish until all `subscribers` have something in their lists `name`, then empty the lists.

        The last of these publications is followed by a mark and each list is emptied after the mark, so that none is seen later. Who shares a
        publisher is warmed together: what is published for the second would come to the first after its list was emptied.
        """

        def lists() -> list[Any]:
            return [subscriber.get_attr(name) for subscriber in subscribers]

        self.wait(lambda: (publisher.send(alias, "warm", topic), all(lists()))[1], "the first publication")
        publisher.send(alias, "mark", topic)
        self.wait(lambda: all("mark" in map(_plain, received) for received in lists()), "the mark")
        for subscriber in subscribers:
            subscriber.set_attr(**{name: []})

    # ------------------------------------------------------------ outside

    def output(self) -> str:
        """What this process and the agents printed since the scenario began."""
        with self._log.open("rb") as file:
            file.seek(self._log_start)
            return file.read().decode(errors="replace")

    @staticmethod
    def socket_files() -> int:
        """How many ipc socket files exist below the run-time directory."""
        top = Path(os.environ["XDG_RUNTIME_DIR"])
        return sum(path.is_socket() for path in top.rglob("*"))

    def close(self) -> list[str]:
        """Shut the name servers down that still answer; what went wrong, as text."""
        problems = []
        for ns in self._nameservers:
            try:
                ns.agents()
            except Exception:  # noqa: BLE001 - the scenario has shut it down
                continue
            try:
                ns.shutdown(timeout=6)
            except Exception as error:  # noqa: BLE001 - told to the runner
                problems.append(f"shutdown: {type(error).__name__}: {str(error)[:300]}")
        return problems


def _plain(item: Any) -> Any:
    """A publication without what a handler may have put beside it (agent name, topic)."""
    item = item[0] if isinstance(item, tuple | list) and item else item
    return bytes(item).decode(errors="replace") if isinstance(item, bytes | bytearray | memoryview) else item
