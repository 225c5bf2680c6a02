"""Real agent processes around a real name server, without a supervisor: each test plays that part itself."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import textwrap
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from ganglion.wire.admin import DeclaredAgent, DeclaredChannel, Domain
from ganglion.wiring import ChannelWiring, WiringDocument
from tests.support.nameserver import NameServerProcess
from tests.support.wait import wait_for
from tests.support.wirings import wiring

_MEMBER = {"GANGLION_REPLICA_UID", "GANGLION_ADVERTISE_HOST", "GANGLION_TOKEN_FILE", "GANGLION_PORT_BASE"}
"""Variables that an agent behind a sidecar does not get."""


@dataclass
class AgentProcess:
    """One `ganglion agent` process."""

    replica: str
    process: subprocess.Popen[bytes]
    log: Path
    termination: Path

    @property
    def output(self) -> str:
        """stdout and stderr so far."""
        return self.log.read_text(encoding="utf-8", errors="replace")

    @property
    def lines(self) -> list[dict[str, Any]]:
        """JSON log lines so far."""
        return [json.loads(line) for line in self.output.splitlines() if line.startswith("{")]

    def says(self, text: str, *, timeout: float = 30.0, times: int = 1) -> None:
        """Wait until the output holds `text` so many times."""

        def condition() -> bool:
            return self.output.count(text) >= times or self.process.poll() is not None

        wait_for(condition, timeout=timeout, what=f"{self.replica} to say {text!r}")
        assert self.output.count(text) >= times, f"{self.replica} ended without saying {text!r}:\n{self.output}"

    def ends(self, code: int | None = 0, *, timeout: float = 40.0) -> int:
        """Wait for the process's end and compare its exit code."""
        found = self.process.wait(timeout)
        assert code is None or found == code, f"{self.replica}: exit code {found} instead of {code}:\n{self.output}"
        return found

    def signal(self, number: int = signal.SIGTERM) -> None:
        self.process.send_signal(number)

    def kill(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()


@dataclass
class World:
    """A name server, agents' code and the agents that were started."""

    directory: Path
    server: NameServerProcess
    code: Path
    agents: dict[str, DeclaredAgent] = field(default_factory=dict)
    channels: dict[str, DeclaredChannel] = field(default_factory=dict)
    processes: list[AgentProcess] = field(default_factory=list)
    sidecars: dict[str, AgentProcess] = field(default_factory=dict)
    _uids: dict[str, str] = field(default_factory=dict)

    def declare(self, name: str, *channels: ChannelWiring, target: str, replicas: int = 1, **agent: Any) -> WiringDocument:
        """Tell the name server about an agent, as its manifest would; returns its wiring."""
        document = wiring(*channels, name=name, endpoint=self.server.endpoint, target=target, **{"data_plane": "InProcess", **agent})
        server = msgspec.structs.replace(document.name_server, public_key=self.server.keys.public)
        document = msgspec.structs.replace(document, name_server=server)
        roles: dict[str, list[str]] = {}
        for channel in channels:
            roles.setdefault(channel.channel, []).append(channel.role)
            self.channels[channel.channel] = DeclaredChannel(name=channel.channel, pattern=channel.pattern, delivery=channel.delivery)
        self.agents[name] = DeclaredAgent(name=name, replicas=replicas, run=document.agent.run, roles=roles)
        self._tell()
        return document

    def _tell(self, *, deleting: bool = False, timeout: float = 20.0) -> None:
        domain = Domain(agents=dict(self.agents), channels=dict(self.channels), deleting=deleting, shutdown_timeout_seconds=timeout)
        self.server.admin.set_domain(domain)

    def start(self, document: WiringDocument, *, index: int = 0, pod: bool = False, **environment: str) -> AgentProcess:
        """Start one replica of a declared agent (again), with its sidecar where its data plane is there.

        Args:
            document: its wiring.
            index: of the replica.
            pod: with a sidecar in any case, as in a pod: it joins for an agent with its own data plane.
            environment: further variables.
        """
        replica = f"{document.agent.name}-{index}"
        variables = self._variables(document, replica, environment)
        in_process = document.agent.data_plane == "InProcess"
        if pod or not in_process:
            if replica not in self.sidecars:
                self.start_sidecar(document, index=index, **environment)
            hidden = {"GANGLION_TOKEN_FILE"} if in_process else _MEMBER
            variables = {name: value for name, value in variables.items() if name not in hidden}
        log = self.directory / f"{replica}.{len(self.processes)}.log"
        agent = self._spawn("ganglion.sdk.main", replica, variables, log)
        self.processes.append(agent)
        return agent

    def start_sidecar(self, document: WiringDocument, *, index: int = 0, **environment: str) -> AgentProcess:
        """Start the sidecar of one replica (again)."""
        replica = f"{document.agent.name}-{index}"
        variables = self._variables(document, replica, environment)
        log = self.directory / f"{replica}.sidecar.log"
        self.sidecars[replica] = self._spawn("ganglion.runtime.sidecar", replica, variables, log)
        return self.sidecars[replica]

    def _variables(self, document: WiringDocument, replica: str, environment: dict[str, str]) -> dict[str, str]:
        run = self.directory / replica
        run.mkdir(exist_ok=True)
        path = run / "wiring.json"
        path.write_text(document.to_json(), encoding="utf-8")
        return {
            **os.environ,
            "GANGLION_WIRING": str(path),
            "GANGLION_RUN_DIR": str(run),
            "GANGLION_REPLICA": replica,
            "GANGLION_REPLICA_UID": self._uids.setdefault(replica, str(uuid.uuid4())),
            "GANGLION_ADVERTISE_HOST": "127.0.0.1",
            "GANGLION_TOKEN_FILE": str(self.server.secret_file),
            "GANGLION_PORT_BASE": "0",
            "GANGLION_CODE_DIR": str(self.code),
            "GANGLION_TERMINATION_LOG": str(run / "termination"),
            "GANGLION_LOG_FORMAT": "json",
            "PYTHONWARNINGS": "error",
            "PYTHONDONTWRITEBYTECODE": "1",
            **environment,
        }

    def _spawn(self, module: str, replica: str, variables: dict[str, str], log: Path) -> AgentProcess:
        with log.open("wb") as output:
            process = subprocess.Popen([sys.executable, "-m", module], env=variables, stdout=output, stderr=subprocess.STDOUT)
        return AgentProcess(replica, process, log, Path(variables["GANGLION_TERMINATION_LOG"]))

    def shut_down(self, timeout: float = 20.0) -> None:
        """The NameServer is being deleted: the domain ends with the flow."""
        self._tell(deleting=True, timeout=timeout)


@contextlib.contextmanager
def world(code: str, **server_environment: str) -> Iterator[World]:
    """A name server and a module `agents` with this code; every process ends with the block.

    Args:
        server_environment: further variables of the name server.
    """
    with tempfile.TemporaryDirectory(prefix="gsdk") as path:
        directory = Path(path)
        folder = directory / "code"
        folder.mkdir()
        (folder / "agents.py").write_text(textwrap.dedent(code), encoding="utf-8")
        server = NameServerProcess(directory, extra=server_environment)
        here = World(directory, server, folder)
        try:
            server.start(Domain())
            yield here
        finally:
            for agent in (*here.processes, *here.sidecars.values()):
                agent.kill()
                # pytest shows it when the test failed.
                print(f"---- {agent.replica}: exit code {agent.process.returncode}\n{agent.output}")
            print(f"---- name server\n{server.log.read_text(encoding='utf-8')}")
            server.close()
