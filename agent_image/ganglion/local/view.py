"""What `ganglion up` shows: a live table on a terminal, lines anywhere else, JSON lines for programs."""

from __future__ import annotations

import asyncio
import json
import sys
import zlib
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TextIO

from ganglion.local import tables

if TYPE_CHECKING:
    from rich.live import Live

Snapshot = Mapping[str, Any]
PROGRESS_SECONDS = 5.0
"""Between two lines of progress when there is no terminal."""
REFRESH_SECONDS = 0.25
"""Of the live table."""
_COLOURS = ("cyan", "green", "yellow", "magenta", "blue", "bright_cyan", "bright_green", "bright_yellow", "bright_magenta", "bright_blue")


class LineView:
    """Lines of text or JSON; quiet: warnings and errors only.

    Args:
        out: where output of agents and progress go.
        err: where warnings and errors go.
    """

    def __init__(self, *, out: TextIO | None = None, err: TextIO | None = None, quiet: bool = False, as_json: bool = False) -> None:
        self._out = out if out is not None else sys.stdout
        self._err = err if err is not None else sys.stderr
        self._quiet = quiet
        self._json = as_json
        self._snapshot: Callable[[], Snapshot] | None = None
        self._last = ""
        self._next = 0.0
        self._broken = False

    def attach(self, snapshot: Callable[[], Snapshot]) -> None:
        """Where the counts come from; called in the loop, once the supervisor exists."""
        self._snapshot = snapshot
        self._next = asyncio.get_running_loop().time() + PROGRESS_SECONDS

    def line(self, replica: str, source: str, text: str) -> None:
        """A process printed a line."""
        if self._quiet:
            return
        if not self._json:
            self._write(self._out, f"{_label(replica, source)} | {text}")
        elif text.startswith("{") and text.endswith("}"):
            self._write(self._out, text)
        else:
            self._write(self._out, json.dumps({"time": _now(), "level": "INFO", "replica": replica, "source": source, "message": text}))

    def say(self, text: str, *, level: str = "info") -> None:
        """Something happened."""
        if self._quiet and level == "info":
            return
        if self._json:
            self._write(self._out, json.dumps({"time": _now(), "level": level.upper(), "source": "ganglion", "message": text}))
        else:
            self._write(
                self._out if level == "info" else self._err, f"ganglion: {text}" if level == "info" else f"ganglion: {level}: {text}"
            )

    def refresh(self) -> None:
        """Counts or states have changed."""
        if self._snapshot is None or self._quiet:
            return
        now = asyncio.get_running_loop().time()
        if now < self._next:
            return
        self._next = now + PROGRESS_SECONDS
        text = progress(self._snapshot())
        if text and text != self._last:
            self._last = text
            self.say(text)

    def close(self) -> None:
        """Nothing more will be shown."""

    def _write(self, stream: TextIO, text: str) -> None:
        if self._broken:
            return
        try:
            stream.write(text + "\n")
            stream.flush()
        except (BrokenPipeError, ValueError):
            # `ganglion up | head`: the reader has gone, the domain goes on.
            self._broken = True


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _label(replica: str, source: str) -> str:
    return replica if source == "agent" else f"{replica}/{source}"


def progress(snapshot: Snapshot) -> str:
    """One line: agents and traffic."""
    parts = []
    for item in tables.objects(snapshot, "Agent"):
        status, wanted = item.get("status", {}), item["spec"].get("replicas", 1)
        done = status.get("succeeded", 0)
        parts.append(
            f"{item['metadata']['name']} {done}/{wanted} done"
            if done
            else f"{item['metadata']['name']} {status.get('readyReplicas', 0)}/{wanted}"
        )
    traffic = []
    for item in tables.objects(snapshot, "Channel"):
        status = item.get("status", {})
        dead = f", {status['deadLettered']} given up" if status.get("deadLettered") else ""
        traffic.append(f"{item['metadata']['name']} {status.get('delivered', 0)} delivered, {status.get('inFlight', 0)} in flight{dead}")
    return " · ".join([", ".join(parts), *traffic])


class LiveView(LineView):
    """The live table, with the agents' output scrolling above it."""

    def __init__(self) -> None:
        super().__init__()
        from rich.console import Console

        self._console = Console()
        self._live: Live | None = None
        self._timer: asyncio.TimerHandle | None = None

    def attach(self, snapshot: Callable[[], Snapshot]) -> None:
        from rich.live import Live

        super().attach(snapshot)
        self._live = Live(console=self._console, auto_refresh=False, transient=True, redirect_stdout=False, redirect_stderr=False)
        self._live.start()
        self._tick()

    def _tick(self) -> None:
        """A timer of the supervisor's own loop: no second thread looks at its state."""
        if self._live is None or self._snapshot is None:
            return
        self._live.update(_render(self._snapshot()), refresh=True)
        self._timer = asyncio.get_running_loop().call_later(REFRESH_SECONDS, self._tick)

    def line(self, replica: str, source: str, text: str) -> None:
        from rich.text import Text

        colour = _COLOURS[zlib.crc32(replica.encode()) % len(_COLOURS)]
        self._console.print(Text.assemble((f"{_label(replica, source)} | ", colour), Text.from_ansi(text)), soft_wrap=True)

    def say(self, text: str, *, level: str = "info") -> None:
        from rich.text import Text

        style = {"warning": "yellow", "error": "bold red"}.get(level, "bold")
        self._console.print(Text(f"ganglion: {text}", style=style), soft_wrap=True)

    def refresh(self) -> None:
        """The timer shows it."""

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._live is not None:
            self._live.stop()
            self._live = None
            if self._snapshot is not None:
                # The agents have gone; what they moved stays of interest.
                self._console.print(_render(self._snapshot(), "channels"))


def _render(snapshot: Snapshot, *only: str) -> Any:
    """The tables as rich draws them.

    Args:
        only: titles of the tables to show; none: all.
    """
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    parts: list[Any] = []
    for title, table in (("agents", tables.agents(snapshot)), ("channels", tables.channels(snapshot))):
        if only and title not in only:
            continue
        shown = Table(box=None, pad_edge=False, title=None, header_style="dim")
        for column in table.columns:
            shown.add_column(column if column != "NAME" else title.upper(), no_wrap=True)
        for row in table.rows:
            colour = {"True": "green", "False": "yellow"}.get(row[1], "dim")
            shown.add_row(*(Text(cell, style=colour if index in (1, 2) else "") for index, cell in enumerate(row)))
        parts += [shown, Text("")]
    return Group(*parts[:-1])


def make_view(*, quiet: bool, log_format: str) -> LineView:
    """The view that fits the terminal and the options."""
    if not quiet and log_format == "text" and sys.stdout.isatty():
        return LiveView()
    return LineView(quiet=quiet, as_json=log_format == "json")
