"""What the environment says about this process's surroundings; the variables are in docs/architecture.md."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from ganglion.runtime.errors import ConfigurationError
from ganglion.runtime.sockets import ipc_endpoint
from ganglion.wire.control import Incarnation

PORT_BASE = 7600
"""First data port in a cluster."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """Where an agent process runs.

    Attributes:
        wiring: path of the wiring document.
        run_dir: directory of the ipc sockets.
        replica: name of this replica.
        code_dir: put first on the module path; None: the image's own code.
        token_file: set when this process joins the name server by itself; None: its sidecar has joined.
        uid: identity of the replica; known only to who joins.
        host: address that is bound, and advertised when this process joins.
        port_base: first data port; 0: any free ones.
        health_port: of the probes and metrics of a sidecar; 0: none.
    """

    wiring: Path
    run_dir: Path
    replica: str
    code_dir: str | None
    token_file: Path | None
    uid: str
    host: str
    port_base: int
    health_port: int = 0

    @classmethod
    def read(cls, environment: Mapping[str, str]) -> Surroundings:
        """From environment variables.

        Raises:
            ConfigurationError: a variable is missing or not what it should be.
        """

        def need(name: str) -> str:
            value = environment.get(name, "")
            if not value:
                raise ConfigurationError(f"{name}: not set; a pod's template or `ganglion up` sets it")
            return value

        token = environment.get("GANGLION_TOKEN_FILE")
        base = environment.get("GANGLION_PORT_BASE", str(PORT_BASE))
        if not base.isdecimal() or int(base) > 65535:
            raise ConfigurationError(f"GANGLION_PORT_BASE: found {base!r}; must be 0 or a TCP port")
        health = environment.get("GANGLION_HEALTH_PORT", "0")
        if not health.isdecimal() or int(health) > 65535:
            raise ConfigurationError(f"GANGLION_HEALTH_PORT: found {health!r}; must be 0 or a TCP port")
        return cls(
            wiring=Path(need("GANGLION_WIRING")),
            run_dir=Path(need("GANGLION_RUN_DIR")),
            replica=need("GANGLION_REPLICA"),
            code_dir=environment.get("GANGLION_CODE_DIR") or None,
            token_file=Path(token) if token else None,
            uid=need("GANGLION_REPLICA_UID") if token else environment.get("GANGLION_REPLICA_UID", ""),
            host=need("GANGLION_ADVERTISE_HOST") if token else environment.get("GANGLION_ADVERTISE_HOST", "0.0.0.0"),  # noqa: S104 - pod network
            port_base=int(base),
            health_port=int(health),
        )


def check_legs(run_dir: Path, aliases: Iterable[str]) -> None:
    """See that every ipc socket of a replica can be made, before any is.

    Raises:
        ConfigurationError: a path would be too long.
    """
    for name in ("control", *aliases):
        try:
            ipc_endpoint(run_dir / f"{name}.sock")
        except ValueError as error:
            raise ConfigurationError(f"GANGLION_RUN_DIR: {error}") from error


def next_life(run_dir: Path, uid: str, now: float | None = None) -> Incarnation:
    """Count a start of the replica's runtime in `<run>/starts`.

    Args:
        run_dir: outlives the process, not the replica.
        uid: of the replica.
        now: Unix seconds; None: the clock.
    Raises:
        ConfigurationError: the directory cannot be written.
    """
    path = run_dir / "starts"
    try:
        text = path.read_text(encoding="ascii").strip() if path.exists() else "0"
        start = int(text) + 1 if text.isdecimal() else 1
        fresh = path.with_name("starts.new")
        fresh.write_text(f"{start}\n", encoding="ascii")
        # A half-written counter would let an older life pass for a newer one.
        fresh.replace(path)
    except (OSError, UnicodeError) as error:
        raise ConfigurationError(f"GANGLION_RUN_DIR: {path}: {error}") from error
    return Incarnation(uid, start, int(time.time() if now is None else now))
