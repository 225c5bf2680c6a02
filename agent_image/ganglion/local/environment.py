"""Environments of the processes: what architecture.md promises a runtime process, and what a manifest gives its agent."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ganglion.api import Agent
from ganglion.local.bundle import Bundle

HOST = "127.0.0.1"
"""Everything of a laptop's domain listens here and nowhere else."""


def _inherited() -> dict[str, str]:
    env = {key: value for key, value in os.environ.items() if not key.startswith("GANGLION_")}
    bin_folder = str(Path(sys.executable).parent)
    path = env.get("PATH", os.defpath)
    if path.split(os.pathsep, 1)[0] != bin_folder:
        env["PATH"] = bin_folder + os.pathsep + path
    return env


@dataclass(frozen=True, slots=True)
class Options:
    """What the user said on the command line that reaches the processes.

    Attributes:
        log_format: `text` or `json`.
        log_level: of the agents; the runtime's own processes stay at WARNING unless it is DEBUG.
        environment: the user's, without variables of ours; the running interpreter's folder first on PATH. Read once: it costs 0.2 ms.
    """

    log_format: str = "text"
    log_level: str = "INFO"
    environment: Mapping[str, str] = field(default_factory=_inherited, init=False)

    @property
    def runtime_level(self) -> str:
        """Level of sidecars and of the name server."""
        return "DEBUG" if self.log_level == "DEBUG" else "WARNING"


@dataclass(frozen=True, slots=True)
class Seat:
    """One replica's place on this machine.

    Attributes:
        agent, replica, uid: names and incarnation.
        run: directory of its ipc sockets.
        wiring, token: paths.
        code: directory put first on the module path; None: the installed packages only.
    """

    agent: Agent
    replica: str
    uid: str
    run: Path
    wiring: Path
    token: Path
    code: Path | None

    @property
    def termination_log(self) -> Path:
        """Where the agent process says why it ended."""
        return self.run / "termination"


def base(options: Options, level: str) -> dict[str, str]:
    """The user's environment, and how to log."""
    return {**options.environment, "GANGLION_LOG_FORMAT": options.log_format, "GANGLION_LOG_LEVEL": level}


def _member(seat: Seat) -> dict[str, str]:
    """What a process needs that joins the name server and opens data sockets."""
    return {
        "GANGLION_REPLICA_UID": seat.uid,
        "GANGLION_ADVERTISE_HOST": HOST,
        "GANGLION_TOKEN_FILE": str(seat.token),
        "GANGLION_PORT_BASE": "0",
    }


def _leg(seat: Seat) -> dict[str, str]:
    return {"GANGLION_WIRING": str(seat.wiring), "GANGLION_RUN_DIR": str(seat.run), "GANGLION_REPLICA": seat.replica}


def for_sidecar(seat: Seat, options: Options) -> dict[str, str]:
    """Environment of a sidecar."""
    return {**base(options, options.runtime_level), **_leg(seat), **_member(seat)}


def for_agent(seat: Seat, options: Options, bundle: Bundle) -> dict[str, str]:
    """Environment of an agent process or of a container agent's program; with `dataPlane: InProcess` it joins by itself."""
    env = {**base(options, options.log_level), **manifest_variables(seat, bundle), **_leg(seat)}
    env["GANGLION_TERMINATION_LOG"] = str(seat.termination_log)
    server = bundle.name_servers.get(seat.agent.spec.name_server_ref.name)
    if server is not None and server.spec.ad_hoc == "Allowed":
        # Without it programs are this user's own, with name servers of their own, as everywhere on a laptop.
        env["GANGLION_DOMAIN"] = f"{server.namespace}/{server.name}"
    if seat.code is not None:
        env["GANGLION_CODE_DIR"] = str(seat.code)
    if seat.agent.spec.data_plane == "InProcess":
        env |= _member(seat)
    return env


def manifest_variables(seat: Seat, bundle: Bundle) -> dict[str, str]:
    """`spec.envFrom` and `spec.env`, in the order of precedence that Kubernetes has; `$(NAME)` refers to earlier variables."""
    spec = seat.agent.spec
    found: dict[str, str] = {}
    for entry in spec.env_from or ():
        values: Mapping[str, str] = {}
        if entry.config_map_ref is not None and entry.config_map_ref.name in bundle.config_maps:
            files = bundle.config_maps[entry.config_map_ref.name].files
            values = {key: content.decode("utf-8", "replace") for key, content in files.items()}
        elif entry.secret_ref is not None:
            values = bundle.secrets.get(entry.secret_ref.name, {})
        found |= {f"{entry.prefix or ''}{key}": value for key, value in values.items()}
    fields = {
        "metadata.name": seat.replica,
        "metadata.namespace": seat.agent.namespace,
        "metadata.uid": seat.uid,
        "status.podIP": HOST,
        "status.hostIP": HOST,
    }
    for variable in spec.env or ():
        source = variable.value_from
        if source is None:
            found[variable.name] = expand(variable.value or "", found)
        elif source.field_ref is not None:
            found[variable.name] = fields.get(source.field_ref.field_path, "")
        elif source.config_map_key_ref is not None:
            ref = source.config_map_key_ref
            config_map = bundle.config_maps.get(ref.name)
            if config_map is not None and ref.key in config_map.files:
                found[variable.name] = config_map.files[ref.key].decode("utf-8", "replace")
        elif source.secret_key_ref is not None:
            key = source.secret_key_ref
            value = bundle.secrets.get(key.name, {}).get(key.key)
            if value is not None:
                found[variable.name] = value
    return found


def expand(text: str, values: Mapping[str, str]) -> str:
    """Kubernetes' `$(NAME)`; `$$` is a dollar sign, unknown names stay as they are."""
    out: list[str] = []
    position = 0
    while (found := text.find("$", position)) >= 0:
        out.append(text[position:found])
        if text.startswith("$$", found):
            out.append("$")
            position = found + 2
        elif text.startswith("$(", found) and (end := text.find(")", found)) > 0:
            name = text[found + 2 : end]
            out.append(values.get(name, text[found : end + 1]))
            position = end + 1
        else:
            out.append("$")
            position = found + 1
    return "".join([*out, text[position:]])
