"""A small real domain for tests: manifests, the `ganglion` processes that run them, and the proof that nothing stays."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ganglion.local import protocol
from tests.support.wait import wait_for

CODE = '''
import json
import os
from pathlib import Path

from ganglion import Agent


def ventilate(agent):
    """Sends `count` numbers, or with `until` until that file exists; how many is written to `sent`."""
    stop, number = agent.get_attr("until"), 0
    while not os.path.exists(stop) if stop else number < int(agent.get_attr("count")):
        agent.send("work", number)
        number += 1
    if stop:
        Path(agent.get_attr("sent")).write_text(str(number))


class Worker(Agent):
    def square(self, number):
        sum(range(int(self.get_attr("effort"))))
        self.send("results", [number, number * number])

    def on_exit(self):
        print(f"{self.name} on_exit", flush=True)


class Sink(Agent):
    def on_init(self):
        self.squares = {}
        self.duplicates = 0

    def merge(self, pair):
        number, square = pair
        self.duplicates += number in self.squares
        self.squares[number] = square

    def on_end(self, alias):
        body = json.dumps({"squares": self.squares, "duplicates": self.duplicates})
        part = Path(self.get_attr("report") + ".part")
        part.write_text(body)
        part.rename(self.get_attr("report"))
        self.shutdown()


class Source(Agent):
    """Sends for ever."""

    def on_init(self):
        self.sent = 0
        self.each(0.002, self.tick)

    def tick(self):
        self.send("work", self.sent)
        self.sent += 1


class Broken(Agent):
    def __init__(self, *args, **kwargs):
        raise ValueError("made to fail")


def fail(agent):
    raise SystemExit(3)
'''


def agent(name: str, target: str, channels: list[tuple[str, str, str | None]], **spec: Any) -> dict[str, Any]:
    """An Agent manifest; channels are (channel and alias, role, handler)."""
    entries = [
        {"alias": alias, "channelRef": {"name": alias}, "role": role, **({"handler": handler} if handler else {})}
        for alias, role, handler in channels
    ]
    body = {"nameServerRef": {"name": "shop"}, "class": target, "code": {"configMapRef": {"name": "code"}}, "channels": entries, **spec}
    return {"apiVersion": "ganglion.dev/v1alpha1", "kind": "Agent", "metadata": {"name": name}, "spec": body}


def channel(name: str, **spec: Any) -> dict[str, Any]:
    """A Channel manifest."""
    body = {"nameServerRef": {"name": "shop"}, "pattern": "PushPull", **spec}
    return {"apiVersion": "ganglion.dev/v1alpha1", "kind": "Channel", "metadata": {"name": name}, "spec": body}


def server(**spec: Any) -> dict[str, Any]:
    """The NameServer manifest."""
    return {
        "apiVersion": "ganglion.dev/v1alpha1",
        "kind": "NameServer",
        "metadata": {"name": "shop"},
        "spec": {"shutdown": {"timeoutSeconds": 20}, **spec},
    }


def pipeline(
    report: Path, *, count: int = 0, stop: Path | None = None, effort: int = 1000, workers: int = 2, plane: str = "Sidecar"
) -> list[dict[str, Any]]:
    """Ventilator → workers → sink; the sink writes every square to `report`. With `stop` the stream ends when that file exists."""
    source = {"count": count, "until": str(stop or ""), "sent": f"{stop}.sent"}
    return [
        server(),
        channel("work", highWaterMark=64),
        channel("results", bind="Pull"),
        agent("ventilator", "agents:ventilate", [("work", "Push", None)], run="Once", attributes=source, dataPlane=plane),
        agent(
            "worker",
            "agents:Worker",
            [("work", "Pull", "square"), ("results", "Push", None)],
            replicas=workers,
            attributes={"effort": effort},
            dataPlane=plane,
        ),
        agent("sink", "agents:Sink", [("results", "Pull", "merge")], run="Once", attributes={"report": str(report)}, dataPlane=plane),
    ]


def endless(*, workers: int = 2, plane: str = "Sidecar") -> list[dict[str, Any]]:
    """A source that never ends, workers, and nobody behind them."""
    return [
        server(),
        channel("work", highWaterMark=64),
        agent("source", "agents:Source", [("work", "Push", None)], dataPlane=plane),
        agent("worker", "agents:Drop", [("work", "Pull", "drop")], replicas=workers, dataPlane=plane),
    ]


ENDLESS_CODE = (
    CODE
    + """

class Drop(Agent):
    def drop(self, number):
        pass

    def on_exit(self):
        print(f"{self.name} on_exit", flush=True)
"""
)


def write(folder: Path, objects: list[dict[str, Any]], code: str = ENDLESS_CODE) -> Path:
    """Manifests, code and kustomization in `folder`, which is made."""
    folder.mkdir(exist_ok=True)
    (folder / "agents.py").write_text(code)
    (folder / "all.yaml").write_text("---\n".join(json.dumps(item, indent=1) + "\n" for item in objects))
    generator = {
        "name": "code",
        "files": ["agents.py"],
        "options": {"labels": {"ganglion.dev/code": "true"}, "disableNameSuffixHash": True},
    }
    (folder / "kustomization.yaml").write_text(json.dumps({"resources": ["all.yaml"], "configMapGenerator": [generator]}))
    return folder


class Desk:
    """One user's machine: a state directory of its own, and the commands.

    Args:
        home: the state directory.
        domain: name of the NameServer.
    """

    def __init__(self, home: Path, domain: str = "shop") -> None:
        self.home = home
        self.domain = domain
        self.env = {**os.environ, "XDG_STATE_HOME": str(home), "XDG_RUNTIME_DIR": "/tmp", "PYTHONWARNINGS": "error"}
        self._up: list[subprocess.Popen[str]] = []

    def command(self, *arguments: str, timeout: float = 60, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
        """Run `ganglion ...` to its end."""
        command = [sys.executable, "-m", "ganglion", *arguments]
        return subprocess.run(command, env=self.env, capture_output=True, text=True, timeout=timeout, input=stdin, check=False)

    def up(self, folder: Path, *arguments: str) -> subprocess.Popen[str]:
        """`ganglion up` in the foreground; its output goes to files."""
        number = len(self._up)
        with (self.home / f"up-{number}.out").open("w") as out, (self.home / f"up-{number}.err").open("w") as err:
            process = subprocess.Popen(
                [sys.executable, "-m", "ganglion", "up", "-f", str(folder), *arguments], env=self.env, stdout=out, stderr=err, text=True
            )
        self._up.append(process)
        return process

    def output(self, number: int = 0) -> str:
        """What an `up` printed, stderr after stdout."""
        return (self.home / f"up-{number}.out").read_text() + (self.home / f"up-{number}.err").read_text()

    @property
    def run(self) -> Path | None:
        """Run directory of the domain, once announced."""
        with contextlib.suppress(OSError, ValueError):
            return Path(json.loads((self.home / "ganglion" / self.domain / "supervisor.json").read_text())["run"])
        return None

    def snapshot(self) -> dict[str, Any] | None:
        """The supervisor's status; None while there is none."""
        run = self.run
        if run is None:
            return None
        with contextlib.suppress(protocol.CommandError):
            return protocol.call(run, "status")
        return None

    def replicas(self) -> dict[str, dict[str, Any]]:
        """Replica name → row."""
        snapshot = self.snapshot()
        return {row["name"]: row for row in snapshot["replicas"]} if snapshot is not None else {}

    def status(self, kind: str, name: str) -> Mapping[str, Any]:
        """Status of an object; empty while unknown."""
        snapshot = self.snapshot() or {"objects": []}
        found = [item for item in snapshot["objects"] if item["kind"] == kind and item["metadata"]["name"] == name]
        return dict(found[0].get("status", {})) if found else {}

    def ready(self, *names: str) -> bool:
        """Whether exactly these replicas run, all Ready."""
        rows = {name: row for name, row in self.replicas().items() if row["phase"] == "Running"}
        return set(rows) == set(names) and all(row["ready"] for row in rows.values())

    def processes(self) -> list[str]:
        """Command lines of all processes that carry this desk's environment."""
        marker = f"XDG_STATE_HOME={self.home}".encode()
        found = []
        for item in Path("/proc").iterdir():
            if item.name.isdigit() and int(item.name) != os.getpid():
                with contextlib.suppress(OSError):
                    if marker in (item / "environ").read_bytes().split(b"\0"):
                        found.append(f"{item.name} {(item / 'cmdline').read_bytes().replace(bytes(1), b' ').decode()}")
        return found

    def assert_nothing_left(self, run: Path | None) -> None:
        """No process, no socket, no key; only logs and empty lock files."""
        wait_for(lambda: not self.processes(), timeout=10, what="end of all processes")
        assert run is None or not run.exists()
        left = {item.name for item in (self.home / "ganglion" / self.domain).iterdir()}
        assert left <= {"logs", "lock", "gate"}

    def close(self) -> None:
        """End what a failed test left."""
        for process in self._up:
            if process.poll() is None:
                process.send_signal(signal.SIGKILL)
                process.wait(10)
        for line in self.processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(line.split()[0]), signal.SIGKILL)
        if self.run is not None:
            shutil.rmtree(self.run, ignore_errors=True)


@contextlib.contextmanager
def desk(home: Path, domain: str = "shop") -> Iterator[Desk]:
    """A desk whose processes end with the test."""
    home.mkdir(exist_ok=True)
    found = Desk(home, domain)
    try:
        yield found
    except BaseException:
        for path in sorted(home.rglob("*")):
            if path.suffix in (".log", ".out", ".err") and path.stat().st_size:
                print(f"--- {path.relative_to(home)}\n{path.read_text(errors='replace')[-4000:]}")
        raise
    finally:
        found.close()


def reported(path: Path) -> dict[str, Any]:
    """What a sink wrote."""
    body: dict[str, Any] = json.loads(path.read_text())
    return body


def squares(count: int) -> dict[str, int]:
    """What it must have written."""
    return {str(number): number * number for number in range(count)}
